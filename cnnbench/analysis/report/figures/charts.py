"""The leaderboard, cost against quality, effects of factors and results of a search, each as a figure."""

import math
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cnnbench.analysis.data_sets import MOST_SETTINGS, AcrossDataSets, cliques, critical_difference
from cnnbench.analysis.effects import Effect, Effects, Interaction
from cnnbench.analysis.images import Calibration
from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow
from cnnbench.analysis.metric_names import COSTS, compact, higher_is_better, is_share, label, scale, title
from cnnbench.analysis.report.figures.style import BLUE, INK, LINES, ORANGE, STYLE, panel, plain, whole_epochs
from cnnbench.analysis.search import SearchResult
from cnnbench.analysis.statistics import ALPHA, to_number

MOST_ROWS = 24  # of the leaderboard
MOST_NAMED = 6  # points of a Pareto front that carry their rank
LONGEST = 14  # characters of a level on an axis
MOST_PARAMETERS = 12  # of a search


@rc_context(STYLE)
def leaderboard(board: Leaderboard, metric: str) -> Figure | None:
    """Mean, interval and every seed of the first rows: the objective above, below it ``metric`` if it is another."""
    if not (rows := [row for row in board.rows[:MOST_ROWS] if row.objective.mean is not None]):
        return None
    metrics = [board.objective, *([metric] if metric != board.objective and metric not in COSTS else [])]
    figure, axes = panel((5.4, 0.4 * len(rows) + 0.8), x=" and ".join([*map(title, metrics[:-1]), label(metrics[-1])]))
    for at, row in enumerate(rows):
        axes.text(0.0, at - 0.29, plain(f"{row.rank}  {row.configuration.short}", 88), va="center", fontsize=7,
                  transform=axes.get_yaxis_transform())  # fmt: skip
        for shown, y, colour, marker in zip(metrics, (at + 0.02, at + 0.24), (BLUE, ORANGE), "oD", strict=False):
            summary, by = row.value(shown), scale(shown)
            seeds = [by * value for run in row.configuration.runs if (value := run.value(shown)) is not None]
            axes.plot(seeds, [y] * len(seeds), ".", color=colour, alpha=0.45, markersize=4)
            if summary.low is not None and summary.high is not None:
                axes.plot([by * summary.low, by * summary.high], [y, y], color=colour, linewidth=1.4)
            if summary.mean is not None:
                axes.plot(by * summary.mean, y, marker, color=colour, markersize=5.5)
    axes.set_ylim(len(rows) - 0.5, -0.65)
    if is_share(board.objective):  # with few seeds an interval may reach beyond what a share can be
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, 0), min(high, 100.2))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return figure


@rc_context(STYLE)
def cost(board: Leaderboard, name: str, metric: str, heading: str) -> tuple[Figure, list[LeaderboardRow]] | None:
    """Quality against one cost, and the rows of the Pareto front, which is joined; None where all costs are the same."""
    by = scale(metric)
    points = [(row.cost(name), row.value(metric)) for row in board.rows]
    known = [(c, by * s.mean, by * (s.std or 0)) for c, s in points if c and s.mean is not None]
    if len({c for c, _, _ in known}) < 2:
        return None
    front = pareto_front([(c, s.mean) for c, s in points], higher_is_better(metric))
    best = [(points[i][0], by * (points[i][1].mean or 0)) for i in front]
    rows = [board.rows[i] for i in front]
    figure, axes = panel(title=heading, x=COSTS[name], y=label(metric))
    xs, ys, spreads = zip(*known, strict=True)
    if max(xs) > 3 * min(xs):  # plain numbers at 1, 2 and 5 times the powers of ten
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.errorbar(xs, ys, spreads, fmt="none", ecolor=BLUE, alpha=0.35, elinewidth=1)
    axes.plot(xs, ys, "o", color=BLUE, alpha=0.75, markersize=5)
    axes.plot(*zip(*best, strict=True), color=ORANGE, linewidth=1.4, drawstyle="steps-post", marker="o",
              markerfacecolor="none", markersize=9, markeredgewidth=1.6, zorder=1)  # fmt: skip
    for row, point in list(zip(rows, best, strict=True))[-MOST_NAMED:]:
        axes.annotate(str(row.rank), point, (5, 6), textcoords="offset points", fontsize=8, color=INK)
    return figure, rows


