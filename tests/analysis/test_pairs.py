"""Every configuration against every other."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from made_up import Folders, make_record
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests

from cnnbench.analysis.analyse import MOST, analyse, compare_all
from cnnbench.analysis.grouping import group
from cnnbench.analysis.report import write as report
from cnnbench.analysis.report.tables import pair_table
from cnnbench.analysis.runs import collect
from cnnbench.cli.main import main


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    runs, means = Folders(tmp_path_factory.mktemp("four")), {"none": 0.90, "batch": 0.905, "layer": 0.93, "group": 0.96}
    runs.grid(lambda model__norm: means[model__norm], model__norm=list(means), seeds=5)
    return runs


def test_pairs_are_scipys_t_tests_with_statsmodels_correction(four):
    analysis = analyse(collect([four.root]))
    pairs = analysis.pairs
    values = [[run.value("test/accuracy") for run in c.runs] for c in pairs.configurations]
    raw = [ttest_rel(values[row], values[column]).pvalue for row, column in combinations(range(4), 2)]
    _, corrected, *_ = multipletests(raw, method="holm")
    assert [p for _, p, _ in pairs.matrix.values()] == pytest.approx(corrected)
    assert [d.p for d, *_ in pairs.matrix.values()] == pytest.approx(raw)
    differ = {pair for pair, p in zip(pairs.matrix, corrected, strict=True) if p < 0.05}
    assert {pair for pair in pairs.matrix if pairs.sign(*pair) == "*"} == differ
    assert f"{len(differ)} of 6 differ" in pair_table(pairs).caption
    for row, column in combinations(range(4), 2):
        assert pairs.value(row, column) == pytest.approx(np.mean(values[row]) - np.mean(values[column]))
        assert pairs.value(column, row) == -pairs.value(row, column)


@pytest.mark.usefixtures("without_pictures")
def test_the_table_has_row_minus_column_and_is_in_every_format(four):
    analysis = analyse(collect([four.root]))
    table = pair_table(analysis.pairs)
    best, worst = analysis.pairs.value(0, 3), table.rows[3][2]
    assert (
        table.rows[0][5].text == f"{100 * best:+.2f}*" and worst.text == f"{-100 * best:+.2f}*" and worst.value == -best
    )
    assert [table.rows[i][i + 2].text for i in range(4)] == [""] * 4
    for fmt in ("html", "md", "latex"):
        assert f"{100 * best:+.2f}" in report.build([four.root], fmt).text
    told = json.loads(report.build([four.root], "json").text)["pairs"]
    assert len(told) == 6 and told[2]["place"] == 1 and told[2]["minus"] == 4 and told[2]["difference"] == best


def test_words_of_practical_differences(four):
    pairs = analyse(collect([four.root]), practical=3).pairs
    assert {verdict for *_, verdict in pairs.matrix.values()} == {"better", "practically the same"}
    strict = analyse(collect([four.root]), practical=0.1).pairs
    assert {verdict for *_, verdict in strict.matrix.values()} == {"better", "undecided"}
    table = pair_table(pairs)
    assert "=: practically the same" in table.caption
    texts = " ".join(cell.text for row in table.rows for cell in row[2:])
    assert "*" in texts and "=" in texts


def test_lower_is_better_of_a_loss(four):
    pairs = analyse(collect([four.root]), metric="test/loss").pairs
    assert pairs.matrix[0, 3][2] == "better" and pairs.value(0, 3) < 0


def test_how_many_configurations_are_compared(runs):
    for number in range(MOST + 2):
        for seed in range(2):
            runs.add(make_record([f"label_smoothing={number / 100}", f"seed={seed}"], 0.9 + 0.001 * seed))
    runs = collect([runs.root])

    def first(count):
        return [run for run in runs if run.settings["label_smoothing"] < count / 100 - 0.005]

    assert analyse(first(2)).pairs is None and analyse(first(1), all_pairs=True).pairs is None
    assert len(analyse(first(2), all_pairs=True).pairs.matrix) == 1
    assert len(analyse(first(MOST)).pairs.matrix) == 66
    assert analyse(first(MOST + 1)).pairs is None
    assert len(analyse(runs, all_pairs=True).pairs.matrix) == 91


def test_a_configuration_without_a_value_is_a_dash_and_no_comparison_to_correct_for(runs):
    for name, means in (("a", (0.9, 0.91, 0.92)), ("b", (0.8, 0.815, 0.82)), ("c", (None, None, None))):
        for seed, value in enumerate(means):
            metrics = {"test/accuracy": value, "test/loss": 1.0}
            runs.add(make_record([f"model.norm={name}", f"seed={seed}"], 0.9, metrics=metrics))
    configurations = group(collect([runs.root])).configurations
    pairs = compare_all(configurations, "test/accuracy")
    assert pairs.matrix[0, 1][1] == pairs.matrix[0, 1][0].p and pairs.value(2, 0) is None


def test_the_command_takes_the_option(four, capsys):
    assert main(["report", str(four.root), "--all-pairs", "--format", "md"]) == 0
    assert "## Each against each" in capsys.readouterr().out
