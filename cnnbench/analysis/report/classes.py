"""The page's parts on classes and single images, as values for its template."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.analyse import Analysis
from cnnbench.analysis.images import mcnemar, same_images, wilson
from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.report.tables import Cell, Table
from cnnbench.analysis.runs import Run
from cnnbench.data.cache import find_prepared

Section = dict[str, Any]
IMBALANCED = 2.0  # the largest class has at least so many times the images of the smallest
MOST_IMAGES = 12  # that one run has right and another wrong
MOST_ROWS = 24  # configurations with their recall by class, or rare classes


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
    rows, least = table.to_dict("list"), table.min(axis=None)
    return {"classes": names, "rows": rows, "hardest": list(hardest.items()), "least": least}


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
        "classes": names, "label": _label(analysis, run),
        "accuracy": np.trace(one) / max(one.sum(), 1), "images": int(one.sum()),
        "worst": [(names[true], names[taken], errors[true, taken]) for true, taken in pairs if errors[true, taken]],
        "counts": one.tolist(), "shares": _shares(one).tolist(),
    }  # fmt: skip
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


def imbalance(classes: dict[str, Any] | None) -> dict[str, Any] | None:
    """Recall by class with its interval, rarest first, and the rare classes that accuracy hides: they have fewer images
    than the average class, and the whole interval of their recall lies below the accuracy. None where the ``classes`` of
    the page have about as many images each."""
    if not (confusion := (classes or {}).get("confusion")):
        return None
    counts = np.array(confusion["counts"])
    images, correct = counts.sum(axis=1).astype(int), counts.diagonal().astype(int)
    order = [at for at in np.argsort(images, kind="stable") if images[at]]
    if not order or images[order[-1]] < IMBALANCED * images[order[0]]:
        return None
    rows, hidden = [], []
    for at in order:
        name, recall, (low, high) = confusion["classes"][at], correct[at] / images[at], wilson(correct[at], images[at])
        span = names.interval(low, high, "recall")
        rows.append([Cell(name, name), Cell(f"{images[at]:,}", int(images[at])),
                     Cell(names.number(recall, "recall"), float(recall)), Cell(span, low)])  # fmt: skip
        if high < confusion["accuracy"] and images[at] < images.sum() / len(order):
            hidden.append({"name": name, "images": images[at], "correct": correct[at], "span": span})
    shown = f"The {MOST_ROWS} rarest of {len(rows)} classes, by" if len(rows) > MOST_ROWS else "Classes by"
    caption = f"{shown} number of {names.SPLITS[(classes or {})['split']]} images, rarest first; {confusion['label']}."
    table = Table(caption, ["class", "images", "recall, %", "95% interval"], rows[:MOST_ROWS])
    balanced = float(np.mean(correct[order] / images[order]))
    return {"table": table, "hidden": hidden, "times": images[order[-1]] / images[order[0]], "balanced": balanced}


def disagreements(analysis: Analysis) -> Section | None:
    """Test images that one of two runs has right and the other wrong, those first of whose answer the other is surest."""
    runs = [run for run in (analysis.run, analysis.versus) if run]
    answers = [found for run in runs if (found := run.predictions())]
    if len(answers) < 2 or not same_images(answers):
        return None
    correct = [of["true"] == of["predicted"] for of in answers]
    classes, labels, sides = dict(enumerate(runs[0].classes)), [_label(analysis, run) for run in runs], []
    cache, fingerprint = runs[0].settings.get("data.cache"), runs[0].part("data").get("fingerprint")
    prepared = find_prepared(Path(str(cache)).expanduser(), str(fingerprint)) if cache and fingerprint else None
    row, pictures = answers[0]["row"], prepared.arrays["test_images"] if prepared else None
    if pictures is not None and not 0 <= row.min() <= row.max() < len(pictures):
        pictures = None
    for better, worse in ((0, 1), (1, 0)):
        rows, wrong = np.flatnonzero(correct[better] & ~correct[worse]), answers[worse]
        surest = rows[np.argsort(-wrong["probability_predicted"][rows], kind="stable")][:MOST_IMAGES]
        shown = [
            {"source": _data_uri(pictures[wrong["row"][i]]) if pictures is not None else "",
             "true": classes.get(int(wrong["true"][i]), wrong["true"][i]),
             "taken": classes.get(int(wrong["predicted"][i]), wrong["predicted"][i]),
             "confidence": wrong["probability_predicted"][i]}
            for i in surest
        ]  # fmt: skip
        sides.append({"right": labels[better], "wrong": labels[worse], "count": len(rows), "shown": shown})
    return {"sides": sides, "p": mcnemar(*correct), "images": len(correct[0])}


def _data_uri(pixels: NDArray) -> str:
    Image.fromarray(np.squeeze(pixels)).save(file := BytesIO(), "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