@rc_context(STYLE)
def reliability(of: Calibration, name: str) -> Figure:
    """Accuracy against confidence, bin by bin, with the interval from a bin's images and the share of images in it."""
    figure, axes = panel((3.3, 3.0), "", "confidence, %", "accuracy, %")
    axes.set_title(plain(name, 44), fontsize=7)
    images, x, y = of.bins.T * [[1], [100], [100]]
    limits = [[100 * limit for limit in of.interval(count, accuracy)] for count, _, accuracy in of.bins]
    axes.bar(x, 100 * images / images.sum(), width=4, color=INK, alpha=0.18, label="share of images")
    axes.plot([0, 100], [0, 100], color=INK, alpha=0.5, linewidth=0.8, linestyle=":", label="calibrated")
    axes.vlines(x, *zip(*limits, strict=True), color=BLUE, alpha=0.5, linewidth=1.2)
    axes.plot(x, y, "o-", color=BLUE, markersize=4)
    axes.set(xlim=(0, 101), ylim=(0, 101))
    figure.legend(frameon=False, fontsize=7.5, loc="outside lower left", ncols=3, columnspacing=1)
    return figure


@rc_context(STYLE)
def ranks(across: AcrossDataSets) -> Figure | None:
    """Critical-difference diagram (Demšar 2006): mean ranks on a line, the best on the left, and a bar over those that are
    not told apart; None of two settings or too many."""
    if not 2 < (count := len(across.settings)) <= MOST_SETTINGS:
        return None
    width, left = critical_difference(count, len(across.data_sets)), (count + 1) // 2  # of these the names on the left
    alike = across.friedman and across.friedman.p >= ALPHA
    bars = [(0, count - 1)] if alike else cliques(across.ranks, width)
    depth, pad = 0.8 + 0.3 * len(bars), 0.02 * (count - 1)  # of the first name, in rows; beside the line, in ranks
    figure, axes = panel((7.2, 0.24 * (left + depth) + 0.6))
    axes.set(xlim=(1 - 45 * pad, count + 45 * pad), ylim=(left + depth, -2.4))
    axes.set_axis_off()
    axes.plot([1, 1 + min(width, count - 1)], [-1.8, -1.8], "|-", color=INK, linewidth=1)
    axes.text(1 + pad + min(width, count - 1), -1.8, f"critical difference {width:.2f}", va="center")
    axes.plot([1, count], [0, 0], color=INK, linewidth=1)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, -0.2], color=INK, linewidth=1)
        axes.text(tick, -0.3, str(tick), ha="center", va="bottom")
    for at, (setting, rank) in enumerate(zip(across.settings, across.ranks, strict=True)):
        first, row = at < left, depth + min(at, count - 1 - at)
        edge = 1 - pad if first else count + pad
        axes.plot([rank, rank, edge], [0, row, row], color=INK, linewidth=0.8)
        text, side = plain(f"{setting} ({rank:.2f})", 44), "right" if first else "left"
        axes.text(2 * edge - (1 if first else count), row, text, ha=side, va="center", fontsize=8)
    for at, (low, high) in enumerate(bars):
        span = [across.ranks[low] - pad / 2, across.ranks[high] + pad / 2]
        axes.plot(span, [0.4 + 0.3 * at] * 2, color=BLUE, linewidth=3, solid_capstyle="butt")
    return figure


@rc_context(STYLE)
def main_effect(effect: Effect, effects: Effects) -> Figure | None:
    """A factor's adjusted means by level, on the range that all factors share."""
    by = scale(effects.metric)
    if len(points := {level: by * mean for level, mean in effect.means.items() if mean is not None}) < 2:
        return None
    figure, axes = panel((2.9, 2.5), effects.short[effect.factor], y=label(effects.metric))
    axes.plot(range(len(points)), list(points.values()), "o-", color=BLUE, markersize=6)
    axes.axhline(sum(points.values()) / len(points), color=INK, alpha=0.4, linewidth=0.8, linestyle=":")
    means = [by * mean for other in effects.mains for mean in other.means.values() if mean is not None]
    _set_axes(axes, list(points), means, 0.15)
    return figure


