"""A search over its trials, and what mattered in it.

Not by ``optuna.visualization.matplotlib``: with a metric in per cent it leaves out the best so far, it paints on grey
through pyplot's global state, and it needs Optuna and the study where ``search.json`` is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnbench.analysis.metric_names import scale, title, unit
from cnnbench.analysis.report.figures.style import BLUE, INK, ORANGE, panel, style, whole_epochs
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
        figure.legend(frameon=False, fontsize=7.5, loc="outside lower left", ncols=3, columnspacing=1.2)
        whole_epochs(axes)
    return figure


def parameters(found: SearchResult) -> list[tuple[str, Figure]]:
    """For each numeric parameter, (name, value against the objective); on a log axis where it spans two decades."""
    by = scale(found.objective)
    done = [t for t in found.trials if t["value"] is not None]
    numeric = [
        name for name, value in (done[0]["parameters"] if done else {}).items() if isinstance(value, (int, float))
    ]
    figures = []
    for name in numeric[:MOST_PARAMETERS]:
        points = [(t["parameters"][name], by * t["value"]) for t in done if t["parameters"].get(name) is not None]
        with style():
            figure, axes = panel(title=name, x=name, y=f"{title(found.objective)}{unit(found.objective)}")
            axes.plot(*zip(*points, strict=True), "o", color=BLUE, alpha=0.6, markersize=4)
            values = [value for value, _ in points]
            if min(values) > 0 and max(values) > 100 * min(values):
                axes.set_xscale("log")
        figures.append((name, figure))
    return figures
