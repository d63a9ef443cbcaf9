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


def fold_rows(
    labels: np.ndarray, classes: Sequence[str], folds: int, fold: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of one fold, and those of the others, in their order; each fold has as many images of a class as the others,
    or one more. Raises RequestError where a class has fewer rows than there are folds."""
    from sklearn.model_selection import StratifiedKFold

    present, counts = np.unique(labels, return_counts=True)
    if folds > (least := counts.min()):
        name = classes[present[counts.argmin()]]
        raise RequestError(f"data.folds={folds} is more than the {least} images of class {name} in the train set")
    others, held_out = [*StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)][fold or 0]
    return held_out, others
