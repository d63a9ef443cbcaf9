"""The page's part on classes: recall by class and configuration, and confusion matrices, as tables of coloured cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.metric_names import finite, title
from cnnbench.analysis.runs import Run

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis

MOST_ROWS = 24  # configurations
MOST_WRITTEN = 20  # classes up to which every cell carries its number
MOST_NAMED = 34  # classes up to which every class is named


def class_section(analysis: Analysis) -> dict[str, Any] | None:
    """Recall by class and configuration, and the confusion matrices of two runs, as heat maps."""
    board = analysis.board
    split = "test" if any(run.part("per_class").get("test/recall") for run in board.grid.runs) else "val"
    names, rows = _recalls(board, split)
    heat, hardest = None, ""
    if names and rows:
        recalls = np.array(list(rows.values()))
        known = np.isfinite(recalls).any(axis=0)
        worst = sorted(zip(np.nanmean(recalls[:, known], axis=0), np.array(names)[known], strict=True))[:3]
        hardest = ", ".join(f"{name} ({100 * recall:.1f}%)" for recall, name in worst)
        missed = 0.85 * (1 - recalls) / (float(np.nanmax(1 - recalls, initial=0)) or 1.0)
        name = "recall, %: the stronger the colour, the more is missed"
        heat = _heat_map(name, -missed, recalls, _recall, list(rows), names)
    matrices = _confusions(analysis, split)
    if heat is None and not matrices:
        return None
    return {"heat": heat, "hardest": hardest, "metric": f"{split}/recall", "rows": len(rows), "matrices": matrices}


def _heat_map(
    name: str, strength: np.ndarray, values: np.ndarray, write: Callable[[float], str], rows: Sequence[str],
    columns: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """A table of coloured cells.

    Args:
        strength: of the colour, in [-1, 1]; negative is the other colour.
        values: written into the cells by ``write`` where there are few enough.
    """
    few = len(columns) <= MOST_WRITTEN
    cells = [
        [(write(value) if few and value == value else "", abs(s), s < 0) for value, s in zip(*pair, strict=True)]
        for pair in zip(values.tolist(), np.nan_to_num(strength).round(2).tolist(), strict=True)
    ]
    named = list(zip(_thinned(rows), cells, strict=True))
    return {"name": name, "columns": _thinned(columns), "rows": named, "few": few}


def _percent(share: float) -> str:
    """A share as a whole percentage; nothing for none, and a dot for what would round to 0."""
    return "" if share == 0 else "·" if share < 0.005 else f"{100 * share:.0f}"


def _count(images: float) -> str:
    return f"{images:.0f}" if images else ""


def _points(change: float) -> str:
    return f"{100 * change:+.1f}" if abs(change) >= 5e-5 else ""


def _recall(share: float) -> str:
    return f"{100 * share:.0f}"


def _thinned(names: Sequence[str]) -> list[str]:
    """At most ``MOST_NAMED`` of the names, and empty texts in between."""
    step = -(-len(names) // MOST_NAMED)
    return [name if place % step == 0 else "" for place, name in enumerate(names)]


def _recalls(board: Leaderboard, split: str) -> tuple[list[str], dict[str, list[float]]]:
    """Class names, and {label: mean recall of each class} of every configuration that has the same classes."""
    names: list[str] = []
    rows = {}
    for row in board.rows[:MOST_ROWS]:
        runs = [run for run in row.configuration.runs if run.part("per_class").get(f"{split}/recall")]
        names = names or (class_names(runs[0]) if runs else [])
        values = [[finite(value) for value in run.part("per_class")[f"{split}/recall"]] for run in runs]
        if runs and class_names(runs[0]) == names and all(len(recalls) == len(names) for recalls in values):
            array = np.ma.masked_invalid(np.array(values, dtype=float))
            rows[f"{row.place}  {row.configuration.short}"] = array.mean(axis=0).filled(np.nan).tolist()
    return names, rows


def _confusions(analysis: Analysis, split: str) -> list[dict[str, Any]]:
    """The confusion matrix of one run, and its difference from another's."""
    run, versus = analysis.run, analysis.versus
    one, other = _matrix(run, split), _matrix(versus, split)
    if run is None or one is None:
        return []
    names = class_names(run)
    names = names if len(names) == len(one) else [str(place) for place in range(len(one))]
    label = _label(analysis, run)
    errors = one - np.diag(np.diag(one))
    places = [divmod(int(place), len(one)) for place in np.argsort(errors, axis=None)[::-1][:3]]
    confused = ", ".join(f"{names[t]} taken for {names[p]} ({errors[t, p]:.0f})" for t, p in places if errors[t, p] > 0)
    accuracy = np.trace(one) / max(one.sum(), 1)
    text = f"Run {run.path.name}, {title(split + '/accuracy')} {accuracy:.2%} of {int(one.sum()):,} images."
    text += f" Most frequent: {confused}." if confused else ""
    share = _row_shares(one)
    maps = [_heat_map("share of the true class, %", np.sqrt(share), share, _percent, names, names)]
    if len(names) <= MOST_WRITTEN:  # else there are no numbers in the cells
        maps.append(_heat_map("counts", np.sqrt(share), one, _count, names, names))
    found = [{"title": f"Confusion matrix: {label}", "text": text, "maps": maps}]
    if versus is not None and other is not None and other.shape == one.shape:
        text = (f"Shares of {label} (run {run.path.name}) minus those of {_label(analysis, versus)} "
                f"(run {versus.path.name}): on the diagonal blue is better, beside it orange is. "
                "Other runs: --run, --versus.")  # fmt: skip
        change = share - _row_shares(other)
        strength = np.sign(change) * np.sqrt(np.abs(change) / (np.abs(change).max() or 1.0))
        maps = [_heat_map("difference, points", strength, change, _points, names, names)]
        found.append({"title": "Difference between two runs", "text": text, "maps": maps})
    return found


def _row_shares(matrix: np.ndarray) -> np.ndarray:
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
