"""A search over its trials, and what mattered in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnbench.analysis.metric_names import scale, title, unit
from cnnbench.analysis.report.figures.style import BLUE, INK, ORANGE, panel, plain, style, whole_epochs
from cnnbench.analysis.search import SearchResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PARAMETERS = 12


def history(found: SearchResult) -> Figure | None:
    """Every completed trial's value, and the best so far; None where none completed."""
    by = scale(found.objective)
    points = [(t["number"], by * t["value"]) for t in found.trials if t["value"] is not None]
    if not points:
        return None
    ended = [t["number"] for t in found.trials if t["value"] is None]
    best = [(n, by * value) for n, value in enumerate(found.best_so_far()) if value is not None]
    with style():
        figure, axes = panel(title="Best so far", x="trial", y=f"{title(found.objective)}{unit(found.objective)}")
        axes.plot(*zip(*points, strict=True), "o", color=BLUE, alpha=0.6, markersize=4, label="a trial")
        axes.plot(*zip(*best, strict=True), "-", color=ORANGE, drawstyle="steps-post", label="best so far")
        if ended:
            axes.plot(ended, [0.02] * len(ended), "x", color=INK, alpha=0.5, markersize=4, clip_on=False,
                      transform=axes.get_xaxis_transform(), label="ended early or failed")  # fmt: skip
        axes.legend(frameon=False, fontsize=7.5)
        whole_epochs(axes)
    return figure


def importance(found: SearchResult) -> Figure | None:
    """The share of the variance that each parameter explains; None where that is not known."""
    shares = list(found.importance.items())[:MOST_PARAMETERS]
    if not shares:
        return None
    with style():
        figure, axes = panel((4.3, 0.32 * len(shares) + 0.9), title="What mattered", x="share of the variance %")
        axes.barh(
            [plain(name, 40) for name, _ in shares][::-1], [100 * s for _, s in shares][::-1], color=BLUE, height=0.6
        )
        axes.grid(axis="y", visible=False)
    return figure


def drawn_from(found: SearchResult) -> list[tuple[str, Figure]]:
    """For each numeric parameter, (name, value against the objective); on a log axis where it spans two decades."""
    by = scale(found.objective)
    done = [t for t in found.trials if t["value"] is not None]
    names = [n for n in (done[0]["parameters"] if done else ()) if isinstance(done[0]["parameters"][n], (int, float))]
    figures = []
    for name in names[:MOST_PARAMETERS]:
        xs = [t["parameters"].get(name) for t in done]
        with style():
            figure, axes = panel(title=name, x=name, y=f"{title(found.objective)}{unit(found.objective)}")
            axes.plot(xs, [by * t["value"] for t in done], "o", color=BLUE, alpha=0.6, markersize=4)
            known = [x for x in xs if x is not None]
            if min(known) > 0 and max(known) > 100 * min(known):
                axes.set_xscale("log")
        figures.append((name, figure))
    return figures
