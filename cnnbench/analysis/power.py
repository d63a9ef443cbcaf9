"""How many runs show a difference, and which difference so many runs show."""

import math
from bisect import bisect_left

from cnnbench.analysis.statistics import ALPHA, t_quantile, to_number

POWER = 0.8
MOST_SEEDS = 1000  # beyond it the answer is "more than"


def power(difference: float, sd: float, n: int, is_paired: bool, alpha: float = ALPHA, floor: float = 0.0) -> float:
    """Chance that a two-sided t test of ``n`` pairs (or n runs a side) shows a true ``difference`` (Cohen 1988).

    ``sd`` is of the pairs' differences, or of a run; ``floor`` is a part of the variance that does not fall with n.
    (``statsmodels.stats.power`` answers NaN for large effects.)
    """
    from scipy.stats import nct  # ``statsmodels.stats.power`` answers NaN for large effects

    df = n - 1 if is_paired else 2 * (n - 1)
    noncentrality = abs(difference) / math.sqrt(sd**2 / (n if is_paired else n / 2) + floor)
    chance = float(nct.sf(t_quantile(df, alpha), df, noncentrality))
    return 1.0 if math.isnan(chance) else chance  # an older SciPy's answer to a large noncentrality


def seeds_needed(
    size: float, sd: float | None, is_paired: bool, alpha: float = ALPHA, floor: float = 0.0
) -> int | None:
    """Fewest seeds a side, or splits, at least 2, that show a true difference of ``size`` with a power of 0.8;
    ``MOST_SEEDS + 1`` stands for more than that, None where ``sd`` is unknown or zero, or ``size`` is zero."""
    if sd is None or not to_number(sd) or not to_number(size):
        return None
    counts = range(2, MOST_SEEDS + 1)  # power grows with n
    return 2 + bisect_left(counts, POWER, key=lambda n: power(size, sd, n, is_paired, alpha, floor))


def smallest_difference(sd: float, n: int, alpha: float = ALPHA) -> float:
    """The true difference of two configurations, ``n`` runs each of standard deviation ``sd``, that a two-sample t test
    shows with a power of 0.8.

    >>> round(smallest_difference(0.01, 5), 4)
    0.0202
    """
    from scipy.optimize import brentq

    return float(sd * brentq(lambda effect: power(effect, 1.0, n, False, alpha) - POWER, 0, 100))
