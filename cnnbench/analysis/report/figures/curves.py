"""Loss, accuracy and recall over the epochs: mean over seeds, with a band of one standard deviation on either side."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import higher_is_better, is_share, label, scale, title
from cnnbench.analysis.report.figures.style import BLUE, DASHES, INK, LINES, ORANGE, STYLE, panel, whole_epochs
from cnnbench.analysis.statistics import finite_mean, finite_values
from cnnbench.analysis.wording import sentences

LEAVES = ("loss", "accuracy", "recall")
LONG = 10  # epochs from which on the steep beginning may leave the axes
LOG_RATIO = 5  # losses so far apart are drawn on a logarithmic axis


class Curve(NamedTuple):
    """A metric over the epochs, counted from 1; ``spread`` is 0 where only one seed has a value."""

    epochs: list[int]
    centre: list[float]
    spread: list[float]

    def best(self, metric: str) -> tuple[int, float]:
        """The epoch at which the mean was best, the first of equals, and the mean there."""
        value = (max if higher_is_better(metric) else min)(self.centre)
        return self.epochs[self.centre.index(value)], value


def curve(configuration: Configuration, metric: str) -> Curve | None:
    """Mean and deviation over seeds, epoch by epoch, of those runs that got so far; None where there is no history."""
    by_epoch = zip_longest(*(run.series(metric) for run in configuration.runs))
    known = {epoch: values for epoch, column in enumerate(by_epoch, start=1) if (values := finite_values(column))}
    spread = [stdev(values) if len(values) > 1 else 0.0 for values in known.values()]
    return Curve(list(known), [mean(values) for values in known.values()], spread) if known else None


def band(line: Curve, metric: str) -> tuple[NDArray, NDArray]:
    """One standard deviation below and above the curve, scaled; of a share cut at 0 and 100 %."""
    centre, spread = np.array(line.centre), np.array(line.spread)
    least, most = (0, 1) if is_share(metric) else (-np.inf, np.inf)
    return scale(metric) * (centre - spread).clip(min=least), scale(metric) * (centre + spread).clip(max=most)


def _draw(axes: Axes, line: Curve, metric: str, colour: str, dash: Any = "-", best: bool = True) -> None:
    centre = scale(metric) * np.array(line.centre)
    axes.fill_between(line.epochs, *band(line, metric), color=colour, alpha=0.16, linewidth=0)
    axes.plot(line.epochs, centre, color=colour, linestyle=dash, marker="o" * (len(centre) == 1), markersize=4)
    if best:
        epoch, value = line.best(metric)
        axes.plot(epoch, scale(metric) * value, "o", color=colour, markersize=5.5, zorder=4)


def _finish(axes: Axes, metric: str, lines: Sequence[Curve]) -> None:
    """Let the vertical range be that of the epochs after the first third, where configurations part, if it is long."""
    whole_epochs(axes)
    late = [edge[len(edge) // 3 :] for line in lines if len(line.epochs) >= LONG for edge in band(line, metric)]
    if late:
        low, high = np.concatenate(late).min(), np.concatenate(late).max()
        margin = 0.08 * (high - low) or 0.01
        axes.set_ylim(max(low - margin, 0), min(high + margin, 100.5) if is_share(metric) else high + margin)


@rc_context(STYLE)
def against_each_other(configurations: Sequence[Configuration], leaf: str) -> Figure | None:
    """Validation curves of several configurations, each with a dot at its best epoch."""
    metric = f"val/{leaf}"
    lines = [curve(configuration, metric) for configuration in configurations]
    figure, axes = panel(title=label(metric), x="epoch")
    for line, (colour, dash, _) in zip(lines, LINES, strict=False):
        if line is not None:
            _draw(axes, line, metric, colour, dash)
    _finish(axes, metric, [line for line in lines if line is not None])
    return figure if any(lines) else None


@rc_context(STYLE)
def train_and_validation(configuration: Configuration, leaf: str) -> Figure | None:
    """Both curves of one configuration; shaded where the two part after validation stopped improving."""
    metric = f"val/{leaf}"
    train, val = curve(configuration, f"train/{leaf}"), curve(configuration, metric)
    if train is None and val is None:
        return None
    figure, axes = panel((4.3, 2.5), title=label(leaf), x="epoch")
    if train is not None:
        _draw(axes, train, metric, ORANGE, DASHES[1], best=False)
    if val is not None:
        _draw(axes, val, metric, BLUE)
        best, _ = val.best(metric)
        axes.axvline(best, color=INK, alpha=0.45, linewidth=0.9, linestyle=":")
    if train is not None and val is not None and train.epochs == val.epochs:
        low, high = (scale(metric) * np.array(line.centre) for line in (train, val))
        after = [epoch >= best for epoch in val.epochs]
        axes.fill_between(val.epochs, low, high, where=after, color=ORANGE, alpha=0.13, linewidth=0)
    _finish(axes, metric, [line for line in (train, val) if line is not None])
    return figure


def fit_text(configuration: Configuration) -> str:
    """Where validation loss was lowest, and how far train and validation are apart at each run's last epoch, in words."""
    metrics = ("val/loss", "train/accuracy", "val/accuracy")
    chosen = configuration.runs[0].settings if configuration.runs else {}
    mixed = bool(chosen.get("augment.mixup") or chosen.get("augment.cutmix"))
    found = {metric: curve(configuration, metric) for metric in metrics}
    ends = [[of[-1] for of in map(finite_values, map(run.series, metrics)) if of] for run in configuration.runs]
    gap = finite_mean(of[1] - of[2] for of in ends if len(of) == len(metrics))  # each run's own, as it may end early
    lengths = sorted({len(of) for run in configuration.runs if (of := run.series("val/loss"))})
    return " ".join(sentences("fit", found["val/loss"], gap, lengths, mixed))


def over_epochs(rows: Mapping[str, Configuration], metrics: Sequence[str]) -> Figure | None:
    """A panel a metric, a line a row: mean over seeds with a band of one standard deviation."""
    found = [{name: line for name, row in rows.items() if (line := curve(row, metric))} for metric in metrics]
    if not any(found):
        return None
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(metrics))
    for metric, lines, axes in zip(metrics, found, panels, strict=True):
        for (colour, dash, _), (name, line) in zip(LINES, lines.items(), strict=False):
            centre = [scale(metric) * value for value in line.centre]
            axes.fill_between(line.epochs, *band(line, metric), color=colour, alpha=0.18, linewidth=0)
            axes.plot(line.epochs, centre, color=colour, linestyle=dash, label=name, marker="." * (len(centre) < 4))
        axes.set(title=title(metric), xlabel="epoch", ylabel="%" if is_share(metric) else "")
        values = [value for line in lines.values() for value in line.centre]
        if not is_share(metric) and values and 0 < LOG_RATIO * min(values) < max(values):
            axes.set_yscale("log")  # so that the band of a small loss is seen beside a large one
            axes.yaxis.set_major_locator(LogLocator(subs=(1,) if max(values) > 1000 * min(values) else (1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        whole_epochs(axes)
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    # one legend for both, where no curve can cross it
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False, handlelength=3)
    return figure
