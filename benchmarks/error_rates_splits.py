"""``python -m benchmarks.error_rates_splits``: how often tests over overlapping splits are wrong, in half a minute of numpy.

Two learners each see five features of their own of the same images, and are equally good by symmetry. A learner takes the
means of both classes over its training images (nearest centroid), to which a run adds noise, as another seed does to a
network. So runs share training images, and splits validation images, as they do in a sweep. "Better" is the share of sets
of which a two-sided test at 5% says that one learner is better; "the same" is how often the two one-sided tests say so of a
true difference that just matters. Both should be at most 5%.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from cnnbench.data.imageset import fold_rows, stratified

IMAGES, FEATURES, NOISE, LEVEL = 200, 5, 0.2, 0.05
LABELS = np.arange(IMAGES) % 2
Held = NDArray[np.bool_]  # (splits, images): which are held out to validate


class Differences(NamedTuple):
    """Of the learners' accuracies, (sets, splits, seeds)."""

    val: NDArray[np.float64]  # on the images held out
    test: NDArray[np.float64]  # on endlessly many other images


def five_folds(seed: int) -> Held:
    """``data.folds=5 data.fold='range(5)'``."""
    return np.stack([np.isin(np.arange(IMAGES), fold_rows(LABELS, [], 5, k, seed)[0]) for k in range(5)])


def ten_splits(seed: int) -> Held:
    """``data.split_seed='range(10)'`` with ``data.validation=0.1``."""
    return np.stack([np.isin(np.arange(IMAGES), stratified(LABELS, 0.1, 10 * seed + k)[0]) for k in range(10)])


def draw(random: np.random.Generator, sets: int, held: Held, seeds: int, noise: float, gap: float = 0.0) -> Differences:
    """Train both learners on every split of ``sets`` sets of images; the classes of the second are nearer by ``gap``."""
    shift, sign = np.array([1.0, 1.0 - gap], np.float32), (2 * LABELS - 1).astype(np.float32)
    x = random.standard_normal((sets, IMAGES, 2, FEATURES), np.float32)
    x[..., 0] += sign[:, None] * shift
    means = []
    for label in (0, 1):
        weights = (~held & (label == LABELS)).astype(np.float32)
        means.append(np.einsum("jn,rnld->rjld", weights / weights.sum(axis=1, keepdims=True), x, optimize=True))
    middle, direction = (means[1] + means[0])[:, :, None] / 2, (means[1] - means[0])[:, :, None]
    w = direction + noise * random.standard_normal((*direction.shape[:2], seeds, 2, FEATURES), np.float32)
    b = -(w * middle).sum(axis=-1)
    scores = np.einsum("rjsld,rnld->rjsln", w, x, optimize=True) + b[..., None]
    right = (scores > 0) == (LABELS == 1)
    val = (right & held[:, None, None]).sum(axis=-1) / held.sum(axis=1)[:, None, None]
    size, towards = np.linalg.norm(w, axis=-1), w[..., 0] * shift
    test = (ndtr((towards + b) / size) + ndtr((towards - b) / size)) / 2
    return Differences(val[..., 0] - val[..., 1], (test[..., 0] - test[..., 1]).astype(float))


def shares(differences: NDArray[np.float64], overlap: float, margin: float | None = None) -> tuple[float, float]:
    """How often the paired t test over all runs, and the corrected one, is significant: against no difference, or with
    ``margin`` against one of that size."""
    sets, splits, seeds = differences.shape
    value = differences.mean(axis=(1, 2))
    runs, means = differences.reshape(sets, -1).var(axis=1, ddof=1), differences.mean(axis=2).var(axis=1, ddof=1)
    found = []
    for squared, df in ((runs / (splits * seeds), splits * seeds - 1), (means / splits + overlap * runs, splits - 1)):
        error = np.sqrt(squared)
        p = 2 * stdtr(df, -abs(value) / error) if margin is None else stdtr(df, (abs(value) - margin) / error)
        found.append(float((p < LEVEL).mean()))
    return found[0], found[1]


def simulate(make: Callable[[int], Held], sets: int, seeds: int, noise: float, gap: float = 0.0) -> Differences:
    """``sets`` sets of images, of which twenty share how they are split."""
    random = np.random.default_rng(0)
    drawn = [draw(random, 20, make(seed), seeds, noise, gap) for seed in range(sets // 20)]
    return Differences(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))


def main() -> None:
    """Print the table."""
    designs = {"5 folds": (five_folds, 1 / 4), "10 splits of 10%": (ten_splits, 1 / 9)}
    print(f"{'':<18}{'seeds':>6}{'noise':>7} {'metric':<7}{'better: paired t':>17}{'corrected':>10}"
          f"{'the same: paired t':>20}{'corrected':>10}")  # fmt: skip
    for name, (make, overlap) in designs.items():
        for seeds, noise in ((1, NOISE), (3, NOISE), (1, 0.0)):
            equal, apart = (simulate(make, 2000, seeds, noise, gap) for gap in (0.0, 0.1))
            for metric, null, other in zip(Differences._fields, equal, apart, strict=True):
                better, same = shares(null, overlap), shares(other, overlap, float(abs(other.mean())))
                print(f"{name:<18}{seeds:>6}{noise:>7} {metric:<7}{better[0]:>17.1%}{better[1]:>10.1%}"
                      f"{same[0]:>20.1%}{same[1]:>10.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
