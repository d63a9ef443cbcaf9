"""The statistics of a comparison, as pure functions of numbers.

What is not finite is left out, and what cannot be estimated is None instead of a number that looks like an answer.
``scipy.stats`` takes long to import, so it is imported where a test needs it: a leaderboard has intervals alone.
"""

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from statistics import fmean, mean, variance
from typing import Any, Literal, NamedTuple

CONFIDENCE = 0.95
LARGEST = 1e100  # of a measured value; sums of squares of larger ones are no numbers
ALPHA = 0.05
Verdict = Literal["better", "worse", "no difference shown", "practically the same", "undecided"]
Method = Literal["paired t", "Welch t", "corrected paired t", "corrected Welch t", "exact permutation", "none"]
Variance = tuple[float, float]  # and its degrees of freedom


class Summary(NamedTuple):
    """A sample in five numbers; ``std`` and the 95% interval are None where n < 2, the interval too where all values are
    equal, of which no t can be told, and the mean where n = 0."""

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
    n: int = 0  # pairs, or runs of the smaller sample; of several splits how many these are
    sd: float | None = None  # of the pairs' differences, or of a run (root of the mean of both variances)
    df: float | None = None  # degrees of freedom of a t test
    error: float | None = None  # standard error of a t test
    overlap: float = 0.0  # of the splits, as for ``variance_of_mean``; 0 where all runs are on one
    floor: float = 0.0  # part of error squared that more splits of the same images do not lower

    def p_not_within(self, practical: float) -> float | None:
        """The p-value of the two one-sided t tests against a true difference of ``practical`` or more (Schuirmann 1987)."""
        if self.df is None or self.error is None or self.value is None:
            return None
        from scipy.special import stdtr

        return float(stdtr(self.df, (abs(self.value) - practical) / self.error))


class TTest(NamedTuple):
    """Student's t for a difference: standard error, degrees of freedom, two-sided p-value and 95% interval."""

    error: float
    df: float
    p: float
    low: float
    high: float


def to_number(value: Any) -> float | None:
    """``value`` as a float, or None where it is none, or none that is measured (missing, null, NaN, text, 1e300)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < LARGEST else None


def finite_values(values: Any) -> list[float]:
    """The finite numbers among ``values``; none in what is no collection."""
    return [number for number in map(to_number, values) if number is not None] if isinstance(values, Iterable) else []


def finite_mean(values: Iterable[Any]) -> float | None:
    """The mean of the finite numbers among ``values``, or None where there are none."""
    known = finite_values(values)
    return mean(known) if known else None


def is_rounding_error(amount: float, values: Iterable[float]) -> bool:
    """Whether ``amount`` is no more than rounding leaves of a difference between ``values``."""
    return abs(amount) <= 1e-12 * max(map(abs, values), default=0.0)


def places(values: Iterable[float | None], highest_first: bool) -> dict[float | None, int]:
    """The place of each value, the best 0 and None last; where they differ by rounding alone, it is the same."""
    known = sorted({value for value in values if value is not None}, reverse=highest_first)
    steps = (not is_rounding_error(one - other, (one, other)) for one, other in pairwise(known))
    return {**dict(zip(known, accumulate(steps, initial=0), strict=False)), None: len(known)}


def t_quantile(df: float, alpha: float = ALPHA) -> float:
    """Half-width of a two-sided interval at the level ``alpha``, in standard errors, by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 1 - alpha / 2))


