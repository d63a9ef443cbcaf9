"""The page's sections that are mostly figures: curves, classes, cost; and what is said about the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.metric_names import COSTS, compact, higher_is_better, plural, title, unit
from cnnbench.analysis.metric_names import number as number_of
from cnnbench.analysis.report.figures import curves as curve_figures
from cnnbench.analysis.report.figures import matrices, overview
from cnnbench.analysis.report.figures import search as search_figures
from cnnbench.analysis.report.figures.style import BLUE, COLOURS, DASHES, ORANGE
from cnnbench.analysis.runs import Run
from cnnbench.analysis.search import read_searches
from cnnbench.analysis.statistics import finite_values, pareto_front
from cnnbench.config.settings import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnbench.analysis.analyse import Analysis

Draw = Callable[["Figure | None", str, str], "str | None"]
MOST_COMPARED = len(COLOURS)  # configurations in one set of axes
MOST_EACH = 4  # configurations with train against validation
MOST_CLASS_ROWS = 24


def top(board: Leaderboard, reference: Configuration | None, most: int) -> list[Configuration]:
    """The first places and the last, and the reference wherever it is: what is worth a look of its own."""
    placed = [row.configuration for row in board.rows]
    wanted = [*placed[: most - 1], *placed[-1:]] if len(placed) > most else placed
    if reference is not None and reference not in wanted:
        wanted = [*wanted[: most - 2], reference, *placed[-1:]]
    return wanted


def top_note(board: Leaderboard, reference: Configuration | None) -> str:
    """Says so where not all are drawn."""
    steep = any(len(run.series("val/loss")) >= curve_figures.LONG for run in board.grid.runs)
    first = "The steep first epochs may lie outside of the axes. " if steep else ""
    if len(board.rows) <= MOST_COMPARED:
        return first
    some = "the first places, the baseline and the last place" if reference else "the first places and the last"
    return f"{first}Of the {len(board.rows)} configurations {some} are drawn."


def searches(runs: Sequence[Run], draw: Draw) -> list[dict[str, Any]]:
    """What the searches came to whose runs these are."""
    told = []
    for number, found in enumerate(read_searches({run.path.parent for run in runs})):
        best, metric = found.best(), found.objective
        ended = found.count("pruned")
        counts = f"{found.count('complete')} of {plural(len(found.trials), 'trial')} completed"
        counts += f", {ended} ended early" * bool(ended) + f", {found.count('fail')} failed" * bool(found.count("fail"))
        first = ""
        if best is not None:
            values = ", ".join(f"{key}={show(value)}" for key, value in best["parameters"].items())
            first = f"Best {title(metric)}: {number_of(best['value'], metric)}{unit(metric)}, trial {best['number']} ({values}). "
        figures = [
            draw(search_figures.history(found), f"search-{number}", f"Best {title(metric)} so far over the trials"),
            draw(search_figures.importance(found), f"importance-{number}", "Share of the variance by parameter"),
            *(draw(figure, f"axis-{number}-{name}", f"{name} against {title(metric)}")
              for name, figure in search_figures.drawn_from(found)),
        ]  # fmt: skip
        told.append({
            "folder": found.folder.name,
            "told": f"{first}{counts}. The best of many trials is a little optimistic; the test set tells how much.",
            "figures": [figure for figure in figures if figure],
        })  # fmt: skip
    return told


def curves(board: Leaderboard, reference: Configuration | None, draw: Draw) -> dict[str, Any] | None:
    """Validation curves against each other, and train against validation for a few."""
    compared = top(board, reference, MOST_COMPARED)
    against = [
        draw(curve_figures.against_each_other(compared, leaf), f"curves-{leaf}", f"Validation {leaf} over the epochs")
        for leaf in curve_figures.LEAVES
    ]
    each = []
    for configuration in top(board, reference, MOST_EACH):
        drawn = [
            draw(
                curve_figures.train_and_validation(configuration, leaf), f"fit-{leaf}", f"{leaf}: {configuration.short}"
            )
            for leaf in curve_figures.LEAVES
        ]
        found = curve_figures.fit(configuration)
        if any(drawn):
            told = found.told[:1].upper() + found.told[1:] + "." if found else ""
            each.append({"title": configuration.short, "told": told, "figures": [f for f in drawn if f]})
    if not each:
        return None
    legend = [
        {"colour": COLOURS[place], "dashes": _dashes(DASHES[place]), "label": configuration.short}
        for place, configuration in enumerate(compared)
    ]
    compare = [figure for figure in against if figure] if len(compared) > 1 else []
    return {"legend": legend if compare else [], "against": compare, "each": each, "blue": BLUE, "orange": ORANGE}


def _dashes(dash: Any) -> str:
    """matplotlib's dashes (in line widths) as an SVG attribute."""
    return "" if isinstance(dash, str) else " ".join(str(2 * length) for length in dash[1])


