"""Looking at a comparison after each round of seeds, with the error of a single look; and what is as good as equal.

The t statistics of 3, 4, 5 ... pairs of runs have a joint distribution that depends on no unknown, so that the level of
each look at which any of them errs in 5 % of cases is found by simulation: Pocock's boundary (Pocock 1977) for Student's t,
and with it intervals that hold at all looks together (Jennison and Turnbull 1989, "Interim analyses: the repeated
confidence interval approach").
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from cnnbench.analysis.statistics import ALPHA, finite_values, is_rounding_error, summarise, t_quantile

Decision = Literal["better", "worse", "practically the same", "undecided"]
DRAWS = 100_000


@lru_cache
def level_of_each_look(looks: tuple[int, ...], alpha: float = ALPHA) -> float:
    """The two-sided level of each t test of so many pairs at which the chance that any rejects what is true is ``alpha``.

    >>> level_of_each_look((3,))  # one look
    0.05
    """
    from scipy.special import stdtr

    if len(looks) == 1:
        return alpha
    pairs = np.random.default_rng(0).standard_normal((DRAWS, max(looks)))
    sums, squares = pairs.cumsum(axis=1), (pairs**2).cumsum(axis=1)
    lowest = np.ones(DRAWS)
    for n in looks:
        mean = sums[:, n - 1] / n
        variance = (squares[:, n - 1] - n * mean**2) / (n - 1)
        np.minimum(lowest, 2 * stdtr(n - 1, -np.abs(mean) / np.sqrt(variance / n)), out=lowest)
    return float(np.quantile(lowest, alpha))


def interval(differences: Sequence[float | None], level: float) -> tuple[float, float] | None:
    """Student's interval for the mean of the pairs' differences at this level; None where they do not vary."""
    sample = finite_values(differences)
    summary = summarise(sample)
    if summary.mean is None or not summary.std or is_rounding_error(max(sample) - min(sample), sample):
        return None
    half = t_quantile(1 - level / 2, summary.n - 1) * summary.std / summary.n**0.5
    return summary.mean - half, summary.mean + half


def decide(limits: tuple[float, float] | None, practical: float, higher_is_better: bool) -> Decision:
    """What an interval of a difference says, where one within ``practical`` makes no difference (two one-sided tests;
    Schuirmann 1987)."""
    if limits is None:
        return "undecided"
    low, high = limits
    if -practical <= low and high <= practical:
        return "practically the same"
    if low > 0 or high < 0:
        return "better" if (low > 0) == higher_is_better else "worse"
    return "undecided"
