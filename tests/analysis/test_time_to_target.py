"""Epochs and seconds until a target is reached, with the runs that never reach it."""

from __future__ import annotations

import json
from itertools import combinations
from math import comb

import numpy as np
import pytest
from made_up import make_record
from scipy.stats import CensoredData, logrank

from cnnbench.analysis.analyse import analyse
from cnnbench.analysis.metric_names import MISSING
from cnnbench.analysis.report import write as report
from cnnbench.analysis.report.tables import target_table
from cnnbench.analysis.runs import collect
from cnnbench.analysis.statistics import holm
from cnnbench.analysis.time_to_target import MOST_WAYS, Time, log_rank, median_time
from cnnbench.cli.main import main
from cnnbench.utils.errors import RequestError


def add(runs, optimizer, seed, curve, **changes):
    """A run with this validation accuracy over the epochs, which take 1, 2, 3 ... seconds."""
    given = {
        "history": {"val/accuracy": curve, "val/loss": [1 - v for v in curve]},
        "time": {"epoch_seconds": [float(epoch + 1) for epoch in range(len(curve))]},
        **changes,
    }
    runs.add(make_record([f"optimizer={optimizer}", f"seed={seed}"], 0.9, **given))


def reaching(epoch, length=6):
    """0.5 before an epoch, counted from 1, and 0.96 from it on; never where it is None."""
    return [0.96 if epoch is not None and at >= epoch else 0.5 for at in range(1, length + 1)]


def times(*epochs, length=6):
    return [Time(length if e is None else e, 0.0, e is not None) for e in epochs]


@pytest.mark.usefixtures("without_pictures")
def test_medians_count_the_runs_that_never_reach_it(runs):
    for seed, epoch in enumerate((2, 3, 3, None)):
        add(runs, "adam", seed, reaching(epoch))
    for seed, epoch in enumerate((4, None, None, None)):
        add(runs, "sgd", seed, reaching(epoch))
    found = analyse(collect([runs.root]), baseline="optimizer=adam", target=95).target
    rows = {row.configuration.values["optimizer"]: row for row in found.rows}
    assert found.metric == "val/accuracy" and found.target == 0.95
    # by Kaplan and Meier: 3/4 have not reached it after epoch 2, 3/4 * 1/3 after epoch 3; seconds 1 + 2, 1 + 2 + 3
    assert sum(t.reached for t in rows["adam"].times) == 3 and rows["adam"].epochs == 3 and rows["adam"].seconds == 6
    assert sum(t.reached for t in rows["sgd"].times) == 1 and rows["sgd"].epochs is None and rows["sgd"].seconds is None
    assert rows["adam"].p is None and rows["sgd"].p == log_rank(rows["sgd"].times, rows["adam"].times)[1]
    text = report.build([runs.root], "md", target=95, baseline="optimizer=adam").text
    line = next(line for line in text.split("Time to the target")[1].splitlines() if "optimizer=sgd" in line)
    assert "1 of 4 | > 6 | 4 to 4 | > 21 |" in line
    told = json.loads(report.build([runs.root], "json", target=95).text)["target"]
    assert {row["epochs, median"] for row in told} == {3, None}
    assert "1 of 2 do not in half of their runs" in " ".join(analyse(collect([runs.root]), target=95).answer)
    page = report.build([runs.root], target=95).text
    assert 'id="target"' in page and "compare only on one machine" in page


def test_the_median_by_arithmetic_written_out():
    # at 2: 6 of 7 are left; one censored at 3; at 4: 5 at risk, 6/7 * 4/5 = 24/35; at 5: two of 4, 12/35
    assert median_time([2, 3, 4, 5, 5, 6, 8], [True, False, True, True, True, False, False]) == 5
    assert median_time([2, 3, 4, 8], [True, False, False, False]) is None
    assert median_time([1, 2], [True, False]) == 1  # half of the runs is enough
    assert median_time([4, 4], [False, False]) is None and median_time([], []) is None


@pytest.mark.parametrize("seed", range(6))
def test_the_log_rank_score_and_its_exact_p_value_by_plain_loops(seed):
    random = np.random.default_rng(seed)
    first, second = (times(*(e if e < 7 else None for e in random.integers(1, 9, n).tolist())) for n in (4, 3))
    score, p = log_rank(first, second)

    def expectation(group, every):
        """Observed less expected of a group, epoch by epoch (Mantel 1966)."""
        total = 0.0
        for epoch in range(1, 7):
            at_risk = [t for t in every if t.epochs >= epoch]
            events = sum(t.reached and t.epochs == epoch for t in every)
            own = sum(t.epochs >= epoch for t in group)
            total += sum(t.reached and t.epochs == epoch for t in group)
            total -= events * own / len(at_risk) if at_risk else 0
        return total

    every = [*first, *second]
    assert score == pytest.approx(expectation(first, every))
    ways = [expectation([every[i] for i in chosen], every) for chosen in combinations(range(7), 4)]
    assert p == pytest.approx(np.mean([abs(way) >= abs(score) - 1e-9 for way in ways]))


