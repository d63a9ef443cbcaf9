"""Tests over images against statsmodels, a bootstrap written out as loops, and simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from cnnbench.analysis import images
from cnnbench.analysis.images import compare_on_images, mcnemar, split_spread, wilson


def simulate(
    random: np.random.Generator, runs: int, count: int, run_sd: float, skill: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Two configurations, bool (runs, count) each: images differ in difficulty, each configuration finds some of them
    easier than the other does, runs differ by ``run_sd``, and the first is better by ``skill``, all in logits."""
    difficulty, sides = random.normal(2, 3, count), []
    for better in (skill, 0.0):
        logits = difficulty + random.normal(0, 1.5, count) + random.normal(0, run_sd, runs)[:, None] + better
        sides.append(random.random((runs, count)) < 1 / (1 + np.exp(-logits)))
    return sides[0], sides[1]


def test_an_interval_from_the_number_of_images_is_wilsons() -> None:
    for correct, count in ((0, 10), (95, 100), (359, 359), (7_312, 10_000)):
        assert wilson(correct, count) == pytest.approx(proportion_confint(correct, count, method="wilson"))


def test_mcnemar_is_statsmodels() -> None:
    random = np.random.default_rng(0)
    for share in (0.5, 0.9, 0.99):
        first, second = random.random((2, 300)) < share
        table = [[(a & b).sum() for b in (second, ~second)] for a in (first, ~first)]
        assert mcnemar(first, second) == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    assert mcnemar(first, first) == 1.0


@pytest.mark.parametrize("paired", [True, False])
def test_the_bootstrap_is_that_of_loops(paired: bool) -> None:
    random = np.random.default_rng(1)
    first, second = simulate(random, 3, 40, 0.5)
    drawn = []
    for _ in range(4000):
        picked = random.integers(0, 40, 40)
        runs = random.integers(0, 3, 2)  # of three runs two
        others = runs if paired else random.integers(0, 3, 2)
        drawn.append(first[np.ix_(runs, picked)].mean() - second[np.ix_(others, picked)].mean())
    found = compare_on_images(first, second, paired)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.seeds_vary and found.low < found.value < found.high
    # the half-width is Student's t times the standard error; its degrees of freedom lie between 2 and infinity
    assert 1.95 < (found.high - found.value) / np.std(drawn) < 4.4


def test_one_run_a_side_is_compared_over_images_alone() -> None:
    first, second = simulate(np.random.default_rng(2), 1, 4000, 0.0, skill=0.3)
    found = compare_on_images(first, second, paired=True)
    expected = (first.astype(float) - second)[0].std() / np.sqrt(4000)  # of a mean of independent differences
    assert not found.seeds_vary
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * expected, rel=0.05)


def test_a_false_difference_is_rare_and_a_true_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "DRAWS", 500)
    random, shown = np.random.default_rng(3), {}
    for skill in (0.0, 1.5):
        for paired in (True, False):
            verdicts = [compare_on_images(*simulate(random, 3, 300, 0.2, skill), paired).p < 0.05 for _ in range(150)]
            shown[skill, paired] = np.mean(verdicts)
    # at most 5%, and with 150 simulations the chance of more than 10% is below 1%
    assert max(shown[0.0, True], shown[0.0, False]) <= 0.1, shown
    assert min(shown[1.5, True], shown[1.5, False]) >= 0.6, shown


def test_the_spread_is_split_into_what_the_images_and_what_the_training_make() -> None:
    random = np.random.default_rng(4)
    easy = random.random(2000)
    same = random.random((40, 2000)) < easy  # equally good runs: the spread is the test set's
    found = split_spread(same)
    assert found is not None and found.test_set == pytest.approx(np.sqrt((easy * (1 - easy)).mean() / 2000), rel=0.05)
    assert found.training < found.test_set and found.total == pytest.approx(same.mean(axis=1).std(ddof=1))
    skill = random.normal(0, 0.05, 40)
    found = split_spread(random.random((40, 2000)) < np.clip(0.5 + skill, 0, 1)[:, None])
    assert found is not None and found.training == pytest.approx(skill.std(ddof=1), rel=0.2)
    assert split_spread(same[:1]) is None
