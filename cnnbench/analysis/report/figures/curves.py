"""Loss, accuracy and recall over the epochs: mean over seeds, with a band of one standard deviation on either side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import higher_is_better, is_share, scale, title, unit
from cnnbench.analysis.report.figures.style import BLUE, COLOURS, DASHES, INK, ORANGE, panel, style, whole_epochs
from cnnbench.analysis.statistics import finite_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAVES = ("loss", "accuracy", "recall")
LONG = 10  # epochs from which on the steep beginning may leave the axes


@dataclass(frozen=True)
class Curve:
    """A metric over the epochs, counted from 1; ``spread`` is 0 where only one seed has a value."""

    epochs: list[int]
    centre: list[float]
    spread: list[float]

    def best(self, metric: str) -> tuple[int, float]:
        """The epoch at which the mean was best, the first of equals, and the mean there."""
        choose = max if higher_is_better(metric) else min
        place = choose(range(len(self.centre)), key=lambda i: self.centre[i])
        return self.epochs[place], self.centre[place]


def curve(configuration: Configuration, metric: str) -> Curve | None:
    """Mean and deviation over seeds, epoch by epoch, of those runs that got so far; None where there is no history."""
    series = [run.series(metric) for run in configuration.runs]
    found = Curve([], [], [])
    for place in range(max(map(len, series), default=0)):
        values = finite_values([one[place] for one in series if place < len(one)])
        if values:
            found.epochs.append(place + 1)
            found.centre.append(mean(values))
            found.spread.append(stdev(values) if len(values) > 1 else 0.0)
    return found if found.epochs else None


def band(line: Curve, metric: str) -> tuple[list[float], list[float]]:
    """One standard deviation below and above the curve, scaled; of a share cut at 0 and 100 %."""
    low = [value - spread for value, spread in zip(line.centre, line.spread, strict=True)]
    high = [value + spread for value, spread in zip(line.centre, line.spread, strict=True)]
    if is_share(metric):
        low, high = [max(value, 0.0) for value in low], [min(value, 1.0) for value in high]
    by = scale(metric)
    return [by * value for value in low], [by * value for value in high]


def _draw(axes: Axes, line: Curve, metric: str, colour: str, dash: Any = "-", label: str = "") -> None:
    by = scale(metric)
    centre = [by * value for value in line.centre]
    axes.fill_between(line.epochs, *band(line, metric), color=colour, alpha=0.16, linewidth=0)
    marker = "o" if len(line.epochs) == 1 else ""
    axes.plot(line.epochs, centre, color=colour, linestyle=dash, marker=marker, markersize=4, label=label)


def _settle(axes: Axes, metric: str, lines: Sequence[Curve | None]) -> None:
    """Let the vertical range be that of the epochs after the first third, where configurations part, if it is long."""
    late = [
        scale(metric) * (value + side * spread)
        for line in lines
        if line is not None and len(line.epochs) >= LONG
        for place, (value, spread) in enumerate(zip(line.centre, line.spread, strict=True))
        for side in (-1, 1)
        if place >= len(line.epochs) // 3
    ]
    if late:
        room = 0.08 * (max(late) - min(late)) or 0.01
        most = 100.5 if is_share(metric) else math.inf
        axes.set_ylim(max(min(late) - room, 0.0), min(max(late) + room, most))


def against_each_other(configurations: Sequence[Configuration], leaf: str) -> Figure | None:
    """Validation curves of several configurations, each with a dot at its best epoch."""
    metric = f"val/{leaf}"
    with style():
        figure, axes = panel(title=f"{title(metric)}{unit(metric)}", x="epoch")
        drawn = False
        for place, configuration in enumerate(configurations[: len(COLOURS)]):
            line = curve(configuration, metric)
            if line is not None:
                _draw(axes, line, metric, COLOURS[place], DASHES[place])
                epoch, value = line.best(metric)
                axes.plot(epoch, scale(metric) * value, "o", color=COLOURS[place], markersize=5.5, zorder=4)
                drawn = True
        whole_epochs(axes)
        _settle(axes, metric, [curve(configuration, metric) for configuration in configurations])
    return figure if drawn else None


def train_and_validation(configuration: Configuration, leaf: str) -> Figure | None:
    """Both curves of one configuration; shaded where the two part after validation stopped improving."""
    train, val = curve(configuration, f"train/{leaf}"), curve(configuration, f"val/{leaf}")
    if train is None and val is None:
        return None
    metric = f"val/{leaf}"
    with style():
        figure, axes = panel((4.3, 2.5), title=f"{leaf}{unit(metric)}", x="epoch")
        if train is not None:
            _draw(axes, train, metric, ORANGE, DASHES[1], "train")
        if val is not None:
            _draw(axes, val, metric, BLUE, label="validation")
            epoch, value = val.best(metric)
            axes.plot(epoch, scale(metric) * value, "o", color=BLUE, markersize=6, zorder=4)
            axes.axvline(epoch, color=INK, alpha=0.45, linewidth=0.9, linestyle=":")
            if train is not None and epoch < val.epochs[-1]:
                _shade(axes, train, val, epoch, scale(metric))
        whole_epochs(axes)
        _settle(axes, metric, [train, val])
    return figure


def _shade(axes: Axes, train: Curve, val: Curve, after: int, by: float) -> None:
    """Between train and validation from the epoch ``after`` on."""
    seen = dict(zip(train.epochs, train.centre, strict=True))
    both = [(e, by * seen[e], by * v) for e, v in zip(val.epochs, val.centre, strict=True) if e >= after and e in seen]
    if len(both) > 1:
        epochs, low, high = zip(*both, strict=True)
        axes.fill_between(epochs, low, high, color=ORANGE, alpha=0.13, linewidth=0)


@dataclass(frozen=True)
class Fit:
    """Where validation loss was lowest, and how far train and validation are apart at the last epoch.

    Attributes:
        rise: of validation loss from its lowest mean to its last, relative to the lowest.
        gap: train accuracy minus validation accuracy at the last epoch.
    """

    epoch: int
    of: int
    rise: float | None
    gap: float | None

    @property
    def told(self) -> str:
        """In words."""
        if self.epoch == self.of:
            where = f"validation loss was still falling at the last epoch ({self.of})"
        else:
            where = f"validation loss was lowest at epoch {self.epoch} of {self.of}"
            if self.rise is not None:
                where += f" and {self.rise:.0%} higher at the end"
        if self.gap is not None:
            where += f"; train accuracy ends {100 * self.gap:+.1f} points from validation accuracy"
        return where


def fit(configuration: Configuration) -> Fit | None:
    """How well a configuration's length of training fits; None without a history of validation loss."""
    loss = curve(configuration, "val/loss")
    if loss is None:
        return None
    epoch, lowest = loss.best("val/loss")
    train, val = curve(configuration, "train/accuracy"), curve(configuration, "val/accuracy")
    gap = train.centre[-1] - val.centre[-1] if train and val else None
    return Fit(epoch, loss.epochs[-1], loss.centre[-1] / lowest - 1 if lowest > 0 else None, gap)
