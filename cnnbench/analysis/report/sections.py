"""The parts of the page that are mostly figures, as values for its template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.effects import Effects
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.metric_names import COSTS, compact, higher_is_better, title
from cnnbench.analysis.report.classes import class_names
from cnnbench.analysis.report.figures import curves as curve_figures
from cnnbench.analysis.report.figures import effects as effect_figures
from cnnbench.analysis.report.figures import overview
from cnnbench.analysis.report.figures import search as search_figures
from cnnbench.analysis.report.figures.style import BLUE, COLOURS, DASHES, ORANGE
from cnnbench.analysis.runs import Run
from cnnbench.analysis.search import read_searches
from cnnbench.analysis.statistics import pareto_front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure | None", str], str]  # a figure and what it shows; empty where there is none
MOST_COMPARED = len(COLOURS)  # configurations in one set of axes
MOST_EACH = 4  # configurations with train against validation
MOST_FACTORS = 8
MOST_INTERACTIONS = 6  # drawn; the table has all


def searches(runs: Sequence[Run], draw: Draw) -> list[dict[str, Any]]:
    """The searches whose runs these are."""
    parts = []
    for found in read_searches({run.path.parent for run in runs}):
        metric = title(found.objective)
        figures = [
            draw(search_figures.history(found), f"Best {metric} so far over the trials"),
            *(draw(figure, f"{name} against {metric}") for name, figure in search_figures.parameters(found)),
        ]
        parts.append({"found": found, "best": found.best(), "figures": figures})
    return parts


def effects(found: Effects, draw: Draw) -> dict[str, list[str]]:
    """Figures of the main effects and of the clearest interactions."""
    mains = [draw(effect_figures.main_effect(effect, found), effect.sentence) for effect in found.mains[:MOST_FACTORS]]
    pairs = [draw(effect_figures.interaction(i, found), i.sentence) for i in found.interactions[:MOST_INTERACTIONS]]
    return {"mains": mains, "interactions": pairs}


def top(board: Leaderboard, reference: Configuration | None, most: int) -> list[Configuration]:
    """At most ``most`` configurations: the first places, the last one, and the reference wherever it is."""
    placed = [row.configuration for row in board.rows]
    wanted = [*placed[: most - 1], *placed[-1:]] if len(placed) > most else placed
    if reference is not None and reference not in wanted:
        wanted = [*wanted[: most - 2], reference, *placed[-1:]]
    return wanted


def curves(board: Leaderboard, reference: Configuration | None, draw: Draw) -> dict[str, Any] | None:
    """Validation curves against each other, and train against validation for a few."""
    compared = top(board, reference, MOST_COMPARED)
    each = []
    for configuration in top(board, reference, MOST_EACH):
        drawn = [
            draw(curve_figures.train_and_validation(configuration, leaf), f"{leaf}: {configuration.short}")
            for leaf in curve_figures.LEAVES
        ]
        if any(drawn):
            text = curve_figures.fit_text(configuration)
            each.append({"title": configuration.short, "text": text, "figures": drawn})
    if not each:
        return None
    against = [
        draw(curve_figures.against_each_other(compared, leaf), f"Validation {leaf} over the epochs")
        for leaf in curve_figures.LEAVES
        if len(compared) > 1
    ]
    legend = [
        {"colour": colour, "dashes": _dashes(dash), "label": configuration.short}
        for configuration, colour, dash in zip(compared, COLOURS, DASHES, strict=False)
    ]
    long = any(len(run.series("val/loss")) >= curve_figures.LONG for run in board.grid.runs)
    left_out = len(board.rows) > MOST_COMPARED
    return {"legend": legend, "against": against, "each": each, "long": long, "left_out": left_out,
            "reference": reference, "blue": BLUE, "orange": ORANGE}  # fmt: skip


def _dashes(dash: Any) -> str:
    """matplotlib's dashes (in line widths) as an SVG attribute."""
    return "" if isinstance(dash, str) else " ".join(str(2 * length) for length in dash[1])


def cost(board: Leaderboard, metric: str, draw: Draw) -> dict[str, Any] | None:
    """Quality against parameters, FLOPs and seconds, with the Pareto fronts in words too."""
    figures, constant, fronts = [], [], []
    for name in ("parameters", "flops_per_image", "seconds_per_epoch"):
        picture = draw(overview.cost(board, name, metric), f"{title(metric)} against {COSTS[name]}")
        if picture:
            figures.append(picture)
            front = pareto_front(
                [(row.cost(name), row.value(metric).mean) for row in board.rows], higher_is_better(metric)
            )
            rows = [board.rows[place] for place in front[:8]]
            fronts.append(f"{COSTS[name]}: {', '.join(f'#{row.place} ({compact(row.cost(name))})' for row in rows)}")
        elif len(board.rows) > 1 and any(row.cost(name) is not None for row in board.rows):
            constant.append(COSTS[name])
    return {"figures": figures, "fronts": "; ".join(fronts), "constant": ", ".join(constant)} if figures else None


def protocol(runs: Sequence[Run]) -> dict[str, Any]:
    """How validation and test were done, as the records tell it; None where they differ or do not tell."""
    validation = {str(run.part("data").get("validation", run.settings.get("data.validation"))) for run in runs}
    weights = {str(run.part("protocol").get("weights")) for run in runs}
    images = {split: _same(run.part("data").get(split) for run in runs) for split in ("train", "val", "test")}
    return {
        "validation": sorted(validation - {"None"}),
        "weights": " or ".join(sorted(weights - {"None"})),
        "images": images,
        "classes": _same(len(class_names(run)) for run in runs) or None,
    }


def _same(values: Iterable[Any]) -> int | None:
    """The number that all are."""
    kinds = {value if isinstance(value, int) else None for value in values}
    return kinds.pop() if len(kinds) == 1 else None
