"""Runs on several splits: what they are paired by, and tests that allow for shared images, against formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_up import Folders, failed, make_record
from scipy import stats

from benchmarks.error_rates_splits import five_folds, shares, simulate, ten_splits
from cnnbench.analysis.analyse import analyse
from cnnbench.analysis.grouping import group
from cnnbench.analysis.images import compare_on_images
from cnnbench.analysis.leaderboard import build
from cnnbench.analysis.power import MOST_SEEDS, power, seeds_needed
from cnnbench.analysis.report import write as report
from cnnbench.analysis.report.text import leaderboard_text
from cnnbench.analysis.runs import collect
from cnnbench.analysis.statistics import Difference, compare, summarise
from cnnbench.cli.main import main

RANDOM = np.random.default_rng(0)
FOLDS = ["data.folds=5", "data.validation=folds"]
SIZES = {"train": 1150, "val": 288}


def folds_of(runs: Folders, seeds: int = 1, folds: int = 5) -> dict[str, np.ndarray]:
    """Five folds of three optimizers; test accuracies (folds, seeds) by optimizer."""
    values = {}
    for at, optimizer in enumerate(("sgd", "adam", "rmsprop")):
        values[optimizer] = np.random.default_rng(at).normal(0.9 + 0.02 * at, 0.01, (folds, seeds))
        for fold, seed in np.ndindex(folds, seeds):
            settings = [f"optimizer={optimizer}", *FOLDS, f"data.fold={fold}", f"seed={seed}"]
            runs.add(make_record(settings, float(values[optimizer][fold, seed]), data=SIZES))
    return values


def test_the_corrected_test_of_one_run_a_split_is_nadeau_and_bengios() -> None:
    one, two, overlap = RANDOM.normal(0.9, 0.01, 5), RANDOM.normal(0.88, 0.01, 5), 0.25
    d = one - two
    found = compare({(0, k): v for k, v in enumerate(one)}, {(0, k): v for k, v in enumerate(two)}, overlap)
    error = math.sqrt((1 / 5 + overlap) * d.var(ddof=1))
    assert (found.method, found.n, found.df) == ("corrected paired t", 5, 4)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(d.mean()) / error, 4))
    half = stats.t.ppf(0.975, 4) * error
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half))
    assert found.p_not_within(0.05) == pytest.approx(stats.t.cdf((abs(d.mean()) - 0.05) / error, 4))
    plain = compare(dict(enumerate(one)), dict(enumerate(two)))
    assert plain.p == pytest.approx(stats.ttest_rel(one, two).pvalue) and plain.p < found.p


def test_seeds_on_a_split_count_as_one_observation() -> None:
    one, two, overlap = RANDOM.normal(0.9, 0.01, (4, 3)), RANDOM.normal(0.88, 0.01, (4, 3)), 1 / 3
    keyed = [{(seed, split): s[split, seed] for split, seed in np.ndindex(4, 3)} for s in (one, two)]
    found, d = compare(*keyed, overlap), one - two
    error = math.sqrt(d.mean(axis=1).var(ddof=1) / 4 + overlap * d.var(ddof=1))
    assert (found.n, found.df) == (4, 3) and found.value == pytest.approx(d.mean())
    assert found.error == pytest.approx(error)
    summary = summarise(one.ravel(), [split for split, _ in np.ndindex(4, 3)], overlap)
    half = stats.t.ppf(0.975, 3) * math.sqrt(one.mean(axis=1).var(ddof=1) / 4 + overlap * one.var(ddof=1))
    assert (summary.n, summary.high - summary.low) == (12, pytest.approx(2 * half))


def test_splits_that_are_not_shared_are_compared_by_welchs_test_with_both_variances_corrected() -> None:
    one, two, overlap = RANDOM.normal(0.9, 0.01, 5), RANDOM.normal(0.88, 0.03, 4), 0.2
    found = compare({(0, k): v for k, v in enumerate(one)}, {(0, k + 10): v for k, v in enumerate(two)}, overlap)
    parts = [s.var(ddof=1) * (1 / len(s) + overlap) for s in (one, two)]
    df = sum(parts) ** 2 / sum(part**2 / (len(s) - 1) for part, s in zip(parts, (one, two), strict=True))
    assert found.method == "corrected Welch t" and found.df == pytest.approx(df)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.value) / math.sqrt(sum(parts)), df))


def test_one_split_shows_nothing_of_others() -> None:
    several = {(0, k): v for k, v in enumerate(RANDOM.normal(0.9, 0.01, 5))}
    found = compare(several, {(seed, 0): v for seed, v in enumerate(RANDOM.normal(0.8, 0.01, 5))}, 0.25)
    assert (found.n, found.p, found.low) == (1, None, None)
    assert summarise([0.9, 0.91], ["a", "a"], 0.25).low is None


def test_more_splits_do_not_lower_what_they_share() -> None:
    floor = 0.25 * 0.01**2
    assert power(0.01, 0.01, 10**6, True, floor=floor) == pytest.approx(stats.norm.sf(1.96 - 2), abs=0.01)
    assert seeds_needed(0.01, 0.01, True, floor=floor) == MOST_SEEDS + 1
    assert seeds_needed(0.03, 0.01, True, floor=floor) > seeds_needed(0.03, 0.01, True)


def test_seed_and_split_are_no_factors_and_runs_are_paired_by_both(runs: Folders) -> None:
    values = folds_of(runs, seeds=2)
    found = analyse(collect([runs.root]), baseline="optimizer=sgd")
    assert found.board.grid.factors == ("optimizer",) and found.board.notes == []
    for other in found.comparisons:
        d = values[other.configuration.values["optimizer"]] - values["sgd"]
        error = math.sqrt(d.mean(axis=1).var(ddof=1) / 5 + SIZES["val"] / SIZES["train"] * d.var(ddof=1))
        assert other.difference.error == pytest.approx(error) and other.difference.n == 5
    row = found.board.rows[0]
    assert (row.n, row.splits, found.board.splits) == (10, 5, (5, 5))


def test_split_seeds_count_only_where_they_move_something(runs: Folders) -> None:
    for seed in range(3):
        runs.add(make_record([f"data.split_seed={seed}", "seed=0"], 0.9 + seed / 100))
        runs.add(make_record([f"data.split_seed={seed}", "data.validation=own", "seed=0"], 0.9), f"own{seed}")
    completed = collect([runs.root])
    ours = [run for run in completed if "own" not in run.path.name]
    (one,) = group(ours).configurations
    assert [run.split for run in one.runs] == [(seed, None, None) for seed in range(3)]
    assert len(group([run for run in completed if run not in ours]).configurations) == 3


def test_configurations_on_one_split_each_are_paired_by_seed_as_ever(runs: Folders) -> None:
    for seed in range(3):
        for validation in ("0.1", "own"):
            runs.add(make_record([f"data.validation={validation}", f"seed={seed}"], 0.9 + RANDOM.normal(0, 0.01)))
    (one,) = analyse(collect([runs.root])).comparisons
    assert (one.difference.method, one.difference.n, one.difference.overlap) == ("paired t", 3, 0.0)


@pytest.mark.usefixtures("without_pictures")
def test_the_report_says_that_it_covers_other_splits_and_how_runs_are_counted(runs: Folders) -> None:
    folds_of(runs, seeds=2)
    runs.add(failed(["optimizer=sgd", *FOLDS, "data.fold=3", "seed=7"]), "lost")
    text = report.build([runs.root], "md").text
    assert "covers other splits of these images too (5 splits;" in text and "(10 runs on 5 splits," in text
    assert "5 splits, corrected t" in text and "seed 7, fold 3" in text and "splits for 1 point" in text
    assert "count as independent here" in text and "different data" not in text
    page = report.build([runs.root]).text
    assert "over seeds (0, 1) and 5 splits of the train set" in page and "a fold of the train set, each in turn" in page
    assert "Nadeau" in page and "data.fold=0,1,2,3,4" in page
    short = leaderboard_text(build(collect([runs.root])))
    assert "seeds and splits (n: runs)" in " ".join(short.split()) and max(map(len, short.splitlines())) <= 100


def test_noise_over_splits_tells_no_difference_that_independent_runs_would_show(runs: Folders, capsys) -> None:
    folds_of(runs, seeds=2)
    assert main(["noise", str(runs.root)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "over 10 runs on 5 splits" in told and "n = 10" not in told and "95% interval" not in told
    runs.root = runs.root.with_name("others")
    runs.add(failed(["seed=0"]))
    assert main(["noise", str(runs.root)]) == 2 and "no completed run" in capsys.readouterr().err


def test_a_configuration_on_one_split_among_others_is_named(runs: Folders) -> None:
    folds_of(runs)
    runs.add(make_record(["optimizer=adam", *FOLDS, "data.fold=0", "model=mlp", "seed=0"], 0.95, data=SIZES))
    answer = " ".join(analyse(collect([runs.root])).answer)
    assert "one split alone" in answer and "covers other splits" not in answer
    assert "one split a side: no test" in report.build([runs.root], "md").text


def test_a_test_over_images_and_runs_allows_for_splits_too() -> None:
    first, second = RANDOM.random((6, 300)) < 0.9, RANDOM.random((6, 300)) < 0.85
    splits = [0, 1, 2, 3, 4, 5]
    plain = compare_on_images(first, second, True)
    found = compare_on_images(first, second, True, (splits, splits), 0.25)
    d = first.mean(axis=1) - second.mean(axis=1)
    assert found.error**2 - plain.error**2 == pytest.approx(0.25 * d.var(ddof=1))
    assert found.p_images == plain.p_images and found.p > plain.p
    assert compare_on_images(first, second, True, ([0] * 6, [0] * 6), 0.25).p is None


def test_false_verdicts_over_overlapping_splits_are_rare_with_the_correction_alone() -> None:
    """As ``benchmarks/error_rates_splits.py`` with fewer sets: the standard error of 5% is 0.8 points."""
    for make, overlap, seeds in ((five_folds, 1 / 4, 3), (ten_splits, 1 / 9, 1)):
        equal, apart = (simulate(make, 800, seeds, 0.2, gap) for gap in (0.0, 0.1))
        for null, other in zip(equal, apart, strict=True):
            plain, corrected = shares(null, overlap)
            assert plain > 0.1 and corrected <= 0.075, (plain, corrected)
            assert shares(other, overlap, float(abs(other.mean())))[1] <= 0.075
    keys = [(0, k) for k in range(10)]
    ours: list[Difference] = [compare(dict(zip(keys, d, strict=True)), dict.fromkeys(keys, 0.0), 1 / 9)
                              for d in equal.test[:, :, 0]]  # fmt: skip
    assert np.mean([d.p < 0.05 for d in ours]) == pytest.approx(shares(equal.test, 1 / 9)[1])
