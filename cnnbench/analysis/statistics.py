"""The statistics of a comparison, as pure functions of numbers.

What is not finite is left out, and what cannot be estimated is None instead of a number that looks like an answer.
``scipy.stats`` takes long to import, so it is imported where a test needs it: a leaderboard has intervals alone.
"""

import math
import warnings
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, mean, stdev
from typing import Any, Literal, NamedTuple

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 1000  # beyond it the answer is "more than"

Verdict = Literal["better", "worse", "no difference shown", "practically the same", "undecided"]
Method = Literal["paired t", "Welch t", "exact permutation", "none"]


class Summary(NamedTuple):
    """A sample in five numbers; ``std``, ``low`` and ``high`` are None where n < 2, and all but n where n = 0."""

    n: int
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """A sample against another."""

    value: float | None = None  # difference of the means, over the pairs where they are paired
    low: float | None = None  # 95% interval, not corrected for several comparisons; None without spread or where n < 2
    high: float | None = None
    effect: float | None = None  # Hedges' g; None where it cannot be estimated
    p: float | None = None  # two-sided, not corrected
    method: Method = "none"  # of p and the interval
    n: int = 0  # pairs, or runs of the smaller sample
    sd: float | None = None  # of the pairs' differences, or of a run (root of the mean of both variances)
    df: float | None = None  # degrees of freedom of a t test

    def p_not_within(self, practical: float) -> float | None:
        """The p-value against a true difference of ``practical`` or more, either way: that of the two one-sided t tests
        (Schuirmann 1987); None where there is no t test."""
        if self.df is None or self.low is None or self.high is None or self.value is None:
            return None
        from scipy.special import stdtr

        error = (self.high - self.low) / 2 / t_quantile((1 + CONFIDENCE) / 2, self.df)
        return float(stdtr(self.df, (abs(self.value) - practical) / error))


