"""Configurations against a reference, how numbers are written, and figures of awkward names."""

from __future__ import annotations

import math
from itertools import product

import pytest
from made_up import failed, make_record
from matplotlib import rc_context
from scipy import stats

from cnnbench.analysis import metric_names
from cnnbench.analysis.analyse import compare_with_reference
from cnnbench.analysis.grouping import group
from cnnbench.analysis.leaderboard import build
from cnnbench.analysis.power import MOST_SEEDS, seeds_needed
from cnnbench.analysis.report.figures.style import STYLE, panel, plain, svg
from cnnbench.analysis.report.tables import comparison_table
from cnnbench.analysis.runs import collect
from cnnbench.analysis.statistics import holm
from cnnbench.analysis.wording import sentences


def compared(runs, baseline, metric="test/accuracy", **options):
    grid = group(collect([runs.root]))
    reference = grid.find(baseline)
    return reference, compare_with_reference(
        {"": reference}, [c for c in grid.configurations if c is not reference], metric, **options
    )


def test_p_values_are_corrected_for_all_comparisons(runs):
    runs.grid(lambda optimizer: 0.9 + 0.01 * (optimizer == "adam"), optimizer=["sgd", "adam", "rmsprop"], noise=0.01)
    reference, found = compared(runs, "optimizer=sgd")
    raw = [c.difference.p for c in found]
    assert [c.p for c in found] == holm(raw) != raw
    table = comparison_table(found, reference.short, "test/accuracy")
    assert [row[table.headers.index("p, Holm")].value for row in table.rows] == [c.p for c in found]
    assert [row[table.headers.index("p")].value for row in table.rows] == raw


def test_a_configuration_of_one_run_is_no_comparison_to_correct_for(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"])
    runs.add(make_record(["optimizer=rmsprop", "seed=0"], 0.5))
    _, found = compared(runs, "optimizer=sgd")
    several, one = sorted(found, key=lambda c: c.p is None)
    assert several.p == several.difference.p
    assert one.p is None and one.verdict == "no difference shown" and one.difference.value < -0.3
    assert sentences("seeds_needed", one, "test/accuracy", MOST_SEEDS)[0] == "one run a side: no test"


def test_seeds_for_a_difference_of_a_given_size(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"], noise=0.01)
    _, (one,) = compared(runs, "optimizer=sgd")
    assert one.size == 0.01 and one.seeds_needed == seeds_needed(0.01, one.difference.sd, True)
    assert sentences("seeds_needed", one, "test/accuracy", MOST_SEEDS)[0].endswith("for 1 point")
    _, (other,) = compared(runs, "optimizer=sgd", size=0.05)
    assert other.seeds_needed < one.seeds_needed
    assert sentences("seeds_needed", other, "test/accuracy", MOST_SEEDS)[0].endswith("for 5.00 points")
    _, (loss,) = compared(runs, "optimizer=sgd", "test/loss")
    assert loss.size == pytest.approx(0.05 * 2 * (1.02 - 0.9), rel=0.2)


def test_failed_seeds_leave_the_pairs_of_the_others(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"], seeds=4)
    (runs.root / "optimizer=adam,seed=1" / "result.json").unlink()
    runs.add(failed(["optimizer=adam", "seed=1"]))
    _, (one,) = compared(runs, "optimizer=sgd")
    assert one.difference.method == "paired t" and one.difference.n == 3


def test_runs_of_one_seed_are_one_observation_their_mean(runs):
    """--ignore once made six independent runs of three seeds, and a difference of p 0.2 one of 0.01."""
    gains = {0: 0.01, 1: 0.03, 2: 0.02}
    for optimizer, scheduler, seed in product(("sgd", "adam"), ("cosine", "exp"), range(3)):
        accuracy = 0.8 + seed / 50 + (optimizer == "adam") * gains[seed] + (scheduler == "exp") / 100
        runs.add(make_record([f"optimizer={optimizer}", f"scheduler={scheduler}", f"seed={seed}"], accuracy))
    board = build(collect([runs.root]), ignore=["scheduler"])
    by_label = {row.configuration.short: row.configuration for row in board.rows}
    adam, sgd = by_label["optimizer=adam"], by_label["optimizer=sgd"]
    assert [len(adam.runs), board.rows[0].n, board.rows[0].value("test/accuracy").n] == [6, 3, 3]
    (one,) = compare_with_reference({"": sgd}, [adam], "test/accuracy")
    right = stats.ttest_1samp(list(gains.values()), 0)
    assert one.difference.method == "paired t" and one.difference.n == 3
    assert one.difference.p == pytest.approx(right.pvalue)


def test_versions_of_the_code_that_are_ignored_are_averaged(runs):
    for seed, (version, gain) in product(range(3), (("0123456789abcdef", 0.0), ("fedcba9876543210", 0.05))):
        changes = {"environment": {"git": version}}
        runs.add(
            make_record([f"seed={seed}", "optimizer=sgd"], 0.8 + seed / 100 + gain, **changes), f"{version}_{seed}"
        )
    board = build(collect([runs.root]), ignore=["code"])
    assert board.rows[0].n == 3 and board.rows[0].value("test/accuracy").mean == pytest.approx(0.81 + 0.025)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_dash(value):
    for metric in ("test/accuracy", "test/loss", "parameters"):
        assert metric_names.number(value, metric) == metric_names.MISSING
    assert metric_names.compact(value) == metric_names.p_value(value) == metric_names.MISSING
    assert metric_names.plus_minus(0.5, value, "test/loss") == "0.5000"


def test_numbers_as_they_are_shown():
    assert metric_names.plus_minus(0.98523, 0.00312, "test/accuracy") == "98.52 ± 0.31"
    assert metric_names.difference(0.031, "val/recall") == "+3.10 points"
    assert metric_names.difference(-0.0412, "val/loss") == "-0.0412"
    assert metric_names.difference(-0.00001, "val/recall") == "+0.00 points"  # no minus before a nought
    assert metric_names.difference(-0.00001, "val/loss") == "+0.0000"
    assert [metric_names.compact(v) for v in (2710, 62006, 1199882, 3.2e9, 0.4132)] == [
        "2,710",
        "62k",
        "1.2M",
        "3.2G",
        "0.413",
    ]
    assert metric_names.p_value(0.00001) == "<0.001" and metric_names.p_value(0.0312) == "0.031"


@pytest.mark.parametrize("name", ["$x_{", "$\\frac{a}{b}$", "<b>&\"'", "tab\there", "\x00\x1b", "漢字", ""])
def test_any_name_makes_well_formed_svg(name):
    import xml.dom.minidom

    with rc_context(STYLE):
        figure, axes = panel(title=name, x=name)
        axes.set_xticks([0, 1], [plain(name), "b"])
    text = svg(figure, "one", name)
    xml.dom.minidom.parseString(text)
    assert "currentColor" in text and "#010203" not in text
    if "$" in name:
        assert "<tspan" not in text  # not read as mathematics
