"""Looks after each round keep the error of one look; held against the t tests of SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from benchmarks.error_rates_decided import BETTER, SAME, WORSE, draw, fixed_grid_shows_best, until_decided
from cnnbench.analysis.sequential import Decisions, Rule, level

LOOKS = tuple(range(3, 21))
NAMES = {"better": BETTER, "worse": WORSE, "practically the same": SAME, "undecided": 0}


def test_the_level_of_a_look_grows_and_is_above_bonferronis() -> None:
    assert level(5, (5,)) == 0.05 and level(5, (5,), 0.01, one_sided=True) == 0.01
    levels = [level(n, LOOKS) for n in LOOKS]
    assert levels == pytest.approx([levels[0] * n / 3 for n in LOOKS])
    assert 0.05 < sum(levels) < 0.3 and levels[-1] < 0.05  # the looks are alike, so that they share more than 5 %
    assert level(20, LOOKS, one_sided=True) > levels[-1] > 4 * level(20, LOOKS, 0.01)
    assert level(20, LOOKS, 1e-9) == pytest.approx(1e-9 * 20 / sum(LOOKS))  # beyond what is simulated


def test_any_look_errs_in_5_percent_by_scipys_tests() -> None:
    samples = np.random.default_rng(7).normal(0, 3, (4000, 20))
    two, one = np.zeros(4000, bool), np.zeros(4000, bool)
    for n in LOOKS:
        two |= ttest_1samp(samples[:, :n], 0, axis=1).pvalue < level(n, LOOKS)
        one |= ttest_1samp(samples[:, :n], 0, axis=1, alternative="less").pvalue < level(n, LOOKS, one_sided=True)
    assert two.mean() == pytest.approx(0.05, abs=0.0105) == one.mean()  # three standard errors


def test_what_a_look_says() -> None:
    rule = Rule(LOOKS, 1, practical=0.5)
    sample = [0.9, 1.4, 1.2, 1.5]
    judged = rule.judge(sample)
    expected = t.interval(1 - level(4, LOOKS), 3, np.mean(sample), np.std(sample, ddof=1) / 2)
    assert judged[2:4] == pytest.approx(expected) and judged.n == 4 and judged.difference == pytest.approx(1.25)
    assert judged.decision == "better" == rule.judge([*sample, None, math.nan]).decision
    assert Rule(LOOKS, 1, 0.5, higher_is_better=False).judge(sample).decision == "worse"
    assert Rule(LOOKS, 50, 0.5).judge(sample).decision == "undecided"  # corrected for the number of pairs
    assert rule.judge([0.01, -0.01, 0.02, 0.0]).decision == "practically the same"
    assert rule.judge([0.1, 0.1, 0.1]).decision == "undecided"  # no spread to judge by
    assert rule.judge(sample[:2]).decision == "undecided" and rule.judge([]) == (0, None, None, None, "undecided")


def test_what_is_worse_is_dropped_and_the_others_go_on() -> None:
    decisions = Decisions(["a", "b", "c", "d"], LOOKS, practical=0.5)
    a, b, c = [9.0, 9.4, 9.1, 9.3], [9.2, 9.1, 9.4, 9.0], [1.0, 1.2, 0.9, 1.1]
    values = {name: dict(enumerate(sample)) for name, sample in zip("abc", (a, b, c), strict=True)}
    decisions.look({**values, "d": {0: None, 1: None, 2: None}})
    assert decisions.dropped == {"c"} and decisions.failed == {"d"} and decisions.open == [("a", "b")]
    assert decisions.active == ["a", "b"] and decisions.pairs["a", "c"].decision == "better"
    decisions = Decisions(["a", "b", "c"], LOOKS, practical=0.5, baseline="c")
    assert [*decisions.pairs] == [("a", "c"), ("b", "c")] and decisions.rule.pairs == 2
    values["b"][3] = None  # a failed run takes no other pair with it
    decisions.look(values)
    assert not decisions.dropped and not decisions.active and [it.n for it in decisions.pairs.values()] == [4, 3]


def test_the_vectorised_simulation_is_the_rule() -> None:
    runs = draw((0.4, 0.0, 0.9), repetitions=20)
    simulated = until_decided(runs)
    for repetition in range(len(runs)):
        names, given = ["0", "1", "2"], dict.fromkeys("012", 3)
        decisions = Decisions(names, LOOKS, practical=0.5)
        for _ in LOOKS:
            decisions.look({name: dict(enumerate(runs[repetition, int(name), : given[name]])) for name in names})
            given |= {name: min(given[name] + 1, 20) for name in decisions.active}
        found = [NAMES[judged.decision] for judged in decisions.pairs.values()]
        assert found == simulated.decisions[repetition].tolist()
        assert [*given.values()] == simulated.seeds[repetition].tolist()


@pytest.mark.parametrize("count", [2, 4])
def test_looking_after_each_round_errs_in_at_most_5_percent(count: int) -> None:
    most = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    found = until_decided(draw((0.0,) * count)).decisions
    assert np.isin(found, (BETTER, WORSE)).any(axis=1).mean() <= most
    found = until_decided(draw(tuple(0.5 * at for at in range(count)))).decisions  # differences that just matter
    assert (found == SAME).any(axis=1).mean() <= most


def test_it_shows_a_clear_difference_as_a_fixed_grid_does_with_fewer_runs() -> None:
    runs = draw((1.0, 0.0, 0.0, 0.0), seed=1)
    found = until_decided(runs)
    assert (found.out[:, 1:].all(axis=1) & ~found.out[:, 0]).mean() > 0.98 * fixed_grid_shows_best(runs)
    assert found.seeds.sum(axis=1).mean() < 50 and found.seeds.max() <= 20
