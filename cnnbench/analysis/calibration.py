"""How far a network's confidence, the probability of the class that it predicts, is from its accuracy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnnbench.analysis.images import wilson
from cnnbench.analysis.runs import Run

BINS = 15  # of equal width, as ``calibration_error`` of training has them


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
    """The expected calibration error, and of the bins with images their number, mean confidence and accuracy (bins, 3);
    both arguments (N,), in [0, 1] and bool.

    >>> calibrate(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))[0]
    0.43333333333333335
    """
    at = np.minimum((confidence.astype(float) * BINS).astype(int), BINS - 1)
    images, sure, right = (np.bincount(at, of, BINS) for of in (np.ones(len(at)), confidence, correct))
    seen = images > 0
    bins = np.stack([images[seen], sure[seen] / images[seen], right[seen] / images[seen]], axis=1)
    return float(np.abs(sure - right).sum() / len(at)), bins


def calibration(runs: Sequence[Run]) -> Calibration | None:
    """Of a configuration's runs; None where predictions are missing or no probabilities."""
    found: list[dict[str, Any]] = [of for run in runs if (of := run.predictions()) and len(of["true"])]
    sides = [(of["probability_predicted"], of["true"] == of["predicted"]) for of in found]
    if not sides or not all(((sure >= 0) & (sure <= 1)).all() for sure, _ in sides):
        return None
    confidence, correct = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    error = float(np.mean([calibrate(*side)[0] for side in sides]))
    return Calibration(error, calibrate(confidence, correct)[1], len(sides))
