"""Tests over images against statsmodels, a bootstrap written out as loops, and simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import make_record
from scipy.stats import t, ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from cnnbench.analysis.analyse import analyse
from cnnbench.analysis.images import compare_on_images, mcnemar, split_spread, wilson
from cnnbench.analysis.report import write as report
from cnnbench.analysis.runs import collect


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
def test_the_standard_error_is_that_of_a_bootstrap_in_loops(paired: bool) -> None:
    random = np.random.default_rng(1)
    first, second = simulate(random, 3, 40, 0.5)
    drawn = []
    for _ in range(8000):
        picked = random.integers(0, 40, 40)
        runs = random.integers(0, 3, 2)  # of three runs two
        others = runs if paired else random.integers(0, 3, 2)
        drawn.append(first[np.ix_(runs, picked)].mean() - second[np.ix_(others, picked)].mean())
    found = compare_on_images(first, second, paired)
    assert found.value == pytest.approx(first.mean() - second.mean()) and found.p is not None
    assert found.error == pytest.approx(np.std(drawn), rel=0.05)
    assert 1.96 < (found.high - found.value) / found.error < t.ppf(0.975, 2)


def test_one_run_a_side_is_compared_over_images_alone() -> None:
    first, second = simulate(np.random.default_rng(2), 1, 4000, 0.0, skill=0.3)
    found = compare_on_images(first, second, paired=True)
    differences = first[0].astype(float) - second[0]
    assert found.p is None and found.p_images == pytest.approx(ttest_1samp(differences, 0).pvalue, rel=0.02)
    assert found.p_images == pytest.approx(mcnemar(first[0], second[0]), rel=0.3)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * differences.std() / np.sqrt(4000), rel=1e-3)


def test_a_false_difference_is_rare_and_a_true_one_is_found() -> None:
    random, shown = np.random.default_rng(3), {}
    for skill in (0.0, 1.5):
        for paired in (True, False):
            verdicts = [
                (compare_on_images(*simulate(random, 3, 300, 0.2, skill), paired).p or 0) < 0.05 for _ in range(500)
            ]
            shown[skill, paired] = np.mean(verdicts)
    # at most 5%, and with 500 simulations the chance of more than 8% is below 1%
    assert max(shown[0.0, True], shown[0.0, False]) <= 0.08, shown
    assert min(shown[1.5, True], shown[1.5, False]) >= 0.6, shown


def test_two_runs_that_differ_more_than_their_images_allow_no_small_p_value() -> None:
    """With a spread over seeds far above that of the images, 10% of equal configurations once had a p below 0.05."""
    random = np.random.default_rng(5)
    found = [compare_on_images(*simulate(random, 2, 1000, 1.0), paired=True) for _ in range(500)]
    assert np.mean([(one.p or 0) < 0.05 for one in found]) <= 0.08  # 5%, and of 500 more than 8% are below 1% likely


def test_few_shared_seeds_leave_no_run_out(runs) -> None:
    random, rights = np.random.default_rng(4), {}
    for optimizer, seeds in (("sgd", range(10)), ("adam", range(8, 18))):
        rights[optimizer] = random.random((10, 200)) < 0.8
        for seed, right in zip(seeds, rights[optimizer], strict=True):
            folder = runs.add(make_record([f"optimizer={optimizer}", f"seed={seed}"], float(right.mean())))
            columns = {"row": np.arange(200), "true": np.ones(200, int), "predicted": right.astype(int),
                       "probability_true": np.ones(200), "probability_predicted": np.ones(200)}  # fmt: skip
            np.savez(folder / "predictions.npz", **{f"test_{name}": of for name, of in columns.items()})
    (one,) = analyse(collect([runs.root]), baseline="optimizer=sgd").comparisons
    assert one.difference.method == "Welch t" and one.images is not None
    assert one.images.value == pytest.approx(one.difference.value)  # of the same runs
    assert one.images == compare_on_images(rights["adam"], rights["sgd"], paired=False)


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


@pytest.mark.usefixtures("without_pictures")
def test_the_report_says_where_the_spread_of_the_first_place_comes_from(runs) -> None:
    random, easy = np.random.default_rng(5), np.random.default_rng(6).random(100)
    for seed in range(3):
        record = make_record([f"seed={seed}"], 0.9)
        path = runs.add(record)
        true = np.arange(100) % 10
        predicted = np.where(random.random(100) < easy, true, (true + 1) % 10)
        columns = {"row": np.arange(100), "true": true, "predicted": predicted, "probability_true": easy}
        columns["probability_predicted"] = easy
        np.savez(path / "predictions.npz", **{f"test_{name}": column for name, column in columns.items()})
    found = split_spread(
        np.stack([run.predictions()["true"] == run.predictions()["predicted"] for run in collect([runs.root])])
    )
    assert found is not None
    page = report.build([runs.root]).text
    assert f"varies by ± {100 * found.total:.2f} points" in page and f"by ± {100 * found.test_set:.2f} on" in page
