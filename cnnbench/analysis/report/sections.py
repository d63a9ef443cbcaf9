"""The parts of the page, as values for its template."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cnnbench.analysis.analyse import Analysis
from cnnbench.analysis.calibration import calibration
from cnnbench.analysis.effects import Effects
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.images import Spread, correct_answers, mcnemar, same_images, split_spread
from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.metric_names import COSTS, compact, title
from cnnbench.analysis.report.figures import charts
from cnnbench.analysis.report.figures import curves as curve_figures
from cnnbench.analysis.report.figures.style import BLUE, LINES, ORANGE
from cnnbench.analysis.runs import Run
from cnnbench.analysis.search import read_searches
from cnnbench.config.settings import show
from cnnbench.data.cache import find_prepared

Draw = Callable[[Figure | None, str], str]  # a figure and its description; empty where there is none
Section = dict[str, Any]
MOST_COMPARED = len(LINES)  # configurations in one set of axes
MOST_EACH = 4  # configurations with train against validation
MOST_FACTORS = 8
MOST_INTERACTIONS = 6  # drawn; the table has all
MOST_IMAGES = 12  # that one run has right and another wrong
MOST_ROWS = 24  # configurations with their recall by class
ENVIRONMENT = ("cnnbench", "git", "git_dirty", "python", "torch", "torchvision", "lightning", "device", "gpu", "cpu",
               "threads")  # fmt: skip


def searches(runs: Sequence[Run], draw: Draw) -> list[Section]:
    """The searches whose runs these are."""
    parts = []
    for search in read_searches({run.path.parent for run in runs}):
        metric = title(search.objective)
        history = draw(charts.search_history(search), f"Best {metric} so far over the trials")
        figures = [draw(f, f"{name} against {metric}") for name, f in charts.search_parameters(search).items()]
        parts.append({"search": search, "figures": [history, *figures]})
    return parts


def effects(results: Effects, draw: Draw) -> dict[str, list[str]]:
    """Figures of the main effects and of the clearest interactions."""
    mains, pairs = results.mains[:MOST_FACTORS], results.interactions[:MOST_INTERACTIONS]
    return {
        "mains": [draw(charts.main_effect(effect, results), results.sentence(effect)) for effect in mains],
        "interactions": [draw(charts.interaction(pair, results), results.sentence(pair)) for pair in pairs],
    }


def _top(board: Leaderboard, reference: Configuration | None, most: int) -> list[Configuration]:
    """At most ``most`` configurations: the first ones, the last one, and the reference wherever it is."""
    ranked = [row.configuration for row in board.rows]
    shown = [*ranked[: most - 1], *ranked[-1:]] if len(ranked) > most else ranked
    if reference is not None and reference not in shown:
        shown = [*shown[: most - 2], reference, *ranked[-1:]]
    return shown


def curves(board: Leaderboard, reference: Configuration | None, draw: Draw) -> Section | None:
    """Validation curves against each other, and train against validation for a few."""
    leaves = curve_figures.LEAVES
    each = []
    for c in _top(board, reference, MOST_EACH):
        drawn = [draw(curve_figures.train_and_validation(c, leaf), f"{leaf}: {c.short}") for leaf in leaves]
        each += [{"title": c.short, "text": curve_figures.fit_text(c), "figures": drawn}] if any(drawn) else []
    if not each:
        return None
    compared = _top(board, reference, MOST_COMPARED)
    against = [] if len(compared) < 2 else [
        draw(curve_figures.against_each_other(compared, leaf), f"Validation {leaf} over the epochs") for leaf in leaves
    ]  # fmt: skip
    legend = [
        # matplotlib's dashes are in line widths
        {"colour": colour, "dashes": "" if dash == "-" else " ".join(str(2 * length) for length in dash[1]), "label": c.short}
        for c, (colour, dash, _) in zip(compared, LINES, strict=False)
    ]  # fmt: skip
    long = any(len(run.series("val/loss")) >= curve_figures.LONG for run in board.grid.runs)
    return {"legend": legend, "against": against, "each": each, "long": long, "blue": BLUE, "orange": ORANGE}


def calibrations(board: Leaderboard, reference: Configuration | None, draw: Draw) -> list[Section]:
    """Reliability diagrams of a few configurations, of those with predictions."""
    parts = []
    for c in _top(board, reference, MOST_EACH):
        if (found := calibration(c.runs)) is not None:
            figure = draw(charts.reliability(found, c.short), f"Accuracy against confidence: {c.short}")
            parts.append({"title": c.short, "of": found, "figure": figure})
    return parts


def classes(analysis: Analysis) -> Section | None:
    """Recall by class, and the confusion matrices of two runs; None where no record has them."""
    split = "test" if any(run.per_class("test/recall") for run in analysis.board.grid.runs) else "val"
    recall, confusion = _by_class(analysis.board, f"{split}/recall"), _confusion(analysis, split)
    others = {name: found for name in ("precision", "f1") if (found := _by_class(analysis.board, f"{split}/{name}"))}
    parts = {"split": split, "recall": recall, "confusion": confusion, "others": others}
    return parts if recall or confusion else None


def _by_class(board: Leaderboard, metric: str) -> Section | None:
    """Mean of a metric of each class, by every configuration that has the same classes."""
    names: list[str] = []
    means: dict[str, pd.Series] = {}
    for row in board.rows[:MOST_ROWS]:
        recalls = [recall for run in row.configuration.runs if (recall := run.per_class(metric))]
        names = names or [name for recall in recalls[:1] for name in recall]
        if recalls and all(list(recall) == names for recall in recalls):
            means[f"{row.rank}  {row.configuration.short}"] = pd.DataFrame(recalls, dtype=float).mean()
    if not means:
        return None
    table = pd.DataFrame(means)
    hardest = table.mean(axis=1).dropna().nsmallest(3 if len(board.data_sets) == 1 else 0)  # others have other classes
    return {
        "classes": names,
        "rows": table.to_dict("list"),
        "hardest": list(hardest.items()),
        "least": table.min(axis=None),
    }


def _confusion(analysis: Analysis, split: str) -> Section | None:
    """The confusion matrix of one run, and the change from another's in shares of the true class."""
    run, versus = analysis.run, analysis.versus
    one, other = _matrix(run, split), _matrix(versus, split)
    if run is None or one is None:
        return None
    names = run.classes if len(run.classes) == len(one) else [str(at) for at in range(len(one))]
    errors = one - np.diag(np.diag(one))
    pairs = [divmod(int(at), len(one)) for at in np.argsort(errors, axis=None)[::-1][:3]]
    section = {
        "classes": names,
        "label": _label(analysis, run),
        "accuracy": np.trace(one) / max(one.sum(), 1),
        "images": int(one.sum()),
        "worst": [(names[true], names[taken], errors[true, taken]) for true, taken in pairs if errors[true, taken]],
        "counts": one.tolist(),
        "shares": _shares(one).tolist(),
    }
    if versus is not None and other is not None and other.shape == one.shape:
        change = _shares(one) - _shares(other)
        section |= {"change": change.tolist(), "most": float(np.abs(change).max()), "versus": _label(analysis, versus)}
    return section


