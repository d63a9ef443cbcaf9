"""Folds: equal parts of the train set, each of which is the validation split of one run."""

from collections.abc import Sequence

import numpy as np

from cnnbench.utils.errors import RequestError


def check_folds(folds: int | None, fold: int | None, validation: float | str) -> None:
    """Raises RequestError where these keys do not go together."""
    if folds is None and fold is None and validation != "folds":
        return
    if folds is None:
        raise RequestError("data.fold needs data.folds, how many there are: data.folds=5 data.fold='range(5)'")
    if validation != "folds":
        raise RequestError(
            f"a fold is the validation split: leave out data.folds={folds} or data.validation={validation}"
        )
    if fold is None or fold >= folds:
        raise RequestError(
            f"data.fold must be from 0 to {folds - 1} with data.folds={folds}, got {'null' if fold is None else fold}; "
            f"all: data.fold='range({folds})'"
        )


def stratified_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row, from 0 to ``folds`` - 1, int64 (N,): of every class and in all, no fold has more than one row
    more than another.

    Args:
        labels: class of each row, (N,).
        seed: of the order in which the rows of a class are dealt out.

    >>> np.bincount(stratified_folds(np.repeat([0, 1], [7, 4]), folds=3, seed=0)).tolist()
    [4, 4, 3]
    """
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)])
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def fold_rows(
    labels: np.ndarray, classes: Sequence[str], folds: int, fold: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of one fold, and those of the others; raises RequestError where a class has fewer rows than there are folds."""
    present, counts = np.unique(labels, return_counts=True)
    if folds > (least := counts.min()):
        name = classes[present[counts.argmin()]]
        raise RequestError(f"data.folds={folds} is more than the {least} images of class {name} in the train set")
    held_out = stratified_folds(labels, folds, seed) == fold
    return np.flatnonzero(held_out), np.flatnonzero(~held_out)
