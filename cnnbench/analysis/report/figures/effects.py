"""Main-effects and interaction plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnbench.analysis.effects import Effect, Effects, Interaction
from cnnbench.analysis.metric_names import scale, title, unit
from cnnbench.analysis.report.figures.style import BLUE, COLOURS, DASHES, INK, MARKERS, MOST_LINES, panel, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 14  # characters of a level on an axis


def main_effect(effect: Effect, effects: Effects) -> Figure | None:
    """A factor's adjusted means by level, on the range that all factors share."""
    by = scale(effects.metric)
    points = {level: by * mean for level, mean in effect.means.items() if mean is not None}
    if len(points) < 2:
        return None
    with style():
        figure, axes = panel(
            (2.9, 2.5), effects.short[effect.factor], y=f"{title(effects.metric)}{unit(effects.metric)}"
        )
        axes.plot(range(len(points)), list(points.values()), "o-", color=BLUE, markersize=6)
        axes.axhline(sum(points.values()) / len(points), color=INK, alpha=0.4, linewidth=0.8, linestyle=":")
        means = [by * mean for other in effects.mains for mean in other.means.values() if mean is not None]
        _set_axes(axes, list(points), means, 0.15)
    return figure


def interaction(found: Interaction, effects: Effects) -> Figure:
    """Cell means: a line a level of the one factor over the levels of the other; parallel lines are no interaction."""
    by = scale(effects.metric)
    across, lines = effects.levels[found.factor], effects.levels[found.other]
    shown = lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], lines[-1]]
    name, other = effects.short[found.factor], effects.short[found.other]
    with style():
        figure, axes = panel((3.9, 2.8), f"{name} by {other}", name, f"{title(effects.metric)}{unit(effects.metric)}")
        for level, marker, colour, dash in zip(shown, MARKERS, COLOURS, DASHES, strict=False):
            values = [by * found.cells.get((at, level), math.nan) for at in across]
            axes.plot(range(len(across)), values, marker=marker, color=colour, linestyle=dash, markersize=5.5,
                      label=plain(f"{other}={level}", 26))  # fmt: skip
        means = [by * mean for pair in effects.interactions for mean in pair.cells.values()]
        _set_axes(axes, across, means, 0.1)
        columns = 2 if max(len(f"{other}={level}") for level in shown) < 22 else 1
        figure.legend(frameon=False, fontsize=7.5, loc="outside lower left", handlelength=2.6, ncols=columns)
    return figure


def _set_axes(axes: Axes, levels: Sequence[str], means: Sequence[float], margin: float) -> None:
    """Ticks at the levels, slanted where they would touch; the range of all ``means``, so that slopes compare."""
    crowded = sum(min(len(level), LONGEST) for level in levels) > 26
    axes.set_xticks(range(len(levels)), [plain(level, LONGEST) for level in levels], rotation=30 if crowded else 0,
                    ha="right" if crowded else "center")  # fmt: skip
    axes.set_xlim(-0.35, len(levels) - 0.65)
    axes.grid(visible=False, axis="x")
    room = margin * (max(means) - min(means)) or 0.5
    axes.set_ylim(min(means) - room, max(means) + room)
