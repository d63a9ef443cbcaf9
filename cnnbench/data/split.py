"""Stratified splits with a seed of their own, so that they stay the same when the training seed changes."""

from __future__ import annotations

import numpy as np


def stratified(labels: np.ndarray, share: float | int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers so that every class gives the same share.

    Args:
        labels: class of each row, (N,).
        share: a fraction of every class (float in (0, 1)), or how many rows in all (int), shared out by class size.
        seed: of the choice of rows.

    Returns:
        The chosen rows and the others, each sorted, int64. A class with a single row keeps it among the others.
    """
    random = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    wanted = counts * share if isinstance(share, float) else counts * (share / counts.sum())
    take = np.floor(wanted).astype(int)
    # largest remainders bring the total to the requested one
    short = round(wanted.sum()) - take.sum()
    take[np.argsort(take - wanted, kind="stable")[:short]] += 1
    if isinstance(share, float):
        take = np.minimum(np.maximum(take, counts > 1), counts - 1)
    chosen = np.concatenate(
        [random.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, take, strict=True)]
    )
    chosen = np.sort(chosen).astype(np.int64)
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)
