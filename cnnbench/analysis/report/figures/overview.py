"""All configurations at a glance: the leaderboard with its intervals, and cost against quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow
from cnnbench.analysis.metric_names import COSTS, compact, higher_is_better, is_share, scale, title, unit
from cnnbench.analysis.report.figures.style import BLUE, INK, ORANGE, panel, plain, style
from cnnbench.analysis.statistics import Summary, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 24
MOST_NAMED = 6  # points of a Pareto front that carry their place


def leaderboard(board: Leaderboard, metric: str) -> Figure | None:
    """Mean, interval and every seed of the first rows: the objective above, the test metric below.

    Args:
        metric: shown beside the objective, unless it is the objective.
    """
    rows = [row for row in board.rows[:MOST_ROWS] if row.objective.mean is not None]
    if not rows:
        return None
    second = metric if metric != board.objective and metric not in COSTS else None
    with style():
        name = title(board.objective) + (f" and {title(second)}" if second else "") + unit(board.objective)
        figure, axes = panel((5.4, 0.4 * len(rows) + 0.8), x=name)
        for place, row in enumerate(rows):
            axes.text(0.0, place - 0.29, plain(f"{row.place}  {row.configuration.short}", 88), va="center", fontsize=7,
                      transform=axes.get_yaxis_transform())  # fmt: skip
            _dots(axes, row, board.objective, row.objective, place + 0.02, BLUE, "o")
            if second is not None:
                _dots(axes, row, second, row.value(second), place + 0.24, ORANGE, "D")
        axes.set_ylim(len(rows) - 0.5, -0.65)
        if is_share(board.objective):  # with few seeds an interval may reach beyond what a share can be
            low, high = axes.get_xlim()
            axes.set_xlim(max(low, 0), min(high, 100.2))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    return figure


def _dots(axes: Axes, row: LeaderboardRow, metric: str, summary: Summary, y: float, colour: str, marker: str) -> None:
    by = scale(metric)
    seeds = [by * value for value in (run.value(metric) for run in row.configuration.runs) if value is not None]
    axes.plot(seeds, [y] * len(seeds), ".", color=colour, alpha=0.45, markersize=4)
    if summary.mean is None:
        return
    if summary.low is not None and summary.high is not None:
        axes.plot([by * summary.low, by * summary.high], [y, y], color=colour, linewidth=1.4)
    axes.plot(by * summary.mean, y, marker, color=colour, markersize=5.5)


def cost(board: Leaderboard, name: str, metric: str) -> Figure | None:
    """Quality against one cost, the Pareto front joined and its points numbered by their place.

    Returns:
        None where fewer than two costs are known, or all are the same.
    """
    by = scale(metric)
    costs, summaries = [row.cost(name) for row in board.rows], [row.value(metric) for row in board.rows]
    known = [
        (c, by * s.mean, by * (s.std or 0)) for c, s in zip(costs, summaries, strict=True) if c and s.mean is not None
    ]
    if len({c for c, _, _ in known}) < 2:
        return None
    front = pareto_front([(c, s.mean) for c, s in zip(costs, summaries, strict=True)], higher_is_better(metric))
    best = [(costs[place], by * (summaries[place].mean or 0)) for place in front]
    with style():
        figure, axes = panel(title=COSTS[name], x=COSTS[name], y=f"{title(metric)}{unit(metric)}")
        xs, ys, spreads = zip(*known, strict=True)
        if max(xs) > 3 * min(xs):
            _logarithmic(axes)
        axes.errorbar(xs, ys, spreads, fmt="none", ecolor=BLUE, alpha=0.35, elinewidth=1)
        axes.plot(xs, ys, "o", color=BLUE, alpha=0.75, markersize=5)
        axes.plot(*zip(*best, strict=True), color=ORANGE, linewidth=1.4, drawstyle="steps-post", marker="o",
                  markerfacecolor="none", markersize=9, markeredgewidth=1.6, zorder=1)  # fmt: skip
        for place, point in list(zip(front, best, strict=True))[-MOST_NAMED:]:
            axes.annotate(
                f"{board.rows[place].place}", point, (5, 6), textcoords="offset points", fontsize=8, color=INK
            )
    return figure


def _logarithmic(axes: Axes) -> None:
    """A logarithmic horizontal axis with plain numbers at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