@rc_context(STYLE)
def interaction(pair: Interaction, effects: Effects) -> Figure:
    """Cell means: a line a level of the one factor over the levels of the other; parallel lines are no interaction."""
    by = scale(effects.metric)
    across, lines = effects.levels[pair.factor], effects.levels[pair.other]
    shown = lines if len(lines) <= len(LINES) else [*lines[: len(LINES) - 1], lines[-1]]
    factor, other = effects.short[pair.factor], effects.short[pair.other]
    names = [f"{other}={level}" for level in shown]
    figure, axes = panel((3.9, 2.8), f"{factor} by {other}", factor, label(effects.metric))
    for level, name, (colour, dash, marker) in zip(shown, names, LINES, strict=False):
        values = [by * pair.cells.get((at, level), math.nan) for at in across]
        axes.plot(range(len(across)), values, marker=marker, color=colour, linestyle=dash, markersize=5.5,
                  label=plain(name, 26))  # fmt: skip
    means = [by * mean for other in effects.interactions for mean in other.cells.values()]
    _set_axes(axes, across, means, 0.1)
    columns = 2 if max(map(len, names)) < 22 else 1
    figure.legend(frameon=False, fontsize=7.5, loc="outside lower left", handlelength=2.6, ncols=columns)
    return figure


def _set_axes(axes: Axes, levels: Sequence[str], means: Sequence[float], margin: float) -> None:
    """Ticks at the levels, slanted where they would touch; the range of all ``means``, so that slopes compare."""
    crowded = sum(min(len(level), LONGEST) for level in levels) > 26
    axes.set_xticks(range(len(levels)), [plain(level, LONGEST) for level in levels], rotation=30 if crowded else 0,
                    ha="right" if crowded else "center")  # fmt: skip
    axes.set_xlim(-0.35, len(levels) - 0.65)
    axes.grid(visible=False, axis="x")
    gap = margin * (max(means) - min(means)) or 0.5
    axes.set_ylim(min(means) - gap, max(means) + gap)


# Not by optuna.visualization.matplotlib, which needs Optuna and its study, and paints through pyplot's global state
@rc_context(STYLE)
def search_history(search: SearchResult) -> Figure | None:
    """Every completed trial's value, and the best so far; None where none completed."""
    by = scale(search.objective)
    if not (points := [(t["number"], by * t["value"]) for t in search.trials if t["value"] is not None]):
        return None
    ended = [t["number"] for t in search.trials if t["value"] is None]
    best = [(n, by * value) for n, value in enumerate(search.best_so_far()) if value is not None]
    figure, axes = panel(title="Best so far", x="trial", y=label(search.objective))
    axes.plot(*zip(*points, strict=True), "o", color=BLUE, alpha=0.6, markersize=4, label="a trial")
    axes.plot(*zip(*best, strict=True), "-", color=ORANGE, drawstyle="steps-post", label="best so far")
    if ended:
        axes.plot(ended, [0.02] * len(ended), "x", color=INK, alpha=0.5, markersize=4, clip_on=False,
                  transform=axes.get_xaxis_transform(), label="ended early or failed")  # fmt: skip
    figure.legend(frameon=False, fontsize=7.5, loc="outside lower left", ncols=3, columnspacing=1.2)
    whole_epochs(axes)
    return figure


@rc_context(STYLE)
def search_parameters(search: SearchResult) -> dict[str, Figure]:
    """Each numeric parameter against the objective, by name; on a log axis where it spans two decades."""
    done = [t for t in search.trials if t["value"] is not None]
    first = done[0]["parameters"] if done else {}
    figures = {}
    for name in [name for name, value in first.items() if to_number(value) is not None][:MOST_PARAMETERS]:
        known = [t for t in done if to_number(t["parameters"].get(name)) is not None]
        values = [t["parameters"][name] for t in known]
        figures[name], axes = panel(title=name, x=name, y=label(search.objective))
        shown = [scale(search.objective) * t["value"] for t in known]
        axes.plot(values, shown, "o", color=BLUE, alpha=0.6, markersize=4)
        if min(values) > 0 and max(values) > 100 * min(values):
            axes.set_xscale("log")
    return figures


def pareto_front(points: Sequence[tuple[float | None, float | None]], higher: bool) -> list[int]:
    """Indices of the (cost, quality) points that no other point matches at less cost or betters at the same."""
    known = sorted((c, -q if higher else q, i) for i, (c, q) in enumerate(points) if c is not None and q is not None)
    return [i for at, (_, loss, i) in enumerate(known) if all(loss < other for _, other, _ in known[:at])]