@lru_cache
def tukey_quantile(count: int, df: float) -> float:
    """Half-width of a 95% interval for the extreme pair of ``count`` means, in standard errors of a difference (Tukey 1953);
    of two it is that of Student's t."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(CONFIDENCE, count, df)) / math.sqrt(2)


def summarise(values: Iterable[float | None], splits: Iterable[Hashable] = (), overlap: float = 0.0) -> Summary:
    """Mean, sample standard deviation and Student-t interval for the mean (Student 1908).

    Of runs on several splits, ``splits`` has that of each, and ``overlap`` is as for ``variance_of_mean``.
    """
    sample = finite_values(found := list(values))
    if (n := len(sample)) < 2:
        return Summary(n, *sample)
    if is_rounding_error(max(sample) - min(sample), sample):  # equal values have no spread, not rounding's
        return Summary(n, sample[0], 0.0)
    centre = fmean(sample)
    std = math.dist(sample, [centre] * n) / math.sqrt(n - 1)  # 20 times as fast as stdev, for thousands of runs
    squared, df = std**2 / n, n - 1.0
    if overlap:
        own = [split for split, value in zip(splits, found, strict=True) if to_number(value) is not None]
        if len(set(own)) < 2:
            return Summary(n, centre, std)
        squared, df = variance_of_mean(sample, own, overlap)
    half = t_quantile(df) * math.sqrt(squared)
    return Summary(n, centre, std, centre - half, centre + half)


def variance_of_mean(values: Sequence[float], splits: Sequence[Hashable] = (), overlap: float = 0.0) -> Variance:
    """The variance of the mean of two or more runs, which are independent, or of two or more splits.

    Splits of one set share images, so that the variance of a mean over J of them is not 1/J of theirs but 1/J + ``overlap``,
    the images held out over those trained on: the corrected resampled t test (Nadeau and Bengio 2003; of folds Bouckaert
    and Frank 2004). The runs of a split are one observation, their mean. The second part takes the variance of single runs,
    because averaging over seeds takes away the training's noise but not what the splits share.
    """
    if not overlap:
        return variance(values) / len(values), len(values) - 1
    by_split: dict[Hashable, list[float]] = {}
    for value, split in zip(values, splits, strict=True):
        by_split.setdefault(split, []).append(value)
    means = [fmean(of) for of in by_split.values()]
    return variance(means) / len(means) + overlap * variance(values), len(means) - 1


def t_test(value: float, parts: Sequence[Variance]) -> TTest:
    """The test of ``value`` against 0, whose variance is the sum of ``parts``, with their degrees of freedom together after
    Satterthwaite 1946."""
    from scipy.special import stdtr

    squared = sum(part for part, _ in parts)
    spread = sum((part / squared) ** 2 / df for part, df in parts) if squared else 0.0  # in no unit
    error, df = math.sqrt(squared), 1 / spread if spread else 1e9
    p = 2 * float(stdtr(df, -abs(value) / error)) if error else float(not value)
    half = t_quantile(df) * error
    return TTest(error, df, p, value - half, value + half)


def paired_by(first: Collection[Any], second: Collection[Any]) -> list[Any]:
    """The keys that two samples share, where these are two or more and at least half of the smaller one; else none."""
    shared = [key for key in first if key in second]
    return shared if len(shared) >= 2 and 2 * len(shared) >= min(len(first), len(second)) else []


def compare(sample: Mapping[Any, float | None], other: Mapping[Any, float | None], overlap: float = 0.0) -> Difference:
    """The difference between two configurations, each given as {seed: value}.

    Paired by seed (Student 1908) where ``paired_by`` says so, else Welch's test for unequal variances (Welch 1947). Where
    nothing varies, a t test would divide by zero: the p-value is then that of the exact permutation test (Fisher 1935),
    which cannot be small when there are few runs. Of runs on several splits, ``overlap`` is as for ``variance_of_mean``,
    and the keys are (seed, split).
    """
    first, second = ({seed: v for seed, v in s.items() if to_number(v) is not None} for s in (sample, other))
    if not first or not second:
        return Difference()
    is_paired = bool(shared := paired_by(first, second))
    keys = [shared, shared] if is_paired else [[*first], [*second]]
    one, two = (finite_values(map(s.get, of)) for s, of in zip((first, second), keys, strict=True))
    splits = [[key[1] for key in of] if overlap else [*of] for of in keys]  # otherwise each run stands for itself
    n = min(len(set(of)) for of in splits)
    sides = [[a - b for a, b in zip(one, two, strict=True)]] if is_paired else [one, two]
    value = mean(sides[0]) if is_paired else mean(one) - mean(two)
    value = 0.0 if is_rounding_error(value, [*one, *two]) else value
    if n < 2:
        return Difference(value, n=n, overlap=overlap)
    effect = hedges_g(one, two)
    if all(is_rounding_error(max(side) - min(side), [*one, *two]) for side in sides):
        # as likely as the outcome seen, of all assignments of signs or of runs to samples
        count = sum(len(set(of)) for of in splits)
        ways = 2**n / 2 if is_paired else math.comb(count, n) / (2 if count == 2 * n else 1)
        p = 1 / ways if value else 1.0
        return Difference(value, effect=effect, p=p, method="exact permutation", n=n, sd=0.0, overlap=overlap)
    parts = [variance_of_mean(side, of, overlap) for side, of in zip(sides, splits, strict=False)]
    test = t_test(value, parts)
    floors = [overlap * variance(side) for side in sides]
    sd = math.sqrt(fmean(max(part - floor, 0.0) * (df + 1) for (part, df), floor in zip(parts, floors, strict=True)))
    plain: Method = "paired t" if is_paired else "Welch t"
    corrected: Method = "corrected paired t" if is_paired else "corrected Welch t"
    return Difference(value, test.low, test.high, effect, test.p, corrected if overlap else plain, n, sd, test.df,
                      test.error, overlap, sum(floors))  # fmt: skip


def hedges_g(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Standardised difference with the exact small-sample correction J (Hedges 1981).

    The standardiser is the root of the mean of the two variances (Bonett 2008), for paired and unpaired runs alike, so
    that the effects of different configurations compare. None where a sample has one value or nothing varies.
    """
    if min(len(one), len(two)) < 2 or all(is_rounding_error(max(s) - min(s), s) for s in (one, two)):
        return None
    df = len(one) + len(two) - 2
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return correction * (mean(one) - mean(two)) / math.sqrt((variance(one) + variance(two)) / 2)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted so that the chance of any false "different" stays at the level (Holm 1979); None stays None."""
    order = sorted((p, at) for at, p in enumerate(p_values) if p is not None and math.isfinite(p))
    steps = accumulate((min(1.0, (len(order) - at) * p) for at, (p, _) in enumerate(order)), max)
    adjusted = {at: p for (_, at), p in zip(order, steps, strict=True)}
    return [adjusted.get(at) for at in range(len(p_values))]


def verdict(
    value: float | None, p: float | None, higher_is_better: bool, p_not_within: float | None = 1.0,
    unknown: Verdict = "no difference shown",
) -> Verdict:  # fmt: skip
    """The word for a difference: it is "better" or "worse" only where the corrected p-value is below 0.05. With
    ``p_not_within``, corrected too, it is first asked whether the difference is too small to matter."""
    if p_not_within is not None and p_not_within < ALPHA:
        return "practically the same"
    if value is None or p is None or p >= ALPHA or value == 0:
        return unknown
    return "better" if (value > 0) == higher_is_better else "worse"


def verdicts(
    differences: Sequence[Difference], higher_is_better: bool, practical: float | None = None
) -> list[tuple[float | None, Verdict]]:
    """For each of several comparisons its p-value, corrected by Holm's method over all, and the word for it, where
    differences up to ``practical`` do not matter."""
    adjusted = holm([d.p for d in differences])
    same = holm([None if practical is None else d.p_not_within(practical) for d in differences])
    unknown: Verdict = "no difference shown" if practical is None else "undecided"
    judged = zip(differences, adjusted, same, strict=True)
    return [(p, verdict(d.value, p, higher_is_better, within, unknown)) for d, p, within in judged]


def std_interval(std: float, n: int) -> tuple[float, float]:
    """The 95% interval of the standard deviation of ``n`` values, by the chi-square distribution."""
    from scipy.special import chdtri

    low, high = (math.sqrt((n - 1) / chdtri(n - 1, tail)) for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return std * low, std * high