def classes(analysis: Analysis, draw: Draw) -> dict[str, Any] | None:
    """Recall by class and configuration, and the confusion matrices of two runs."""
    board = analysis.board
    split = "test" if any(run.part("per_class").get("test/recall") for run in board.grid.runs) else "val"
    names, rows = _recalls(board, split)
    heat = told = None
    if names and rows:
        array = np.array([recalls for _, recalls in rows], dtype=float)
        figure = matrices.class_recall(array, [label for label, _ in rows], names)
        heat = draw(figure, "class-recall", "Recall by class and configuration")
        told = _hardest(names, array, split)
        if len(board.rows) > len(rows):
            told += f" Shown: the first {len(rows)} of {len(board.rows)}."
    found = _matrices(analysis, split, draw)
    if heat is None and not found:
        return None
    least = f"{min(60, 22 + 1.6 * len(names))}rem" if len(names) > 4 else "20rem"
    return {"heat": heat, "told": told, "matrices": found, "least": least}


def _recalls(board: Leaderboard, split: str) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """Class names, and (label, mean recall of each class) of every configuration that has the same classes."""
    names: list[str] = []
    rows = []
    for row in board.rows[:MOST_CLASS_ROWS]:
        known = [run for run in row.configuration.runs if run.part("per_class").get(f"{split}/recall")]
        if not known:
            continue
        own = _names(known[0])
        names = names or own
        columns = list(zip(*(run.part("per_class")[f"{split}/recall"] for run in known), strict=False))
        if own != names or len(columns) != len(names):
            continue
        values = [finite_values(column) for column in columns]
        means = [mean(column) if column else float("nan") for column in values]
        rows.append((f"{row.place}  {row.configuration.short}", means))
    return names, rows


def _hardest(names: Sequence[str], recalls: np.ndarray, split: str) -> str:
    known = [(float(np.nanmean(column)), name) for name, column in zip(names, recalls.T, strict=True)
             if np.isfinite(column).any()]  # fmt: skip
    worst = ", ".join(f"{name} ({100 * recall:.1f}%)" for recall, name in sorted(known)[:3])
    return f"Hardest on average over the configurations, by {title(f'{split}/recall')}: {worst}."


def _matrices(analysis: Analysis, split: str, draw: Draw) -> list[dict[str, Any]]:
    one = _matrix(analysis.run, split)
    if analysis.run is None or one is None:
        return []
    names = _class_names(analysis.run, len(one))
    label = _label(analysis, analysis.run)
    told = (
        f"Run {analysis.run.path.name}, {title(split + '/accuracy')} {_accuracy(one):.2%} of {int(one.sum()):,} images."
    )
    told += _confusions(one, names)
    kinds = (False, True) if len(names) <= matrices.MOST_WRITTEN else (False,)  # counts are told by numbers alone
    drawn = [draw(matrices.confusion(one, names, counts), f"confusion-{counts}", told) for counts in kinds]
    found = [{"title": f"Confusion matrix: {label}", "told": told, "figures": [d for d in drawn if d]}]
    other = _matrix(analysis.versus, split)
    if analysis.versus is not None and other is not None and other.shape == one.shape:
        told = (f"Shares of {label} (run {analysis.run.path.name}) minus those of {_label(analysis, analysis.versus)} "
                f"(run {analysis.versus.path.name}): on the diagonal blue is better, beside it orange is. "
                "Other runs: --run, --versus.")  # fmt: skip
        picture = draw(matrices.confusion_difference(one, other, names), "confusion-difference", told)
        found.append({"title": "Difference between two runs", "told": told, "figures": [picture] if picture else []})
    return found


