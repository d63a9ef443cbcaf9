"""How far a network's confidence, the probability of the class that it predicts, is from its accuracy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnnbench.analysis.images import wilson
from cnnbench.analysis.runs import Run

BINS = 15  # of equal width, as ``calibration_error`` of training has them


class Bin(NamedTuple):
    """The images with a confidence in some range."""

    images: int
    confidence: float  # mean
    accuracy: float


class Calibration(NamedTuple):
    """Of a configuration: the means over its runs, and the bins of all of their answers."""

    error: float  # expected calibration error (Guo et al. 2017, equation 3)
    confidence: float
    accuracy: float
    bins: list[Bin]  # those with images
    runs: int

    def interval(self, of: Bin) -> tuple[float, float]:
        """The 95% interval of a bin's accuracy from its images, which all runs share."""
        images = max(of.images // self.runs, 1)
        return wilson(round(of.accuracy * images), images)


def calibrate(confidence: np.ndarray, correct: np.ndarray) -> tuple[float, list[Bin]]:
    """The expected calibration error and the bins with images; both arguments (N,), in [0, 1] and bool.

    >>> calibrate(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))[0]
    0.43333333333333335
    """
    confidence = confidence.astype(float)
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    chosen = [at == number for number in range(BINS) if (at == number).any()]
    bins = [Bin(int(of.sum()), float(confidence[of].mean()), float(correct[of].mean())) for of in chosen]
    return sum(of.images * abs(of.accuracy - of.confidence) for of in bins) / len(at), bins


def calibration(runs: Sequence[Run]) -> Calibration | None:
    """Of a configuration's runs on the test set; None where predictions are missing or not finite."""
    found = [predictions for run in runs if (predictions := run.predictions())]
    sides = [(p["probability_predicted"], p["true"] == p["predicted"]) for p in found if len(p["true"])]
    if not sides or any(not np.isfinite(confidence).all() for confidence, _ in sides):
        return None
    errors = [calibrate(*side)[0] for side in sides]
    confidence, correct = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    error, sure, right = (float(np.mean(values)) for values in (errors, confidence, correct))
    return Calibration(error, sure, right, calibrate(confidence, correct)[1], len(sides))