def _shares(matrix: NDArray) -> NDArray:
    """Each row divided by its sum; zeros where a class never occurs."""
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def _matrix(run: Run | None, split: str) -> NDArray | None:
    rows = run.part("confusion_matrix").get(split) if run else None
    if not isinstance(rows, list) or not rows or any(len(row) != len(rows) for row in rows):
        return None
    return np.nan_to_num(np.array(rows, dtype=float))


def _label(analysis: Analysis, run: Run) -> str:
    name = next((c.short for c in analysis.board.grid.configurations if run in c.runs), run.path.name)
    return f"{name}, {run.replicate}" if run.replicate else name


def disagreements(analysis: Analysis) -> Section | None:
    """Test images that one of two runs has right and the other wrong, those first of whose answer the other is surest."""
    runs = (analysis.run, analysis.versus)
    answers = [run.predictions() if run else None for run in runs]
    one, other = answers
    if not one or not other or not same_images([one, other]):
        return None
    correct = [a["true"] == a["predicted"] for a in (one, other)]
    pictures, sides = _test_images(runs[0]), []
    for better, worse in ((0, 1), (1, 0)):
        rows, wrong = np.flatnonzero(correct[better] & ~correct[worse]), answers[worse] or {}
        surest = rows[np.argsort(-wrong["probability_predicted"][rows], kind="stable")][:MOST_IMAGES]
        shown = [
            {
                "source": _data_uri(pictures[one["row"][i]]) if pictures is not None else "",
                "true": _class_name(runs[0], one["true"][i]),
                "taken": _class_name(runs[0], wrong["predicted"][i]),
                "confidence": wrong["probability_predicted"][i],
            }
            for i in surest
        ]
        labels = [_label(analysis, run) for run in (runs[better], runs[worse]) if run]
        sides.append({"right": labels[0], "wrong": labels[1], "count": len(rows), "shown": shown})
    return {"sides": sides, "p": mcnemar(*correct), "images": len(one["true"])}