def _confusions(matrix: np.ndarray, names: Sequence[str]) -> str:
    """The three most frequent confusions."""
    errors = matrix - np.diag(np.diag(matrix))
    places = np.argsort(errors, axis=None)[::-1][:3]
    pairs = [(int(place) // len(names), int(place) % len(names)) for place in places]
    told = [f"{names[t]} taken for {names[p]} ({errors[t, p]:.0f})" for t, p in pairs if errors[t, p] > 0]
    return f" Most frequent: {', '.join(told)}." if told else ""


def _matrix(run: Run | None, split: str) -> np.ndarray | None:
    rows = run.part("confusion_matrix").get(split) if run else None
    if not isinstance(rows, list) or not rows or any(len(row) != len(rows) for row in rows):
        return None
    return np.nan_to_num(np.array(rows, dtype=float))


def _names(run: Run) -> list[str]:
    names = run.part("per_class").get("classes")
    return [str(name) for name in names] if isinstance(names, list) else []


def _class_names(run: Run, count: int) -> list[str]:
    """Names of the classes; their numbers where the record does not fit."""
    names = _names(run)
    return names if len(names) == count else [str(place) for place in range(count)]


def _label(analysis: Analysis, run: Run) -> str:
    found = next((c for c in analysis.board.grid.configurations if run in c.runs), None)
    seed = "" if run.seed is None else f", seed {run.seed}"
    return f"{found.short if found else run.path.name}{seed}"


def _accuracy(matrix: np.ndarray) -> float:
    return float(np.trace(matrix) / max(matrix.sum(), 1))


def cost(board: Leaderboard, metric: str, draw: Draw) -> dict[str, Any] | None:
    """Quality against parameters, FLOPs and seconds, with the Pareto fronts in words too."""
    drawn, constant, fronts = [], [], []
    for name in ("parameters", "flops_per_image", "seconds_per_epoch"):
        known = [row.costs[name] for row in board.rows if row.costs[name] is not None]
        picture = draw(overview.cost(board, name, metric), f"cost-{name}", f"{title(metric)} against {COSTS[name]}")
        if picture:
            drawn.append(picture)
            front = pareto_front(
                [(row.costs[name], row.value(metric).mean) for row in board.rows], higher_is_better(metric)
            )
            places = ", ".join(
                f"#{board.rows[place].place} ({compact(board.rows[place].costs[name])})" for place in front[:8]
            )
            fronts.append(f"{COSTS[name]}: {places}")
        elif len(board.rows) > 1 and known:
            constant.append(COSTS[name])
    if not drawn:
        return None
    told = (f"Orange rings are the Pareto front: nothing else is as good in {title(metric)} for less. Numbers are "
            f"places in the leaderboard. On the front, cheapest first: {'; '.join(fronts)}.")  # fmt: skip
    if constant:
        told += f" The same for all: {', '.join(constant)}."
    return {"figures": drawn, "told": told}


def protocol(runs: Sequence[Run]) -> list[str]:
    """How validation and test were done, as the records tell it."""
    kinds = sorted({str(run.part("data").get("validation", run.settings.get("data.validation"))) for run in runs})
    words = {"test": "the test set itself", "own": "the data's own validation set", "none": "no validation", "None": ""}
    told = [words.get(kind) or f"{kind} of the train set, fixed for all seeds" for kind in kinds if kind != "None"]
    sentences = [f"Validation: {'; '.join(told)}."] if told else []
    weights = sorted({str(run.part("protocol").get("weights")) for run in runs if run.part("protocol").get("weights")})
    if weights:
        once = "used after every epoch" if any(run.validated_on_test for run in runs) else "used once a run, at the end"
        sentences.append(f"The test set was {once}; the results are of the {' or '.join(weights)} weights.")
    sizes = {(run.part("data").get("train"), run.part("data").get("val"), run.part("data").get("test")) for run in runs}
    if len(sizes) == 1 and all(isinstance(size, int) for size in next(iter(sizes))):
        train, val, test = next(iter(sizes))
        counts = {len(_names(run)) for run in runs}
        of = f", of {counts.pop()} classes" if len(counts) == 1 and counts != {0} else ""
        sentences.append(f"Images: {train:,} to train, {val:,} to validate, {test:,} to test{of}.")
    return sentences
