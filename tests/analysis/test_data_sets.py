"""Several data sets against SciPy, Demšar's worked example, all arrangements counted out, and a bootstrap in loops."""

from __future__ import annotations

import json
import random
from itertools import permutations, product

import numpy as np
import pytest
from made_up import Folders, failed, make_record
from scipy.stats import f, friedmanchisquare, trim_mean, wilcoxon

from cnnbench.analysis.analyse import analyse
from cnnbench.analysis.data_sets import cliques, critical_difference, friedman, interquartile_mean, rank
from cnnbench.analysis.report import write as report
from cnnbench.analysis.runs import collect
from cnnbench.analysis.statistics import holm
from cnnbench.utils.errors import RequestError

# AUC of C4.5 and three variants of it on 14 data sets: Demšar 2006, table 6. Of voting the ranks, which are from more
# decimals than are printed, part 0.975 and 0.975.
DEMSAR = np.array([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931], [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.975, 0.9749], [0.957, 0.978, 0.946, 0.970],
]).T  # fmt: skip
LEVELS = {"a": 0.95, "b": 0.7, "c": 0.82, "d": 0.6, "e": 0.9, "f": 0.5, "g": 0.66, "h": 0.77}
GAINS = {"sgd": 0.0, "adam": 0.03, "rmsprop": 0.015}


def grid(runs: Folders, sets: int, noise: float = 0.004, **options: int) -> None:
    """Three optimizers on several data sets that are unlike one another."""
    runs.grid(
        lambda optimizer, data__path: LEVELS[data__path[0]] + GAINS[optimizer],
        optimizer=list(GAINS), data__path=[f"{name}.npz" for name in list(LEVELS)[:sets]], noise=noise, **options,
    )  # fmt: skip


def test_demsars_example() -> None:
    ranks = rank(-DEMSAR).mean(axis=1)
    assert ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    # his chi-square of 9.28 and F of 3.69 do not allow for ties, SciPy's and ours do
    chi_square = 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 5**2 / 4)
    assert chi_square == pytest.approx(9.28, abs=5e-3)
    assert 13 * chi_square / (14 * 3 - chi_square) == pytest.approx(3.69, abs=5e-3)
    found = friedman(-DEMSAR)
    assert found.chi_square == pytest.approx(friedmanchisquare(*DEMSAR).statistic) and found.chi_square > chi_square
    assert found.f == pytest.approx(13 * found.chi_square / (42 - found.chi_square))
    assert found.p == pytest.approx(f.sf(found.f, 3, 39), abs=0.005)


def test_friedmans_p_value_is_that_of_all_arrangements() -> None:
    costs = np.array([[1, 1, 2, 1], [2, 3, 1, 2], [3, 2, 3, 3]])  # of three settings on four data sets
    seen = friedmanchisquare(*costs).statistic
    drawn = [friedmanchisquare(*np.transpose(each)).statistic for each in product(permutations([1, 2, 3]), repeat=4)]
    assert friedman(costs).p == pytest.approx(np.mean([value > seen - 1e-9 for value in drawn]), abs=0.015)
    assert friedman(np.arange(3)[:, None] * np.ones(3)).p == pytest.approx(6 / 6**3, abs=0.006)  # all agree
    assert friedman(np.ones((3, 5))).p == 1.0


def test_cliques_are_the_longest_groups_within_the_critical_difference() -> None:
    ranks = [1.0, 1.4, 2.0, 3.1, 3.2, 4.5]
    within = {(i, j) for i in range(6) for j in range(i + 1, 6) if ranks[j] - ranks[i] < 1.15}
    longest = {g for g in within if not any(o != g and o[0] <= g[0] and g[1] <= o[1] for o in within)}
    assert set(cliques(ranks, 1.15)) == longest == {(0, 2), (2, 3), (3, 4)}


def test_the_interquartile_mean_is_a_bootstrap_within_data_sets() -> None:
    draw = random.Random(0)
    blocks = [[draw.gauss(centre, 0.02) for _ in range(5)] for centre in (0.5, 0.7, 0.75, 0.98)]
    value, low, high = interquartile_mean(blocks)
    assert value == pytest.approx(np.mean(np.sort(np.concatenate(blocks))[5:15]))
    drawn = [trim_mean([draw.choice(block) for block in blocks for _ in block], 0.25) for _ in range(2000)]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.0015)
    assert interquartile_mean([[0.5, 0.6], [0.7]])[1:] == (None, None)


def test_configurations_are_compared_on_the_same_data_set_alone(runs: Folders) -> None:
    grid(runs, 3)
    analysis = analyse(collect([runs.root]), baseline="optimizer=sgd")
    assert len(analysis.comparisons) == 6
    for c in analysis.comparisons:  # the data sets are 5 to 35 points apart
        assert c.difference.value == pytest.approx(GAINS[c.configuration.values["optimizer"]], abs=0.02)
    assert [c.p for c in analysis.comparisons] == holm([c.difference.p for c in analysis.comparisons])
    # without a baseline the reference is the first on each data set
    analysis = analyse(collect([runs.root]))
    assert [(row.rank, row.configuration.values["data.path"]) for row in analysis.board.rows] == [
        (place, name) for name in ("a.npz", "b.npz", "c.npz") for place in (1, 2, 3)
    ]
    assert all(c.difference.value < 0 for c in analysis.comparisons) and len(analysis.comparisons) == 6
    assert {c.values["optimizer"] for c in analysis.references.values()} == {"adam"}
    assert [effect.factor for effect in analysis.effects.mains] == ["optimizer"]  # which set is easier is no effect
    assert analysis.versus.settings["data.path"] == analysis.run.settings["data.path"]