def spread(board: Leaderboard) -> Spread | None:
    """Where the spread between the runs of the first place comes from; None for a single run or without predictions."""
    correct = correct_answers(board.rows[0].configuration.runs) if board.rows else None
    return None if correct is None else split_spread(correct)


def _test_images(run: Run | None) -> NDArray | None:
    """The test set of a run, uint8 (N, H, W, C); None where it is not in its cache."""
    cache, fingerprint = run and run.settings.get("data.cache"), run and run.part("data").get("fingerprint")
    prepared = find_prepared(Path(str(cache)).expanduser(), str(fingerprint)) if cache and fingerprint else None
    return prepared.arrays["test_images"] if prepared else None


def _class_name(run: Run | None, number: int) -> str:
    return run.classes[number] if run and number < len(run.classes) else str(number)


def _data_uri(pixels: NDArray) -> str:
    file = BytesIO()
    Image.fromarray(np.squeeze(pixels)).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def cost(board: Leaderboard, metric: str, draw: Draw) -> Section | None:
    """Quality against parameters, FLOPs and seconds, and the Pareto fronts: the ranks and costs of their rows."""
    figures, constant, fronts = [], [], {}
    several = len(board.data_sets) > 1
    for data_set, name in product(board.data_sets, ("parameters", "flops_per_image", "seconds_per_epoch")):
        part, cost = board.of(data_set), f"{COSTS[name]}, {data_set}" if several else COSTS[name]
        if drawn := charts.cost(part, name, metric, cost):
            figures.append(draw(drawn[0], f"{title(metric)} against {cost}"))
            fronts[cost] = [(row.rank, compact(row.cost(name))) for row in drawn[1][:8]]
        elif not several and len(part.rows) > 1 and any(row.cost(name) is not None for row in part.rows):
            constant.append(cost)
    return {"figures": figures, "fronts": fronts, "constant": ", ".join(constant)} if figures else None


def protocol(runs: Sequence[Run]) -> Section:
    """How validation and test were done, as the records say; None where they differ or do not say."""
    validation = {str(run.part("data").get("validation", run.settings.get("data.validation"))) for run in runs}
    weights = {str(run.part("protocol").get("weights")) for run in runs}
    averages = [average for run in runs if (average := run.part("protocol").get("average"))]
    kinds = (run.part("protocol").get("test_time_augmentation") for run in runs)
    views = [kind for kind in kinds if kind not in (None, "none")]
    return {
        "validation": sorted(validation - {"None"}),
        "weights": " or ".join(sorted(weights - {"None"})),
        "last_weights": weights == {"last"},
        "averages": f"{len(averages)} of {len(runs)} runs ({', '.join(sorted(set(averages)))})" if averages else "",
        "views": f"{len(views)} of {len(runs)} runs ({', '.join(sorted(set(views)))})" if views else "",
        "on_test": any(run.validated_on_test for run in runs),
        "images": {split: _same(run.part("data").get(split) for run in runs) for split in ("train", "val", "test")},
        "classes": _same(len(run.classes) for run in runs) or None,
    }


def _same(values: Iterable[Any]) -> int | None:
    """The number that all are."""
    kinds = {value if isinstance(value, int) else None for value in values}
    return kinds.pop() if len(kinds) == 1 else None


def environment(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the runs were made with; several values where they differ."""
    environments = [run.part("environment") for run in runs]
    shown = {name: [show(e[name]) for e in environments if e.get(name) is not None] for name in ENVIRONMENT}
    return {name.replace("_", " "): list(dict.fromkeys(texts)) for name, texts in shown.items() if texts}
