"""What a finite test set does to a comparison: other images, and other seeds and images together; and calibration.

A test over seeds says nothing about another test set of the same kind, and a test over images nothing about another
training; drawing both anew covers the two.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnbench.analysis.runs import Run, by_replicate, overlap_of
from cnnbench.analysis.statistics import paired_by, t_quantile, t_test, variance_of_mean

Correct = NDArray[np.bool_]  # which images runs had right, (runs, images), all of the same ones in the same order
BINS = 15  # of confidence, of equal width, as ``calibration_error`` of training has them


class ImageDifference(NamedTuple):
    """The difference of two accuracies, mean over the runs, with what other images would make of it."""

    value: float
    p_images: float  # two-sided: over other images, of the networks as they are trained
    p: float | None  # over other seeds and images together; None where a side has a single run
    error: float  # standard error, of other seeds too where there is p
    low: float  # 95% interval, likewise
    high: float


class Spread(NamedTuple):
    """Standard deviations of the accuracy of one configuration."""

    total: float  # between its runs, as seen
    test_set: float  # what runs of equal true accuracy would differ by on so many images
    training: float  # the rest: what they would differ by on endlessly many


def wilson(correct: int, images: int) -> tuple[float, float]:
    """The 95% interval of an accuracy or a recall over other images, not another seed (Wilson 1927).

    >>> [round(limit, 4) for limit in wilson(95, 100)]
    [0.8882, 0.9785]
    """
    z = t_quantile(1e12)
    share, shrink = correct / images, 1 + z**2 / images
    half = z * math.sqrt(share * (1 - share) / images + (z / images) ** 2 / 4) / shrink
    centre = (share + z**2 / images / 2) / shrink
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mcnemar(first: Correct, second: Correct) -> float:
    """Two-sided p-value of the exact test of two networks on the same images, bool (images,) each (McNemar 1947)."""
    from scipy.stats import binomtest

    better, worse = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def compare_on_images(
    first: NDArray, second: NDArray, paired: bool, splits: Sequence[Sequence[Hashable]] = ((), ()), overlap: float = 0.0
) -> ImageDifference:
    """Compare two configurations over other images and, where each has two runs, other seeds too.

    The standard error is that of the bootstrap which draws images and runs independently (Owen 2007, "The pigeonhole
    bootstrap"), of n runs n - 1, so that few runs do not look alike (Rao and Wu 1988). Of a difference of means it has a
    closed form, so that nothing is drawn. With Student's t and the degrees of freedom after Satterthwaite, and no p-value
    below that over seeds alone, false differences are at most 5 % (tests/analysis/test_images.py).
    ``first`` and ``second`` are (runs, images), right or wrong or a share that was right, ``paired`` where row i of both is
    of the same seed; of runs on several splits ``splits`` has that of each row, and ``overlap`` is as for
    ``variance_of_mean``.
    """
    one, two = first.astype(float), second.astype(float)
    by_image = one.mean(axis=0) - two.mean(axis=0)
    value, images = float(by_image.mean()), len(by_image)
    parts = [(float(by_image.var()) / images, math.inf)]  # variances of the mean with their degrees of freedom
    others = t_test(value, parts)
    runs_vary = min(len(set(of)) if overlap else len(side) for side, of in zip((one, two), splits, strict=True)) > 1
    for side, of in zip([one - two] if paired else [one, two], splits, strict=False) if runs_vary else ():
        parts.append(variance_of_mean(side.mean(axis=1).tolist(), of, overlap))
        parts.append((_interaction(side) / (len(side) * (len(side) - 1) * images**2), math.inf))
    # a few runs of one kind may have small degrees of freedom, which the images' endless ones would hide
    both = max(t_test(value, parts), t_test(value, parts[1::2]), key=lambda test: test.p) if runs_vary else others
    return ImageDifference(value, others.p, both.p if runs_vary else None, both.error, both.low, both.high)


def compare_runs(first: Sequence[Run], second: Sequence[Run]) -> ImageDifference | None:
    """The same from two configurations' runs, paired as ``compare`` pairs them; None without predictions of the same
    images."""
    overlap = overlap_of([*first, *second])
    one, two = by_replicate(first, overlap), by_replicate(second, overlap)
    shared = paired_by(one, two)
    sides = [{key: side[key] for key in shared or side} for side in (one, two)]
    if (correct := correct_answers([run for side in sides for of in side.values() for run in of])) is None:
        return None
    rows = iter(correct)
    left, right = (np.stack([np.mean([next(rows) for _ in of], axis=0) for of in side.values()]) for side in sides)
    return compare_on_images(left, right, bool(shared), [[split for _, split in side] for side in sides], overlap)


def correct_answers(runs: Sequence[Run]) -> Correct | None:
    """Which test images each run had right; None where predictions are missing or of other images."""
    known = [predictions for run in runs if (predictions := run.predictions())]
    is_known = len(known) == len(runs) and same_images(known)
    return np.stack([of["true"] == of["predicted"] for of in known]) if is_known else None


def same_images(predictions: Sequence[dict[str, np.ndarray]]) -> bool:
    """Whether these are of the same images, as far as their numbers in the set and their classes tell."""
    return all(np.array_equal(of[name], predictions[0][name]) for of in predictions for name in ("row", "true"))


def split_spread(correct: Correct) -> Spread | None:
    """How much of the spread between the runs of a configuration is the finite test set and how much the training.

    Two-way analysis of variance of right and wrong by run and image: what varies neither with the run nor with the image
    alone is the test set's part (Jordan 2023, "Calibrated chaos", arXiv 2304.01910). None for a single run.

    >>> split_spread(np.array([[True, False], [False, True]]))
    Spread(total=0.0, test_set=0.7071067811865476, training=0.0)
    """
    runs, images = correct.shape
    if runs < 2 or images < 2:
        return None
    cells = correct.astype(float)
    noise = _interaction(cells) / ((runs - 1) * (images - 1)) / images
    total = float(cells.mean(axis=1).var(ddof=1))
    return Spread(math.sqrt(total), math.sqrt(noise), math.sqrt(max(total - noise, 0.0)))


def _interaction(cells: NDArray[np.float64]) -> float:
    """The sum of squares of what varies neither with the row nor with the column alone."""
    return float(((cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0) + cells.mean()) ** 2).sum())


class Calibration(NamedTuple):
    """Of a configuration on the test set: means over its runs, and the bins of all of their answers."""

    error: float  # expected calibration error (Guo et al. 2017, equation 3)
    bins: np.ndarray  # (bins, 3): images, mean confidence, accuracy
    runs: int

    def interval(self, images: float, accuracy: float) -> tuple[float, float]:
        """The 95% interval of a bin's accuracy from its images, which all runs share."""
        count = max(round(images / self.runs), 1)
        return wilson(round(accuracy * count), count)

    def mean(self, column: int) -> float:
        """Mean confidence (1) or accuracy (2) over all answers."""
        return float(np.average(self.bins[:, column], weights=self.bins[:, 0]))


def calibrate(confidence: np.ndarray, correct: np.ndarray) -> tuple[float, np.ndarray]:
    """The expected calibration error, and ``Calibration.bins``, of a confidence in [0, 1] and bool, (N,) each.

    >>> calibrate(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))[0]
    0.43333333333333335
    """
    at = np.minimum((confidence.astype(float) * BINS).astype(int), BINS - 1)
    sums = np.stack([np.bincount(at, of, BINS) for of in (np.ones(len(at)), confidence, correct)], axis=1)
    images, sure, right = sums[sums[:, 0] > 0].T
    return float(np.abs(sure - right).sum() / len(at)), np.stack([images, sure / images, right / images], axis=1)


def calibration(runs: Sequence[Run]) -> Calibration | None:
    """Of a configuration's runs; None where predictions are missing or no probabilities."""
    found: list[dict[str, Any]] = [of for run in runs if (of := run.predictions()) and len(of["true"])]
    sides = [(of["probability_predicted"], of["true"] == of["predicted"]) for of in found]
    if not sides or not all(((sure >= 0) & (sure <= 1)).all() for sure, _ in sides):
        return None
    _, bins = calibrate(*map(np.concatenate, zip(*sides, strict=True)))
    return Calibration(float(np.mean([calibrate(*side)[0] for side in sides])), bins, len(sides))