def test_ranks_and_signed_ranks_over_data_sets_are_scipys(runs: Folders) -> None:
    grid(runs, 8)
    across = analyse(collect([runs.root])).across
    assert across.settings == ["optimizer=adam", "optimizer=rmsprop", "optimizer=sgd"]
    means = np.array(across.means)
    assert across.ranks == rank(-means).mean(axis=1).tolist()
    raw = [wilcoxon(means[i], means[j], method="exact").pvalue for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [pair.p for pair in across.pairs] == pytest.approx(raw)
    assert [pair.p_holm for pair in across.pairs] == pytest.approx(holm(raw))
    assert across.pairs[1].better_on == 8 and across.pairs[1].verdict == "better"
    # against a baseline there are fewer pairs to correct for
    others = analyse(collect([runs.root]), baseline="optimizer=sgd").across.pairs
    assert [(pair.setting, pair.other) for pair in others] == [
        ("optimizer=adam", "optimizer=sgd"), ("optimizer=rmsprop", "optimizer=sgd"),
    ]  # fmt: skip
    assert others[0].p_holm < across.pairs[1].p_holm


def test_too_few_data_sets_for_signed_ranks_are_said_to_be_so(runs: Folders) -> None:
    grid(runs, 5)
    across = analyse(collect([runs.root])).across
    assert across.pairs == [] and across.least_p == pytest.approx(3 * wilcoxon([1, 2, 3, 4, 5.0]).pvalue)
    assert 3 * wilcoxon(np.arange(1.0, across.data_sets_needed)).pvalue >= 0.05  # one fewer
    assert 3 * wilcoxon(np.arange(1.0, 1 + across.data_sets_needed)).pvalue < 0.05
    text = report.build([runs.root], "md").text
    assert "5 data sets are too few" in text and "Wilcoxon's signed-rank test over" not in text
    assert "p = 0.000" not in text and text.count("best mean rank") == 2


def test_where_runs_are_missing_the_largest_full_table_is_ranked(runs: Folders) -> None:
    grid(runs, 4)
    for seed in range(3):
        runs.add(make_record(["optimizer=sgd", "data.path=a.npz", "label_smoothing=0.1", f"seed={seed}"], 0.9))
    runs.add(failed(["optimizer=sgd", "data.path=z.npz", "seed=0"]))
    analysis = analyse(collect([runs.root]))
    across = analysis.across
    assert len(across.settings) == 3 and across.short_names == ["a.npz", "b.npz", "c.npz", "d.npz"]
    assert len(across.left_out) == 1 and "label_smoothing=0.1" in across.left_out[0]
    assert "Not in the ranks" in report.build([runs.root], "md").text


def test_many_settings_on_one_data_set_do_not_hide_those_on_several(runs: Folders) -> None:
    grid(runs, 3)
    for smoothing, seed in product((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), range(2)):
        runs.add(make_record(["optimizer=sgd", "data.path=a.npz", f"label_smoothing={smoothing}", f"seed={seed}"], 0.9))
    across = analyse(collect([runs.root])).across
    assert len(across.settings) == 3 and across.short_names == ["a.npz", "b.npz", "c.npz"]


def test_what_two_settings_share_is_ranked_where_neither_has_it_alone(runs: Folders) -> None:
    for optimizer, sets in (("sgd", "abc"), ("adam", "bcd"), ("rmsprop", "a")):
        for name, seed in product(sets, range(2)):
            runs.add(make_record([f"optimizer={optimizer}", f"data.path={name}.npz", f"seed={seed}"], LEVELS[name]))
    assert analyse(collect([runs.root])).across.short_names == ["b.npz", "c.npz"]


def test_the_report_has_a_section_and_a_diagram(runs: Folders) -> None:
    grid(runs, 8)
    page = report.build([runs.root], baseline="optimizer=sgd").text
    for text in ("Across data sets", "critical difference 1.17", "Wilcoxon", "interquartile mean", "F 64", "infinite"):
        assert (text in page) == (text not in ("F 64", "infinite")), text
    found = json.loads(report.build([runs.root], "json").text)["across_data_sets"]
    assert found["friedman"]["chi_square"] == 16 and found["friedman"]["f"] is None  # all agree: F is infinite
    assert {"setting", "p_holm"} <= found["pairs"][0].keys()
    assert "label{tab:across}" in report.build([runs.root], "latex").text
    one = json.loads(report.build([runs.root / "optimizer=sgd,data.path=a.npz,seed=0"], "json").text)
    assert one["across_data_sets"] is None


def test_a_baseline_that_is_not_on_all_data_sets(runs: Folders) -> None:
    grid(runs, 2)
    runs.add(make_record(["optimizer=adam", "data.path=h.npz", "seed=0"], 0.9))
    analysis = analyse(collect([runs.root]), baseline="optimizer=sgd")
    assert len(analysis.comparisons) == 4
    assert any("has no completed run there: path=h.npz" in sentence for sentence in analysis.answer)


def test_a_metric_that_is_no_share_has_no_interquartile_mean(runs: Folders) -> None:
    grid(runs, 3)
    across = analyse(collect([runs.root]), metric="test/loss").across
    assert across.middle == [] and across.settings[0] == "optimizer=adam"  # the lowest loss


def test_what_compares_all_configurations_is_of_one_data_set(runs: Folders) -> None:
    grid(runs, 2)
    assert analyse(collect([runs.root])).pairs is None
    for option in ({"all_pairs": True}, {"target": 0.8}):
        with pytest.raises(RequestError, match=r"is for one data set, and these are path=a.npz, path=b.npz"):
            analyse(collect([runs.root]), **option)
