"""The page's part on classes: recall by class and configuration, and the confusion matrices of two runs.

The template writes them as tables of coloured cells.
"""

from __future__ import annotations

import math
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import finite_values

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis

MOST_ROWS = 24  # configurations


def class_section(analysis: Analysis) -> dict[str, Any] | None:
    """Values for the template; None where no run tells its classes."""
    known = any(run.part("per_class").get("test/recall") for run in analysis.board.grid.runs)
    split = "test" if known else "val"
    recall, confusion = _recall(analysis.board, split), _confusion(analysis, split)
    return {"split": split, "recall": recall, "confusion": confusion} if recall or confusion else None


def _recall(board: Leaderboard, split: str) -> dict[str, Any] | None:
    """Mean recall of each class, by every configuration that has the same classes."""
    names: list[str] = []
    rows: dict[str, list[float]] = {}
    for row in board.rows[:MOST_ROWS]:
        runs = [run for run in row.configuration.runs if run.part("per_class").get(f"{split}/recall")]
        names = names or (class_names(runs[0]) if runs else [])
        columns = list(zip(*(run.part("per_class")[f"{split}/recall"] for run in runs), strict=False))
        if runs and class_names(runs[0]) == names and len(columns) == len(names):
            known = map(finite_values, columns)
            rows[f"{row.place}  {row.configuration.short}"] = [mean(values) if values else math.nan for values in known]
    if not rows or not names:
        return None
    means = [(mean(values), name) for name, column in zip(names, zip(*rows.values(), strict=True), strict=True)
             if (values := finite_values(column))]  # fmt: skip
    least = min((recall for recalls in rows.values() for recall in finite_values(recalls)), default=0.0)
    return {"classes": names, "rows": rows, "hardest": sorted(means)[:3], "least": least}


def _confusion(analysis: Analysis, split: str) -> dict[str, Any] | None:
    """The confusion matrix of one run, and the change from another's in shares of the true class."""
    run, versus = analysis.run, analysis.versus
    one, other = _matrix(run, split), _matrix(versus, split)
    if run is None or one is None:
        return None
    names = class_names(run)
    names = names if len(names) == len(one) else [str(place) for place in range(len(one))]
    errors = one - np.diag(np.diag(one))
    places = [divmod(int(place), len(one)) for place in np.argsort(errors, axis=None)[::-1][:3]]
    found = {
        "classes": names,
        "label": _label(analysis, run),
        "accuracy": np.trace(one) / max(one.sum(), 1),
        "images": int(one.sum()),
        "worst": [(names[true], names[taken], errors[true, taken]) for true, taken in places if errors[true, taken]],
        "counts": one.tolist(),
        "shares": _shares(one).tolist(),
    }
    if versus is not None and other is not None and other.shape == one.shape:
        change = _shares(one) - _shares(other)
        found |= {"change": change.tolist(), "most": float(np.abs(change).max()), "versus": _label(analysis, versus)}
    return found


def _shares(matrix: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; zeros where a class never occurs."""
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def _matrix(run: Run | None, split: str) -> np.ndarray | None:
    rows = run.part("confusion_matrix").get(split) if run else None
    if not isinstance(rows, list) or not rows or any(len(row) != len(rows) for row in rows):
        return None
    return np.nan_to_num(np.array(rows, dtype=float))


def class_names(run: Run) -> list[str]:
    """As the record has them."""
    names = run.part("per_class").get("classes")
    return [str(name) for name in names] if isinstance(names, list) else []


def _label(analysis: Analysis, run: Run) -> str:
    found = next((c for c in analysis.board.grid.configurations if run in c.runs), None)
    seed = "" if run.seed is None else f", seed {run.seed}"
    return f"{found.short if found else run.path.name}{seed}"
