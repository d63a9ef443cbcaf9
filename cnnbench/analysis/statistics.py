"""The statistics of a comparison, as pure functions of numbers.

Everything here takes plain sequences, leaves out what is not finite, and returns None where a number cannot be
estimated, instead of one that looks like an answer. The distributions are ``scipy.special``'s, which import fast; ``scipy.stats`` is
imported only to plan seeds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Literal

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 1000  # beyond it the answer is "more than"

Verdict = Literal["better", "worse", "no difference shown"]
Method = Literal["paired t", "Welch t", "exact permutation", "none"]


@dataclass(frozen=True)
class Summary:
    """A sample in five numbers; ``std``, ``low`` and ``high`` are None where n < 2, and all but n where n = 0."""

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A sample against another.

    Attributes:
        value: mean of the one minus mean of the other, over the pairs where they are paired.
        low, high: 95% interval, not corrected for the number of comparisons; None where there is no spread or n < 2.
        effect: Hedges' g; None where it cannot be estimated.
        p: two-sided, not corrected.
        method: of ``p`` and the interval.
        n: pairs, or runs of the smaller sample.
        sd: standard deviation of the pairs' differences, or of a run (root of the mean of both variances).
    """

    value: float | None
    low: float | None
    high: float | None
    effect: float | None
    p: float | None
    method: Method
    n: int
    sd: float | None


NO_DIFFERENCE = Difference(None, None, None, None, None, "none", 0, None)


def to_number(value: Any) -> float | None:
    """``value`` as a float, or None where it is no finite number (missing, null, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def finite_values(values: Iterable[Any]) -> list[float]:
    """The finite numbers among ``values``."""
    return [number for number in map(to_number, values) if number is not None]


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def t_two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) of Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))


def summarise(values: Sequence[float | None]) -> Summary:
    """Mean, sample standard deviation and Student-t interval for the mean (Student 1908)."""
    sample = finite_values(values)
    if not sample:
        return Summary(0, None, None, None, None)
    centre = mean(sample)
    if len(sample) == 1:
        return Summary(1, centre, None, None, None)
    std = stdev(sample)
    half = t_quantile((1 + CONFIDENCE) / 2, len(sample) - 1) * std / math.sqrt(len(sample))
    return Summary(len(sample), centre, std, centre - half, centre + half)


def compare(sample: Mapping[Hashable, float | None], other: Mapping[Hashable, float | None]) -> Difference:
    """The difference between two configurations, each given as {seed: value}.

    Paired by seed (Student 1908) where at least two seeds, and at least half of the smaller sample, are shared; else
    Welch's test for unequal variances (Welch 1947). Where nothing varies, a t test would divide by zero: the p-value is
    then that of the exact permutation test (Fisher 1935), which cannot be small when there are few runs.
    """
    one = {seed: v for seed, v in sample.items() if v is not None and math.isfinite(v)}
    two = {seed: v for seed, v in other.items() if v is not None and math.isfinite(v)}
    shared = [seed for seed in one if seed in two]
    if len(shared) >= 2 and 2 * len(shared) >= min(len(one), len(two)):
        return paired([one[seed] for seed in shared], [two[seed] for seed in shared])
    return welch(list(one.values()), list(two.values()))


def paired(one: Sequence[float], two: Sequence[float]) -> Difference:
    """Paired t test and interval (Student 1908); values of the same place belong together; n >= 2."""
    differences = [a - b for a, b in zip(one, two, strict=True)]
    n, value = len(differences), mean(differences)
    if _no_spread(differences, [*one, *two]):
        p = 1.0 if _zero(value, [*one, *two]) else 2.0 ** (1 - n)  # all 2^n assignments of signs
        return Difference(value, None, None, hedges_g(one, two), p, "exact permutation", n, 0.0)
    sd = stdev(differences)
    error = sd / math.sqrt(n)
    half = t_quantile((1 + CONFIDENCE) / 2, n - 1) * error
    p = t_two_sided(value / error, n - 1)
    return Difference(value, value - half, value + half, hedges_g(one, two), p, "paired t", n, sd)


def welch(one: Sequence[float], two: Sequence[float]) -> Difference:
    """Welch's t test and interval (Welch 1947), with the degrees of freedom of Satterthwaite (1946)."""
    if not one or not two:
        return NO_DIFFERENCE
    value, n = mean(one) - mean(two), min(len(one), len(two))
    if n < 2:
        return Difference(value, None, None, None, None, "none", n, None)
    if _no_spread(one, [*one, *two]) and _no_spread(two, [*one, *two]):
        ways = math.comb(len(one) + len(two), len(one))
        p = 1.0 if _zero(value, [*one, *two]) else min(1.0, (2 if len(one) == len(two) else 1) / ways)
        return Difference(value, None, None, None, p, "exact permutation", n, 0.0)
    parts = [stdev(one) ** 2 / len(one), stdev(two) ** 2 / len(two)]
    error = math.sqrt(sum(parts))
    df = sum(parts) ** 2 / (parts[0] ** 2 / (len(one) - 1) + parts[1] ** 2 / (len(two) - 1))
    half = t_quantile((1 + CONFIDENCE) / 2, df) * error
    sd = math.sqrt((stdev(one) ** 2 + stdev(two) ** 2) / 2)
    p = t_two_sided(value / error, df)
    return Difference(value, value - half, value + half, hedges_g(one, two), p, "Welch t", n, sd)


