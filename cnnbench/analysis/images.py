"""What a test set's size does to a comparison: other images, and other seeds and images together.

Runs are given as which images they had right, bool (runs, images), all of the same images in the same order. A test over
seeds says nothing about another test set of the same kind, and a test over images nothing about another training; the
resampling of both at once covers the two.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnbench.analysis.statistics import CONFIDENCE, t_quantile

Correct = NDArray[np.bool_]
DRAWS = 10_000
CHUNK = 500  # draws at a time, which bounds the memory


class ImageDifference(NamedTuple):
    """The difference of two accuracies, with what other images would make of it."""

    value: float  # mean over the runs
    low: float  # 95% interval
    high: float
    p: float  # two-sided
    seeds_vary: bool  # whether it covers other seeds too, for which each side needs two


class Spread(NamedTuple):
    """Standard deviations of the accuracy of one configuration."""

    total: float  # between its runs, as seen
    test_set: float  # what runs of equal true accuracy would differ by on so many images
    training: float  # the rest: what they would differ by on endlessly many


def wilson(correct: int, images: int) -> tuple[float, float]:
    """The 95% interval of an accuracy or a recall from the number of images alone (Wilson 1927); of one run it covers
    other images, not another seed.

    >>> [round(limit, 4) for limit in wilson(95, 100)]
    [0.8882, 0.9785]
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first: Correct, second: Correct) -> float:
    """Two-sided p-value of the exact test of two networks on the same images, bool (images,) each (McNemar 1947)."""
    from scipy.stats import binomtest

    better, worse = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def compare_on_images(first: Correct, second: Correct, paired: bool, seed: int = 0) -> ImageDifference:
    """Compare two configurations over other images and, where each has two runs, other seeds at once.

    A bootstrap that draws images and runs independently (Owen 2007, "The pigeonhole bootstrap"), of n runs n - 1, so that
    few runs do not look alike (Rao and Wu 1988); the interval takes its standard error and Student's t, with the degrees of
    freedom after Satterthwaite. Its error is at most the level (tests/analysis/test_images.py).

    Args:
        first, second: bool (runs, images).
        paired: row i of both is of the same seed, and is drawn for both.
        seed: of the draws.
    """
    from scipy.special import stdtr

    sizes, images = (len(first), len(second)), first.shape[1]
    accuracies = [rows.mean(axis=1) for rows in (first, second)]
    value = float(accuracies[0].mean() - accuracies[1].mean())
    patterns, counts = np.unique(np.concatenate([first, second]), axis=1, return_counts=True)
    seeds_vary = min(sizes) > 1
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS // CHUNK):  # drawing images is drawing how many there are of each pattern of right and wrong
        weights = random.multinomial(images, counts / images, size=CHUNK) / images
        right = weights @ patterns.T.astype(float)  # (CHUNK, runs of both)
        sides = np.split(right, [sizes[0]], axis=1)
        if seeds_vary:
            shares = [random.multinomial(n - 1, np.full(n, 1 / n), size=CHUNK) / (n - 1) for n in sizes]
            shares[1] = shares[0] if paired else shares[1]
        else:
            shares = [np.full((CHUNK, n), 1 / n) for n in sizes]
        drawn.append((sides[0] * shares[0]).sum(axis=1) - (sides[1] * shares[1]).sum(axis=1))
    error = float(np.concatenate(drawn).std())
    if not error:  # the same answers to all images
        return ImageDifference(value, value, value, 1.0 if not value else 0.0, seeds_vary)
    df = math.inf
    if seeds_vary:
        samples = [accuracies[0] - accuracies[1]] if paired else accuracies
        parts = [float(sample.var(ddof=1)) / len(sample) for sample in samples]
        if spread := sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True)):
            df = max(error**4 / spread, min(sizes) - 1)
    half = (t_quantile((1 + CONFIDENCE) / 2, df) if df < math.inf else 1.96) * error
    p = 2 * float(stdtr(min(df, 1e9), -abs(value) / error))
    return ImageDifference(value, value - half, value + half, p, seeds_vary)


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
    residual = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0) + cells.mean()
    noise = float((residual**2).sum()) / ((runs - 1) * (images - 1)) / images
    total = float(cells.mean(axis=1).var(ddof=1))
    return Spread(math.sqrt(total), math.sqrt(noise), math.sqrt(max(total - noise, 0.0)))