def to_number(value: Any) -> float | None:
    """``value`` as a float, or None where it is no finite number (missing, null, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def finite_values(values: Iterable[Any]) -> list[float]:
    """The finite numbers among ``values``."""
    return [number for number in map(to_number, values) if number is not None]


def finite_mean(values: Iterable[Any]) -> float | None:
    """The mean of the finite numbers among ``values``, or None where there are none."""
    known = finite_values(values)
    return mean(known) if known else None


def is_rounding_error(amount: float, values: Iterable[float]) -> bool:
    """Whether ``amount`` is no more than rounding leaves of a difference between ``values``."""
    return abs(amount) <= 1e-12 * max(map(abs, values), default=0.0)


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def summarise(values: Iterable[float | None]) -> Summary:
    """Mean, sample standard deviation and Student-t interval for the mean (Student 1908)."""
    sample = finite_values(values)
    n = len(sample)
    if n < 2:
        return Summary(n, *sample)
    centre = fmean(sample) if min(sample) < max(sample) else sample[0]  # equal values have no spread, not rounding's
    std = math.dist(sample, [centre] * n) / math.sqrt(n - 1)  # 20 times as fast as stdev, for thousands of runs
    half = t_quantile((1 + CONFIDENCE) / 2, n - 1) * std / math.sqrt(n)
    return Summary(n, centre, std, centre - half, centre + half)


def compare(sample: Mapping[Hashable, float | None], other: Mapping[Hashable, float | None]) -> Difference:
    """The difference between two configurations, each given as {seed: value}.

    Paired by seed (Student 1908) where at least two seeds, and at least half of the smaller sample, are shared; else
    Welch's test for unequal variances (Welch 1947). Where nothing varies, a t test would divide by zero: the p-value is
    then that of the exact permutation test (Fisher 1935), which cannot be small when there are few runs.
    """
    from scipy.stats import ttest_ind, ttest_rel

    first, second = ({seed: v for seed, v in s.items() if to_number(v) is not None} for s in (sample, other))
    shared = [seed for seed in first if seed in second]
    is_paired = len(shared) >= 2 and 2 * len(shared) >= min(len(first), len(second))
    one, two = (finite_values(s[seed] for seed in (shared if is_paired else s)) for s in (first, second))
    n = min(len(one), len(two))
    if not n:
        return Difference()
    differences = [a - b for a, b in zip(one, two, strict=True)] if is_paired else []
    value = mean(differences) if is_paired else mean(one) - mean(two)
    if n < 2:
        return Difference(value, n=n)
    effect = hedges_g(one, two)
    if all(is_rounding_error(max(s) - min(s), [*one, *two]) for s in ([differences] if is_paired else [one, two])):
        # as likely as the outcome seen, of all assignments of signs or of runs to samples
        ways = 2**n / 2 if is_paired else math.comb(len(one) + len(two), n) / (2 if len(one) == len(two) else 1)
        p = 1.0 if is_rounding_error(value, [*one, *two]) else 1 / ways
        return Difference(value, effect=effect, p=p, method="exact permutation", n=n, sd=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy's, of one sample without spread, which is allowed here
        test = ttest_rel(one, two) if is_paired else ttest_ind(one, two, equal_var=False)
    low, high = map(float, test.confidence_interval(CONFIDENCE))
    sd = stdev(differences) if is_paired else _mean_sd(one, two)
    method: Method = "paired t" if is_paired else "Welch t"
    return Difference(value, low, high, effect, float(test.pvalue), method, n, sd, float(test.df))


def _mean_sd(one: Sequence[float], two: Sequence[float]) -> float:
    """The root of the mean of the two variances."""
    return math.sqrt((stdev(one) ** 2 + stdev(two) ** 2) / 2)


def hedges_g(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Standardised difference with the exact small-sample correction J (Hedges 1981).

    The standardiser is the root of the mean of the two variances (Bonett 2008), for paired and unpaired runs alike, so
    that the effects of different configurations compare. None where a sample has one value or nothing varies.
    """
    if min(len(one), len(two)) < 2 or all(is_rounding_error(max(s) - min(s), s) for s in (one, two)):
        return None
    df = len(one) + len(two) - 2
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return correction * (mean(one) - mean(two)) / _mean_sd(one, two)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted so that the chance of any false "different" stays at the level (Holm 1979).

    A missing p-value stays missing and does not count as a comparison.
    """
    order = sorted((p, at) for at, p in enumerate(p_values) if p is not None and math.isfinite(p))
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for smaller, (p, at) in enumerate(order):
        adjusted[at] = highest = max(highest, min(1.0, (len(order) - smaller) * p))
    return adjusted


def verdict(
    value: float | None, adjusted_p: float | None, higher_is_better: bool, p_not_within: float | None = 1.0
) -> Verdict:
    """The word for a difference: it is "better" or "worse" only where the corrected p-value is below 0.05.

    With ``p_not_within``, corrected too, it is first asked whether the difference is too small to matter.
    """
    if p_not_within is not None and p_not_within < ALPHA:
        return "practically the same"
    if value is None or adjusted_p is None or adjusted_p >= ALPHA or value == 0:
        return "no difference shown"
    return "better" if (value > 0) == higher_is_better else "worse"


def verdicts(
    differences: Sequence[Difference], higher_is_better: bool, practical: float | None = None
) -> list[tuple[float | None, Verdict]]:
    """For each of several comparisons its p-value, corrected by Holm's method over all, and the word for it.

    Args:
        practical: the largest difference that does not matter.
    """
    adjusted = holm([d.p for d in differences])
    same = holm([None if practical is None else d.p_not_within(practical) for d in differences])
    words = [verdict(d.value, p, higher_is_better, s) for d, p, s in zip(differences, adjusted, same, strict=True)]
    unknown: Verdict = "no difference shown" if practical is None else "undecided"
    return [(p, unknown if w == "no difference shown" else w) for p, w in zip(adjusted, words, strict=True)]


def power(difference: float, sd: float, n: int, is_paired: bool, alpha: float = ALPHA) -> float:
    """Chance that a two-sided t test of ``n`` pairs (or n runs a side) shows a true ``difference`` (Cohen 1988).

    ``sd`` is of the pairs' differences, or of a run. (``statsmodels.stats.power`` answers NaN for large effects.)
    """
    from scipy.stats import nct

    df = n - 1 if is_paired else 2 * (n - 1)
    noncentrality = abs(difference) / sd * math.sqrt(n if is_paired else n / 2)
    chance = float(nct.sf(t_quantile(1 - alpha / 2, df), df, noncentrality))
    return 1.0 if math.isnan(chance) else chance  # an older SciPy's answer to a large noncentrality


def seeds_needed(difference: float, sd: float | None, is_paired: bool, alpha: float = ALPHA) -> int | None:
    """Fewest seeds a side, at least 2, with which a true ``difference`` is shown with a power of 0.8.

    ``MOST_SEEDS + 1`` stands for more than that; None where ``sd`` is unknown or zero, or the difference is zero.
    """
    if sd is None or not to_number(sd) or not to_number(difference):
        return None
    counts = range(2, MOST_SEEDS + 1)  # power grows with n
    return 2 + bisect_left(counts, POWER, key=lambda n: power(difference, sd, n, is_paired, alpha))


def smallest_difference(sd: float, n: int, alpha: float = ALPHA) -> float:
    """The true difference of two configurations, ``n`` runs each of standard deviation ``sd``, that a two-sample t test
    shows with a power of 0.8.

    >>> round(smallest_difference(0.01, 5), 4)
    0.0203
    """
    from scipy.optimize import brentq

    return float(sd * brentq(lambda effect: power(effect, 1.0, n, False, alpha) - POWER, 0, 100))


def std_interval(std: float, n: int) -> tuple[float, float]:
    """The 95% interval of the standard deviation of ``n`` values, by the chi-square distribution."""
    from scipy.special import chdtri

    low, high = (math.sqrt((n - 1) / chdtri(n - 1, tail)) for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return std * low, std * high


def pareto_front(points: Sequence[tuple[float | None, float | None]], higher: bool) -> list[int]:
    """Indices of the (cost, quality) points that no other point matches at less cost or betters at the same."""
    known = [(c, -q if higher else q, i) for i, (c, q) in enumerate(points) if c is not None and q is not None]
    front: list[int] = []
    best = math.inf
    for _, quality, i in sorted(known):
        if quality < best:
            front.append(i)
            best = quality
    return front
