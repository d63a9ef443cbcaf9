"""Main-effects and interaction plots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cnnbench.analysis.effects import Effect, Effects, Interaction
from cnnbench.analysis.metric_names import scale, title, unit
from cnnbench.analysis.report.figures.style import BLUE, COLOURS, DASHES, INK, MARKERS, MOST_LINES, panel, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 14  # characters of a level on an axis


def limits(effects: Effects) -> tuple[float, float] | None:
    """One vertical range for all main effects, so that their slopes compare."""
    values = [m for effect in effects.mains for m in effect.means.values() if m is not None]
    if not values:
        return None
    by = scale(effects.metric)
    low, high = by * min(values), by * max(values)
    room = 0.15 * (high - low) or 0.5
    return low - room, high + room


def main_effect(effect: Effect, effects: Effects) -> Figure | None:
    """A factor's adjusted means by level, on the range that all factors share."""
    by = scale(effects.metric)
    points = [(level, by * m) for level, m in effect.means.items() if m is not None]
    if len(points) < 2:
        return None
    with style():
        name = effects.names[effect.factor]
        figure, axes = panel((2.9, 2.5), title=name, y=f"{title(effects.metric)}{unit(effects.metric)}")
        axes.plot(range(len(points)), [value for _, value in points], "o-", color=BLUE, markersize=6)
        _levels(axes, [level for level, _ in points])
        average = sum(value for _, value in points) / len(points)
        axes.axhline(average, color=INK, alpha=0.4, linewidth=0.8, linestyle=":")
        if (both := limits(effects)) is not None:
            axes.set_ylim(*both)
    return figure


def interaction(found: Interaction, effects: Effects) -> Figure | None:
    """Cell means: a line a level of the one factor over the levels of the other; parallel lines are no interaction."""
    by = scale(effects.metric)
    across, lines = effects.levels[found.factor], effects.levels[found.other]
    shown = lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], lines[-1]]
    with style():
        name, other = effects.names[found.factor], effects.names[found.other]
        figure, axes = panel((3.9, 2.8), title=f"{name} by {other}", x=name,
                             y=f"{title(effects.metric)}{unit(effects.metric)}")  # fmt: skip
        for place, level in enumerate(shown):
            values = [by * found.cells.get((at, level), math.nan) for at in across]
            axes.plot(range(len(across)), values, marker=MARKERS[place], color=COLOURS[place], linestyle=DASHES[place],
                      markersize=5.5, label=plain(f"{other}={level}", 26))  # fmt: skip
        _levels(axes, list(across))
        means = [by * m for other in effects.interactions for m in other.cells.values()]
        room = 0.1 * (max(means) - min(means)) or 0.5
        axes.set_ylim(min(means) - room, max(means) + room)  # the same in all, so that slopes compare
        columns = 2 if max(len(f"{other}={level}") for level in shown) < 22 else 1
        figure.legend(frameon=False, fontsize=7.5, loc="outside lower left", handlelength=2.6, ncols=columns)
    return figure


def _levels(axes: Axes, levels: list[str]) -> None:
    """Ticks at the levels, with room on either side; slanted where they would touch."""
    crowded = sum(min(len(level), LONGEST) for level in levels) > 26
    axes.set_xticks(range(len(levels)), [plain(level, LONGEST) for level in levels], rotation=30 if crowded else 0,
                    ha="right" if crowded else "center")  # fmt: skip
    axes.set_xlim(-0.35, len(levels) - 0.65)
    axes.grid(visible=False, axis="x")
