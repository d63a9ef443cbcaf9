"""Looks after each round keep the error of one look; simulated with the t tests of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from cnnbench.analysis.sequential import decide, interval, level_of_each_look


def simulate(looks: tuple[int, ...], mean: float, practical: float, repetitions: int = 2000) -> dict[str, float]:
    """How often each decision is the first that is made at a look, and how many pairs that took."""
    random, level = np.random.default_rng(1), level_of_each_look(looks)
    ends = []
    for _ in range(repetitions):
        pairs = list(random.normal(mean, 1, looks[-1]))
        ends.append(
            next(
                (d for n in looks if (d := decide(interval(pairs[:n], level), practical, True)) != "undecided"),
                "undecided",
            )
        )
    return {word: ends.count(word) / repetitions for word in ("better", "worse", "practically the same", "undecided")}


def test_the_level_of_a_look_is_below_that_of_one_and_above_bonferronis() -> None:
    assert level_of_each_look((5,)) == 0.05
    looks = tuple(range(3, 21))
    assert 0.05 / len(looks) < level_of_each_look(looks) < 0.01
    assert level_of_each_look(looks, 0.01) < level_of_each_look(looks) / 4


def test_an_interval_is_students() -> None:
    sample = [0.1, 0.4, 0.2, 0.5]
    expected = t.interval(0.99, 3, np.mean(sample), np.std(sample, ddof=1) / 2)
    assert interval(sample, 0.01) == pytest.approx(expected)
    assert interval(sample, ttest_1samp(sample, 0).pvalue)[0] == pytest.approx(0, abs=1e-9)  # type: ignore[index]
    assert interval([0.1], 0.05) is None and interval([0.1, 0.1, 0.1], 0.05) is None


def test_what_an_interval_says() -> None:
    assert decide((0.2, 0.9), 0.1, True) == "better" and decide((0.2, 0.9), 0.1, False) == "worse"
    assert decide((-0.05, 0.09), 0.1, True) == "practically the same" == decide((0.01, 0.09), 0.1, True)
    assert decide((-0.05, 0.2), 0.1, True) == "undecided" == decide(None, 0.1, True)


def test_looking_after_each_round_errs_in_at_most_5_percent() -> None:
    looks = tuple(range(3, 16))
    ends = simulate(looks, 0.0, practical=0.0)
    assert ends["better"] + ends["worse"] <= 0.065, ends  # 0.05 and three standard errors
    ends = simulate(looks, 1.0, practical=1.0)  # a difference that just matters
    assert ends["practically the same"] <= 0.04, ends
    assert simulate(looks, 1.5, practical=0.0)["better"] >= 0.9
