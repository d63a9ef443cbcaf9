"""The statistics against SciPy and statsmodels called directly, and where there is nothing to estimate."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from cnnbench.analysis.power import MOST_SEEDS, power, seeds_needed
from cnnbench.analysis.statistics import (
    ALPHA,
    Difference,
    compare,
    hedges_g,
    holm,
    summarise,
    verdict,
)

RANDOM = np.random.default_rng(0)
SIMULATIONS = 500


def seeds(values, start=0):
    return dict(enumerate(values, start))


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_summary_is_scipys(n):
    values = RANDOM.normal(0.97, 0.01, n)
    found = summarise(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.n == n
    assert [found.mean, found.std, found.low, found.high] == pytest.approx(
        [values.mean(), values.std(ddof=1), low, high]
    )


def test_summary_where_little_is_known():
    assert summarise([]) == summarise([None, math.nan, math.inf]) == (empty := summarise([]))
    assert empty.n == 0 and empty.mean is None
    one = summarise([0.9, math.nan, None])
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 0.9, None, None, None)
    equal = summarise([0.1, 0.1, 0.1])
    assert (equal.mean, equal.std, equal.low, equal.high) == (0.1, 0.0, None, None)


@pytest.mark.parametrize("n", [2, 3, 12])
def test_paired_difference_is_scipys(n):
    one, two = RANDOM.normal(0.9, 0.02, n), RANDOM.normal(0.88, 0.02, n)
    found = compare(seeds(one.tolist()), seeds(two.tolist()))
    right = stats.ttest_rel(one, two)
    interval = right.confidence_interval()
    assert found.method == "paired t" and found.n == n
    assert [found.value, found.p, found.low, found.high] == pytest.approx(
        [(one - two).mean(), right.pvalue, interval.low, interval.high]
    )
    assert found.sd == pytest.approx((one - two).std(ddof=1))


def test_pairs_are_of_the_same_seed_whatever_the_order():
    one = {3: 0.9, 1: 0.7, 2: 0.8}
    two = {1: 0.6, 2: 0.75, 3: 0.8}
    right = stats.ttest_rel([0.7, 0.8, 0.9], [0.6, 0.75, 0.8])
    assert compare(one, two).p == pytest.approx(right.pvalue)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 5), (10, 4)])
def test_without_shared_seeds_it_is_welchs(n, m):
    one, two = RANDOM.normal(0.9, 0.02, n), RANDOM.normal(0.88, 0.05, m)
    found = compare(seeds(one.tolist()), seeds(two.tolist(), start=100))
    right = stats.ttest_ind(one, two, equal_var=False)
    interval = right.confidence_interval()
    assert found.method == "Welch t"
    assert [found.p, found.low, found.high] == pytest.approx([right.pvalue, interval.low, interval.high])


@pytest.mark.parametrize("scale", [1e-150, 1e-90, 1e78, 1e99])
@pytest.mark.parametrize("start", [0, 10], ids=["paired", "Welch"])
def test_no_unit_is_too_small_or_too_large(scale, start):
    one, two = seeds([1.0, 2.0, 4.0]), seeds([2.0, 5.0, 3.5], start)
    scaled = [{seed: scale * value for seed, value in side.items()} for side in (one, two)]
    right, found = compare(one, two), compare(*scaled)
    assert [found.p, found.df, found.low / scale] == pytest.approx([right.p, right.df, right.low], rel=1e-6)


def test_seeds_that_are_not_shared_are_left_out_of_pairs_and_so_is_nan():
    one = {0: 0.9, 1: 0.91, 2: 0.95, 3: math.nan, 7: None}
    two = {0: 0.88, 1: 0.90, 2: 0.91, 3: 0.5, 8: 0.2}
    found = compare(one, two)
    assert found.method == "paired t" and found.n == 3
    assert found.p == pytest.approx(stats.ttest_rel([0.9, 0.91, 0.95], [0.88, 0.90, 0.91]).pvalue)


def test_one_run_has_a_difference_but_no_test():
    found = compare({0: 0.9}, {0: 0.8})
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high, found.p, found.effect, found.method) == (None, None, None, None, "none")
    assert compare({}, {0: 0.8}) == compare({0: math.nan}, {0: 0.8}) == Difference()


def test_equal_values_are_no_difference():
    found = compare(seeds([0.9] * 5), seeds([0.9] * 5))
    assert (found.value, found.p, found.effect) == (0.0, 1.0, None)
    assert verdict(found.value, found.p, True) == "no difference shown"


def test_a_constant_difference_is_judged_by_exact_permutation():
    """A t test would divide by zero and call three equal differences certain."""
    for n, p in ((2, 0.5), (3, 0.25), (6, 1 / 32)):
        found = compare(seeds([0.9 + 0.01 * i for i in range(n)]), seeds([0.8 + 0.01 * i for i in range(n)]))
        assert found.method == "exact permutation"
        assert found.p == pytest.approx(p)
        assert found.low is None
    unpaired = compare(seeds([0.9] * 4), seeds([0.8] * 4, start=10))
    right = stats.permutation_test(([0.9] * 4, [0.8] * 4), lambda a, b: np.mean(a) - np.mean(b), n_resamples=np.inf)
    assert unpaired.p == pytest.approx(right.pvalue)
    assert unpaired.effect is None


def test_effect_size_is_hedges():
    one, two = [0.9, 0.92, 0.95, 0.91], [0.88, 0.90, 0.87, 0.85]
    pooled = math.sqrt((np.var(one, ddof=1) + np.var(two, ddof=1)) / 2)
    correction = math.gamma(3) / (math.sqrt(3) * math.gamma(2.5))  # Hedges 1981, 6 degrees of freedom
    assert hedges_g(one, two) == pytest.approx(correction * (np.mean(one) - np.mean(two)) / pooled)
    assert correction == pytest.approx(1 - 3 / (4 * 6 - 1), abs=2e-3)  # the usual approximation
    assert hedges_g([0.9], two) is None


def test_effect_size_is_unbiased_for_few_seeds():
    found = [hedges_g(RANDOM.normal(1, 1, 3).tolist(), RANDOM.normal(0, 1, 3).tolist()) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(1.0, abs=0.07)


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_holm_is_statsmodels(count):
    p = RANDOM.uniform(0, 0.2, count)
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_leaves_missing_ones_out_of_the_count():
    assert holm([0.01, None, 0.04, math.nan]) == [0.02, None, 0.04, None]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("value", "p", "up", "word"),
    [
        (0.1, 0.01, True, "better"),
        (-0.1, 0.01, True, "worse"),
        (-0.1, 0.01, False, "better"),
        (0.1, 0.01, False, "worse"),
        (0.1, ALPHA, True, "no difference shown"),
        (0.1, None, True, "no difference shown"),
        (None, 0.01, True, "no difference shown"),
        (0.0, 0.0, True, "no difference shown"),
    ],
)
def test_words_follow_the_numbers(value, p, up, word):
    assert verdict(value, p, up) == word


@pytest.mark.parametrize("effect", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_seeds_needed_are_statsmodels(effect, alpha):
    one = TTestPower().solve_power(effect, alpha=alpha, power=0.8)
    two = TTestIndPower().solve_power(effect, alpha=alpha, power=0.8)
    assert seeds_needed(effect * 0.01, 0.01, True, alpha) == math.ceil(one)
    assert seeds_needed(effect * 0.01, 0.01, False, alpha) == math.ceil(two)


def test_seeds_needed_at_the_ends():
    assert seeds_needed(1e-6, 0.01, True) == MOST_SEEDS + 1
    assert seeds_needed(10.0, 0.01, True) == 2
    for difference, sd in ((0.0, 0.01), (0.01, 0.0), (0.01, None), (math.nan, 0.01)):
        assert seeds_needed(difference, sd, True) is None
    grown = [power(0.01, 0.0066, n, True, 0.01) for n in range(2, MOST_SEEDS)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(grown))  # and no NaN on the way


@pytest.mark.parametrize("shared", [True, False], ids=["paired", "unpaired"])
@pytest.mark.parametrize("n", [3, 5])
def test_under_no_effect_a_verdict_is_rare(shared, n):
    """Of 500 baselines with six comparisons each, at most 5% (and three binomial errors) see any difference."""
    random = np.random.default_rng(n)
    wrong = 0
    for _ in range(SIMULATIONS):
        seed_effect = random.normal(0, 0.005, n) if shared else np.zeros(n)
        base = seeds((0.95 + seed_effect + random.normal(0, 0.004, n)).tolist())
        found = [
            compare(seeds((0.95 + seed_effect + random.normal(0, 0.004, n)).tolist(), 0 if shared else 100 * k), base)
            for k in range(1, 7)
        ]
        words = {verdict(d.value, p, True) for d, p in zip(found, holm([d.p for d in found]), strict=True)}
        wrong += words != {"no difference shown"}
    print(f"any verdict in {wrong} of {SIMULATIONS}")
    assert wrong <= SIMULATIONS * ALPHA + 3 * math.sqrt(SIMULATIONS * ALPHA * (1 - ALPHA))


def test_a_true_effect_is_found_with_the_seeds_that_were_said_to_be_needed():
    random = np.random.default_rng(2)
    n = seeds_needed(0.01, 0.01, True)
    assert n is not None
    found = [compare(seeds(random.normal(0.01, 0.01, n).tolist()), seeds([0.0] * n)) for _ in range(SIMULATIONS)]
    share = np.mean([d.p is not None and d.p < ALPHA for d in found])
    assert share == pytest.approx(0.8, abs=0.06)


def test_two_one_sided_tests_are_statsmodels() -> None:
    random = np.random.default_rng(5)
    for practical in (0.5, 1.0, 2.0):
        one, two = random.normal(0, 1, (2, 8))
        found = compare(dict(enumerate(one)), dict(enumerate(two)))
        assert found.p_not_within(practical) == pytest.approx(ttost_paired(one, two, -practical, practical)[0])
        found = compare(dict(enumerate(one)), dict(enumerate(two, start=100)))
        expected = ttost_ind(one, two, -practical, practical, usevar="unequal")[0]
        assert found.method == "Welch t" and found.p_not_within(practical) == pytest.approx(expected)
    assert compare({0: 0.5}, {0: 0.6}).p_not_within(1) is None


def test_what_is_practically_the_same_is_rarely_said_of_a_difference_that_matters() -> None:
    random, said = np.random.default_rng(6), 0
    for _ in range(1000):  # a true difference that just matters
        one, two = random.normal(1, 1, 5), random.normal(0, 1, 5)
        p = compare(dict(enumerate(one)), dict(enumerate(two))).p_not_within(1.0)
        said += verdict(1.0, 0.5, True, p) == "practically the same"
    assert said / 1000 <= 0.07
    assert verdict(0.1, 0.001, True, 0.01) == "practically the same" and verdict(0.1, 0.001, True, 0.2) == "better"


def test_values_that_are_equal_up_to_rounding_have_no_spread_and_no_difference() -> None:
    sample = [0.1 + 0.2, 0.3, 0.1 * 3]
    assert summarise(sample)[2:] == (0.0, None, None)
    found = compare(dict(enumerate(sample)), dict(enumerate([0.3] * 3)))
    assert (found.value, found.effect, found.p, found.low) == (0.0, None, 1.0, None)
    assert summarise([0.3, 0.3 + 1e-9]).std == pytest.approx(1e-9 / 2**0.5, rel=1e-5)