def _no_spread(values: Sequence[float], scale: Sequence[float]) -> bool:
    """Whether ``values`` are equal but for rounding."""
    return max(values) - min(values) <= 1e-12 * max(map(abs, scale), default=0.0)


def _zero(value: float, scale: Sequence[float]) -> bool:
    return abs(value) <= 1e-12 * max(map(abs, scale), default=0.0)


def hedges_g(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Standardised difference with the exact small-sample correction J (Hedges 1981).

    The standardiser is the root of the mean of the two variances (Bonett 2008), for paired and unpaired runs alike, so
    that the effects of different configurations compare. None where a sample has one value or nothing varies.
    """
    if len(one) < 2 or len(two) < 2 or (_no_spread(one, one) and _no_spread(two, two)):
        return None
    spread = math.sqrt((stdev(one) ** 2 + stdev(two) ** 2) / 2)
    df = len(one) + len(two) - 2
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return correction * (mean(one) - mean(two)) / spread


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted so that the chance of any false "different" stays at the level (Holm 1979).

    A missing p-value stays missing and does not count as a comparison.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None and math.isfinite(p))
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = highest
    return adjusted


def verdict(value: float | None, adjusted_p: float | None, higher_is_better: bool) -> Verdict:
    """The word for a difference: it is "better" or "worse" only where the corrected p-value is below 0.05."""
    if value is None or adjusted_p is None or adjusted_p >= ALPHA or value == 0:
        return "no difference shown"
    return "better" if (value > 0) == higher_is_better else "worse"


def power(difference: float, sd: float, n: int, is_paired: bool, alpha: float = ALPHA) -> float:
    """Chance that a two-sided t test of ``n`` pairs (or n runs a side) shows ``difference`` (noncentral t; Cohen 1988).

    Args:
        difference: the true one.
        sd: of the pairs' differences, or of a run.
    """
    from scipy.stats import nct

    df = n - 1 if is_paired else 2 * (n - 1)
    shift = abs(difference) / sd * math.sqrt(n if is_paired else n / 2)
    critical = t_quantile(1 - alpha / 2, df)
    if shift > 30 + critical:  # certain
        return 1.0
    opposite = nct.cdf(-critical, df, shift) if shift < 5 else 0.0  # beyond, it is nothing, and SciPy says NaN
    return float(nct.sf(critical, df, shift) + opposite)


def seeds_needed(difference: float, sd: float | None, is_paired: bool, alpha: float = ALPHA) -> int | None:
    """Fewest seeds a side with which a true ``difference`` is shown with a power of 0.8.

    Returns:
        At least 2; ``MOST_SEEDS + 1`` stands for more than that; None where ``sd`` is unknown or zero, or the
        difference is zero.
    """
    if sd is None or not sd > 0 or not math.isfinite(sd) or difference == 0 or not math.isfinite(difference):
        return None
    if power(difference, sd, MOST_SEEDS, is_paired, alpha) < POWER:
        return MOST_SEEDS + 1
    low, high = 1, MOST_SEEDS  # power grows with n: bisection keeps power(low) < POWER <= power(high)
    while high - low > 1:
        middle = (low + high) // 2
        if power(difference, sd, middle, is_paired, alpha) >= POWER:
            high = middle
        else:
            low = middle
    return high


def pareto_front(points: Sequence[tuple[float | None, float | None]], higher: bool) -> list[int]:
    """Places of the (cost, quality) points that no other point matches at less cost or betters at the same.

    Args:
        higher: whether more quality is better; less cost always is.
    """
    known = [(c, q if higher else -q, place) for place, (c, q) in enumerate(points) if c is not None and q is not None]
    front: list[int] = []
    highest = float("-inf")
    for _, quality, place in sorted(known, key=lambda item: (item[0], -item[1])):
        if quality > highest:
            front.append(place)
            highest = quality
    return front