def test_many_runs_have_scipys_p_value():
    random = np.random.default_rng(1)
    first, second = (times(*random.integers(1, high, 12).tolist(), None, None) for high in (5, 7))
    assert comb(28, 14) > MOST_WAYS
    sides = [CensoredData([t.epochs for t in side if t.reached], right=[6, 6]) for side in (first, second)]
    score, p = log_rank(first, second)
    assert p == pytest.approx(logrank(*sides).pvalue, abs=0.02) and (score > 0) == (logrank(*sides).statistic > 0)


def test_few_runs_cannot_be_called_different_as_the_asymptotic_test_does():
    assert logrank([1, 2, 3], [4, 5, 6]).pvalue < 0.05
    assert log_rank(times(1, 2, 3), times(4, 5, 6))[1] == pytest.approx(2 / 20)
    assert log_rank(times(None, None), times(None, None)) == (0.0, 1.0)
    assert log_rank(times(1), times(2))[1] is None and log_rank([], times(1, 2))[1] is None
    assert log_rank(times(1), times(2, 3, 4))[1] is None and log_rank(times(2, 3, 4), times(1))[1] is None


def test_a_configuration_without_histories_has_no_time(runs):
    for seed in (0, 1):
        runs.add(make_record(["optimizer=sgd", f"seed={seed}"], 0.95))
        record = make_record(["optimizer=adam", f"seed={seed}"], 0.9)
        runs.add({**record, "history": {}})
    found = analyse(collect([runs.root]), target=50).target
    assert [[cell.text for cell in row][1:5] for row in target_table(found).rows][1] == [
        "0 of 0",
        MISSING,
        MISSING,
        MISSING,
    ]


def test_epochs_beyond_the_shorter_budget_compare_nothing():
    long, short = times(8, 9, None, None, length=10), times(2, 3, None, None, length=5)
    cut = times(None, None, None, None, length=5)
    assert log_rank(long, short) == log_rank(cut, short)


def test_verdicts_and_the_correction(runs):
    for optimizer, epoch in (("adam", 2), ("sgd", 4), ("rmsprop", 2)):
        for seed in range(6):
            add(runs, optimizer, seed, reaching(epoch + seed % 2))
    rows = analyse(collect([runs.root]), baseline="optimizer=adam", target=95).target.rows
    assert {r.configuration.values["optimizer"]: r.verdict for r in rows} == {
        "adam": "reference", "sgd": "slower", "rmsprop": "no difference shown"}  # fmt: skip
    base = next(r.times for r in rows if r.verdict == "reference")
    assert [r.p for r in rows] == holm([None if r.times is base else log_rank(r.times, base)[1] for r in rows])
    rows = analyse(collect([runs.root]), baseline="optimizer=sgd", target=95).target.rows
    assert {r.verdict for r in rows} == {"reference", "faster"}


def test_a_loss_is_to_be_undercut(runs):
    for optimizer, epoch in (("adam", 2), ("sgd", 4)):
        for seed in range(2):
            add(runs, optimizer, seed, reaching(epoch))
    found = analyse(collect([runs.root]), objective="val/loss", target=0.04 + 1e-9).target
    assert found.metric == "val/loss" and [row.epochs for row in found.rows] == [2, 4]


def test_a_diverged_run_never_reaches_it(runs):
    for seed, epoch in enumerate((2, 3)):
        add(runs, "adam", seed, reaching(epoch))
        add(runs, "sgd", seed, reaching(epoch))
    for seed in (2, 3, 4, 4):  # the last was tried again, and diverged again
        add(runs, "sgd", seed, [0.5], status="diverged", error={"type": "Diverged", "message": "NaN"})
    add(runs, "rmsprop", 0, [0.5], status="diverged", error={"type": "Diverged", "message": "NaN"})
    add(runs, "adam", 7, [0.96], status="failed", error={"type": "OSError", "message": "disk"})  # says nothing
    rows = {r.configuration.values["optimizer"]: r for r in analyse(collect([runs.root]), target=95).target.rows}
    assert [(sum(t.reached for t in rows[o].times), len(rows[o].times)) for o in ("adam", "sgd", "rmsprop")] == [
        (2, 2),
        (2, 5),
        (0, 1),
    ]
    assert rows["adam"].epochs == 2 and rows["sgd"].epochs is None  # dropped, they would have left a median of 2


def test_several_runs_of_one_seed_are_refused(runs):
    for scheduler, status in (("cosine", "completed"), ("exp", "diverged")):
        for seed in range(3):
            record = make_record([f"scheduler={scheduler}", f"seed={seed}"], 0.9, status=status)
            runs.add({**record, "history": {"val/accuracy": reaching(2)}})
    with pytest.raises(RequestError, match="several of one, as --ignore leaves them"):
        analyse(collect([runs.root]), target=95, ignore=["scheduler"])


def test_a_wrong_target_is_refused_in_one_line(runs, capsys):
    add(runs, "adam", 0, reaching(2))
    for given, told in (
        ("0.95", "did you mean 95?"),
        ("101", "up to 100"),
        ("-1", "above 0"),
        ("nan", "above 0"),
        ("x", "float"),
    ):
        assert main(["report", str(runs.root), f"--target={given}"]) == 2
        err = capsys.readouterr().err
        assert told in err and len(err.splitlines()) == 1
