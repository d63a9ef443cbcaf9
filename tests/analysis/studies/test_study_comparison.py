"""Tables and verdicts of a study, on made-up runs with known numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import summarise
from cnnbench.analysis.studies.claims import judge
from cnnbench.analysis.studies.reproduction import Part, build_table, compared, terminal_text
from cnnbench.analysis.studies.study import Claim, Row, load_study, measure
from cnnbench.analysis.studies.verdicts import NO_VERDICT

STUDY = load_study("eq2425")
COLUMN = "val/recall"


def run(seed: int, status: str = "completed", **metrics: Any) -> Run:
    """A run with these values; a list is a history of which the last is the final value."""
    history = {key: value for key, value in metrics.items() if isinstance(value, list)}
    final = {key: value[-1] if isinstance(value, list) else value for key, value in metrics.items()}
    record = {
        "seed": seed,
        "status": status,
        "metrics": final,
        "history": history,
        "protocol": {"weights": "last"},
        "data": {"classes": 10},
    }
    return Run(Path(f"/runs/{seed}"), status, record, {"seed": seed})


def runs_of(values: list[float], metric: str = COLUMN) -> list[Run]:
    return [run(seed, **{metric: value}) for seed, value in enumerate(values)]


def verdict(holds: str, short: tuple[str, ...] = (), **rows: list[Run]) -> tuple[str, str]:
    named = {{"first": "default", "second": "4a1_filters"}.get(name, name): found for name, found in rows.items()}
    found = judge(Claim("", holds), STUDY, named, short)
    return found.verdict, found.evidence


def test_measures_read_a_record():
    one = run(0, **{"val/recall": [0.1, 0.5, 0.6], "test/accuracy": 0.7})
    one.record["per_class"] = {"classes": ["cat", "dog"], "test/recall": [0.25, 0.75]}
    assert measure(one, "val/recall") == 0.6
    assert measure(one, "val/recall mean over epochs") == pytest.approx(0.4)
    assert measure(one, "val/recall at epoch 1") == 0.1
    assert measure(one, "val/recall at epoch 9") is None
    assert measure(one, "val/recall at the last epoch") == 0.6
    assert measure(run(0), "val/recall at the last epoch") is None
    assert measure(one, "test/recall of dog") == 0.75
    assert measure(one, "test/recall of cow") is None
    assert measure(one, "test/accuracy minus val/recall") == pytest.approx(0.1)
    assert measure(one, "test/accuracy minus val/recall at epoch 9") is None
    one.record.update({"protocol": {"weights": "best"}, "best": {"val/recall": 0.5}})
    assert (measure(one, "val/recall"), measure(one, "val/recall at the last epoch")) == (0.5, 0.6)
    one.record["model"] = {"bits": 160, "parameters": 100}
    assert measure(one, "bits divided by parameters") == 1.6


def test_a_comparison_is_judged_by_the_paired_interval():
    base = [0.50, 0.52, 0.51, 0.53]
    better = [value + gain for value, gain in zip(base, [0.05, 0.06, 0.055, 0.05], strict=True)]
    rows = {"first": runs_of(base), "second": runs_of(better)}
    assert verdict(f"4a1_filters > default on {COLUMN}", **rows)[0] == "reproduced"
    assert verdict(f"4a1_filters < default on {COLUMN}", **rows)[0] == "contradicted"
    assert verdict(f"4a1_filters ~ default on {COLUMN}", **rows)[0] == "contradicted"
    told = verdict(f"4a1_filters > default on {COLUMN}", **rows)[1]
    interval = stats.ttest_rel(better, base).confidence_interval()
    assert [float(n) for n in re.findall(r"[+-]\d+\.\d+", told)] == pytest.approx(
        [100 * np.mean(np.subtract(better, base)), 100 * interval.low, 100 * interval.high], abs=0.006
    )


def test_what_the_seeds_cannot_show_is_not_shown():
    rows = {"first": runs_of([0.5, 0.6, 0.4]), "second": runs_of([0.6, 0.5, 0.5])}
    assert verdict(f"4a1_filters > default on {COLUMN}", **rows)[0] == "not shown"
    one_seed = {"first": runs_of([0.5]), "second": runs_of([0.9])}
    assert verdict(f"4a1_filters > default on {COLUMN}", **one_seed)[0] == "not shown"
    assert verdict(f"4a1_filters > default on {COLUMN}", first=runs_of([0.5, 0.6])) == (
        "not shown",
        "no finished run of 4a1_filters",
    )


def test_a_small_difference_is_as_good_as_none_only_within_the_tolerance():
    base = runs_of([0.500, 0.510, 0.505])
    close = runs_of([0.501, 0.512, 0.504])
    assert verdict(f"4a1_filters ~ default on {COLUMN}", first=base, second=close)[0] == "reproduced"
    wide = runs_of([0.47, 0.56, 0.50])
    assert verdict(f"4a1_filters ~ default on {COLUMN}", first=base, second=wide)[0] == "not shown"


def test_failing_to_learn_is_guessing_or_diverging():
    claim = f"default fails to learn on {COLUMN}"
    assert verdict(claim, first=runs_of([0.10, 0.11]))[0] == "reproduced"
    assert verdict(claim, first=runs_of([0.50, 0.51]))[0] == "contradicted"
    assert verdict(claim, first=runs_of([0.10, 0.51]))[0] == "not shown"
    diverged = [run(seed, "diverged") for seed in range(2)]
    assert verdict(claim, first=diverged)[0] == "reproduced"
    assert verdict(claim, first=[*diverged, run(2, "failed")])[0] == "not shown"
    assert verdict(claim, first=runs_of([0.10]))[0] == "not shown"
    for values in ([0.50, 0.51], [0.10, 0.11]):
        unknown = verdict(claim, first=[*runs_of(values), run(2)])
        assert unknown[0] == "not shown" and unknown[1].endswith("; 1 of 3 without a value, n = 3")
    assert verdict(claim, first=[run(0), run(1)])[0] == "not shown"


def test_levelling_off_is_about_what_comes_later():
    flat = [run(seed, **{"val/recall": [0.1, 0.5, 0.6, 0.601 + seed / 1e4, 0.6]}) for seed in range(3)]
    rising = [run(seed, **{"val/recall": [0.1, 0.2, 0.3, 0.4, 0.5 + seed / 1e3]}) for seed in range(3)]
    claim = "default levels off by epoch 3 on val/recall"
    assert verdict(claim, first=flat)[0] == "reproduced"
    assert verdict(claim, first=rising)[0] == "contradicted"
    assert verdict("default levels off by epoch 5 on val/recall", first=flat)[0] == NO_VERDICT


@pytest.mark.parametrize("values", [[0.1] * 5, [0.1, 0.09, 0.08, 0.08, 0.07], [0.1, 0.1001, 0.1, 0.1002, 0.1]])
def test_a_curve_that_never_rose_has_not_levelled_off(values):
    runs = [run(seed, **{"val/recall": [value + seed / 1e4 for value in values]}) for seed in range(3)]
    assert verdict("default levels off by epoch 3 on val/recall", first=runs) == (
        "not shown",
        "nothing was gained in 3 of 3 runs",
    )
    assert verdict("default is still rising at epoch 5 on val/recall", first=runs)[0] == "not shown"


def test_still_rising_is_the_opposite_of_levelling_off():
    saturating = [
        run(seed, **{"val/recall": [0.9 - 0.8 * 0.5**e + seed / 1e4 * e for e in range(20)]}) for seed in range(3)
    ]
    rising = [
        run(seed, **{"val/recall": [0.1 + 0.04 * e + seed / 1e4 * (e % 3) for e in range(20)]}) for seed in range(3)
    ]
    for runs, levels, rises in ((saturating, "reproduced", "contradicted"), (rising, "contradicted", "reproduced")):
        assert verdict("default levels off by epoch 10 on val/recall", first=runs)[0] == levels
        assert verdict("default is still rising at epoch 20 on val/recall", first=runs)[0] == rises
    assert verdict("default is still rising at epoch 21 on val/recall", first=rising)[0] == NO_VERDICT


def test_a_loss_levels_off_downwards():
    falling = [run(seed, **{"val/loss": [2.0, 1.0 + seed / 1e3, 0.5, 0.49 + seed / 1e3, 0.51]}) for seed in range(3)]
    assert verdict("default levels off by epoch 3 on val/loss", first=falling)[0] == "reproduced"
    assert verdict("default levels off by epoch 2 on val/loss", first=falling)[0] == "contradicted"
    # all is gained after the first epoch, and nothing after the third: the same share in each run
    assert verdict("default levels off by epoch 1 on val/loss", first=falling)[0] == "contradicted"
    flat = [run(seed, **{"val/loss": [2.0, 1.0, 0.5 + seed / 1e3, 0.5 + seed / 1e3]}) for seed in range(3)]
    assert verdict("default levels off by epoch 3 on val/loss", first=flat)[0] == "reproduced"


def test_what_gets_worse_again_has_not_levelled_off():
    """As a validation loss that is lowest early and then rises to five times that."""
    rising = [run(seed, **{"val/loss": [2.0, 1.0, 1.0, 3.0, 5.0 + seed / 10]}) for seed in range(3)]
    # of a gain of 1, 4 to 4.2 are lost again
    assert verdict("default levels off by epoch 3 on val/loss", first=rising) == (
        "contradicted",
        "of all that was gained, won or lost after epoch 3: 410.0%, 95% interval 385.2% to 434.8%, n = 3",
    )


LOSS = [0.50, 0.51, 0.52], [0.495, 0.506, 0.516]  # a loss of half a point or less


@pytest.mark.parametrize(
    "claim, expected",
    [
        ("4a1_filters < default by at most 1 point", "reproduced"),
        ("4a1_filters < default by at most 0.1 points", "contradicted"),
        ("4a1_filters > default by at most 1 point", "reproduced"),  # it loses, which is no more
        ("4a1_filters < default by about 0.4 points", "reproduced"),
        ("4a1_filters < default by about 2 points", "reproduced"),  # within the tolerance of two points
        ("4a1_filters < default by about 5 points", "contradicted"),
        ("4a1_filters > default by about 0.4 points", "contradicted"),
    ],
)
def test_a_claim_can_say_by_how_much(claim, expected):
    first, second = map(runs_of, LOSS)
    assert verdict(f"{claim} on {COLUMN}", first=first, second=second)[0] == expected


def test_how_much_is_not_shown_by_an_interval_on_both_sides():
    rows = {"first": runs_of([0.5, 0.6, 0.4]), "second": runs_of([0.6, 0.5, 0.5])}
    assert verdict(f"4a1_filters < default by at most 1 point on {COLUMN}", **rows)[0] == "not shown"
    assert verdict(f"4a1_filters > default by about 3 points on {COLUMN}", **rows)[0] == "not shown"


def test_seeds_that_diverged_are_told_and_show_nothing():
    better = [run(0, **{COLUMN: 0.7}), run(1, **{COLUMN: 0.72}), *(run(seed, "diverged") for seed in (2, 3))]
    rows = {"first": runs_of([0.5, 0.51, 0.52, 0.53]), "second": better}
    told = verdict(f"4a1_filters > default on {COLUMN}", **rows)
    assert told[0] == "not shown"
    assert told[1].startswith("2 of 4 seeds of 4a1_filters diverged and are left out; +20.50 points")
    assert verdict(f"default ~ 4a1_filters on {COLUMN}", **rows)[0] == "not shown"
    rows["second"] = [run(seed, "diverged", **{COLUMN: 0.1}) for seed in range(2)]
    told = verdict(f"4a1_filters > default on {COLUMN}", **rows)
    assert told == ("not shown", "2 of 2 seeds of 4a1_filters diverged and are left out")


def test_a_cost_without_spread_is_compared_plainly():
    def sized(weights, status="completed"):
        one = run(0, status)
        one.record["model"] = {"parameters": weights}
        return [one]

    smaller, larger = sized(100, "diverged"), sized(200)  # how a run ended does not change its size
    claim = "4a1_filters < default on parameters"
    assert verdict(claim, first=larger, second=smaller) == ("reproduced", "100 against 200")
    assert verdict(claim, first=smaller, second=larger)[0] == "contradicted"
    assert verdict(claim, first=smaller, second=smaller)[0] == "not shown"
    # the seconds in all depend on how a run ended, those of an epoch do not
    for one, seconds in zip((smaller[0], larger[0]), (10.0, 99.0), strict=True):
        one.record["time"] = {"fit_seconds": seconds, "epoch_seconds": [seconds / 2] * 2}
    assert verdict("4a1_filters < default on fit_seconds", first=larger, second=smaller)[1].endswith("left out")
    assert (
        "-44.5 s with one seed"
        in verdict("4a1_filters < default on seconds_per_epoch", first=larger, second=smaller)[1]
    )
    larger[0].record["model"]["bits"], smaller[0].record["model"]["bits"] = 6_400, 100  # a bit a weight
    assert verdict("4a1_filters < default on bits", first=larger, second=smaller) == ("reproduced", "100 against 6,400")


def test_a_comparison_of_networks_of_other_sizes_says_so():
    rows = {"first": runs_of([0.5, 0.51, 0.52]), "second": runs_of([0.6, 0.61, 0.62])}
    claim = f"4a1_filters > default on {COLUMN}"
    assert "weights" not in verdict(claim, **rows)[1]
    for runs, weights in zip(rows.values(), (100, 20_000), strict=True):
        for one in runs:
            one.record["model"] = {"parameters": weights, "flops_per_image": 10 * weights}
    assert verdict(claim, **rows)[1].endswith("; 20k weights against 100, 200k FLOPs an image against 1,000")
    for runs, weights in zip(rows.values(), (256_058, 256_394), strict=True):  # eq2425's default and 4e_batch_norm
        for one in runs:
            one.record["model"] = {"parameters": weights, "flops_per_image": 7_540_000}
    assert verdict(claim, **rows)[1].endswith("n = 3; 256,394 weights against 256,058")


def test_a_spread_is_compared_by_its_ratio():
    seeds = [[2.0 + seed / 2, 1.0 + seed / 1000] for seed in range(3)]
    rows = {"first": [run(seed, **{"train/loss": values}) for seed, values in enumerate(seeds)]}
    told = verdict("default spreads more at epoch 1 than at epoch 2 on train/loss", **rows)
    most = stats.f.ppf(0.975, 2, 2) ** 0.5
    assert told[0] == "reproduced"
    assert told[1].endswith(f"ratio 500, 95% interval {500 / most:.3g} to {500 * most:.3g}, n = 3")
    assert verdict("default spreads more at epoch 2 than at epoch 1 on train/loss", **rows)[0] == "contradicted"
    assert verdict("default spreads more at epoch 3 than at epoch 1 on train/loss", **rows)[0] == NO_VERDICT


GUESSING, LEARNED = [0.10, 0.11, 0.12], [0.50, 0.512, 0.52]


@pytest.mark.parametrize(
    "claim, short, first, second, expected",
    [
        ("4a1_filters > default", ("default", "4a1_filters"), GUESSING, LEARNED, NO_VERDICT),
        ("4a1_filters > default", ("4a1_filters",), GUESSING, LEARNED, "reproduced"),  # the report's budget is enough
        ("default ~ 4a1_filters", ("default", "4a1_filters"), GUESSING, GUESSING, NO_VERDICT),
        ("4a1_filters < default", ("default", "4a1_filters"), LEARNED, [0.4, 0.41, 0.421], "reproduced"),
        ("4a1_filters < default by about 10 points", ("default",), LEARNED, [0.4, 0.41, 0.421], NO_VERDICT),
        ("4a1_filters < default by about 10 points", (), LEARNED, [0.4, 0.41, 0.421], "reproduced"),
        ("4a1_filters < default by at most 1 point", ("default",), LEARNED, LEARNED, NO_VERDICT),
        ("4a1_filters ~ default", ("default",), LEARNED, LEARNED, NO_VERDICT),  # how small it is, is a size
        ("4a1_filters ~ default", (), LEARNED, [0.501, 0.511, 0.521], "reproduced"),
        (
            "4a1_filters > default",
            (),
            [0.50, 0.51],
            [0.51, 0.52],
            "not shown",
        ),  # by 0.01 twice: two seeds may do so by chance
        ("4a1_filters ~ default", (), LEARNED, LEARNED, "not shown"),
        ("default - 4a1_filters > 4a1_filters - default", ("default",), LEARNED, [0.4, 0.41, 0.421], NO_VERDICT),
        ("default - 4a1_filters > 4a1_filters - default", (), LEARNED, [0.4, 0.41, 0.421], "reproduced"),
        ("4a1_filters fails to learn", ("default", "4a1_filters"), GUESSING, GUESSING, NO_VERDICT),
        ("4a1_filters fails to learn", ("default", "4a1_filters"), LEARNED, GUESSING, "reproduced"),
        ("4a1_filters fails to learn", (), GUESSING, GUESSING, "reproduced"),
    ],
)
def test_a_smaller_budget_allows_verdicts_only_of_what_has_learned(claim, short, first, second, expected):
    rows = {"first": runs_of(first), "second": runs_of(second)}
    assert verdict(f"{claim} on {COLUMN}", short, **rows)[0] == expected


def test_a_smaller_budget_does_not_show_that_a_curve_stays_level() -> None:
    level = [run(seed, **{"val/recall": [0.1, 0.5, 0.6, 0.601 + seed / 1e4]}) for seed in range(3)]
    claim = "default levels off by epoch 3 on val/recall"
    assert verdict(claim, ("default",), first=level)[0] == NO_VERDICT
    assert verdict(claim, first=level)[0] == "reproduced"


def test_what_a_run_has_at_an_epoch_takes_so_many_epochs() -> None:
    rows = {}
    for row, value in (("default", 0.5), ("4a1_filters", 0.6)):
        curves = [[0.3, 0.4, value + seed * (value - 0.4) / 1e3] for seed in range(3)]
        rows[row] = [run(seed, epoch=[0, 1, 2], **{"val/recall": curve}) for seed, curve in enumerate(curves)]
    claim = "4a1_filters > default on val/recall at epoch"
    short = ("default", "4a1_filters")
    assert verdict(f"{claim} 3", short, **rows)[0] == "reproduced"
    rows["default"].append(run(3, "interrupted", epoch=[0], **{"val/recall": [0.3]}))  # which is not judged
    assert verdict(f"{claim} 3", short, **rows)[0] == "reproduced"
    assert verdict(f"{claim} 5", short, **rows) == (NO_VERDICT, "the runs have 3 epochs; it takes 5; no numbers")


def test_losses_come_closer_whichever_is_larger() -> None:
    """SGD's are 0.05 apart, Adam's 0.4 with the train loss the larger, for it has the dropout."""
    rows = {}
    for row, gap in (("default", 0.05), ("4a1_filters", -0.4)):
        losses = [{"val/loss": 1.0 + gap * (1 + seed / 1e3), "train/loss": 1.0} for seed in range(3)]
        rows[row] = [run(seed, **loss) for seed, loss in enumerate(losses)]
    claim = "4a1_filters < default on val/loss"
    assert verdict(f"{claim} apart from train/loss", **rows)[0] == "contradicted"
    assert verdict(f"{claim} minus train/loss", **rows)[0] == "reproduced"


def test_no_number_is_judged_at_a_smaller_budget_however_well_a_row_has_learned():
    row = Row("default", "", {"train_recall": 0.6, "validation_recall": 0.5}, {"trainer": {"max_epochs": 300}})
    values = {"val/batch_recall": [0.1, 0.1], "train_eval/batch_recall": [0.1, 0.1]}
    for last, short, expected in ((0.1, ["default"], NO_VERDICT), (0.1, [], "differs"), (0.3, ["default"], NO_VERDICT)):
        runs = {"default": [run(seed, **values, **{"val/recall": last}) for seed in range(2)]}
        line = build_table(STUDY, [row], runs, short=short)[0]
        assert [cell.fit for cell in line.cells[:2]] == [expected, expected]
        words = "" if expected == NO_VERDICT else " (differs)"
        assert [cell.gap_text for cell in line.cells[:2]] == [f"-50.00{words}", f"-40.00{words}"]


def test_the_hardest_classes_are_those_with_the_lowest_recall():
    found = []
    for seed in range(3):
        one = run(seed, **{COLUMN: 0.5})
        recalls = [0.3 + seed / 100, 0.4, 0.8 + seed / 100, 0.9 - seed / 100]
        one.record["per_class"] = {"classes": ["cat", "dog", "ship", "car"], "test/recall": recalls}
        found.append(one)
    assert verdict("default finds cat, dog hardest", first=found)[0] == "reproduced"
    assert verdict("default finds cat, ship hardest", first=found)[0] == "contradicted"
    assert verdict("default finds cat, cow hardest", first=found)[0] == "not shown"


def test_one_gain_larger_than_another():
    rows = {
        "default": runs_of([0.50, 0.51, 0.52]),
        "4a1_filters": runs_of([0.60, 0.61, 0.625]),
        "best": runs_of([0.62, 0.631, 0.64]),
    }
    claim = f"4a1_filters - default > best - 4a1_filters on {COLUMN}"
    assert verdict(claim, **rows)[0] == "reproduced"
    assert verdict(f"best - 4a1_filters > 4a1_filters - default on {COLUMN}", **rows)[0] == "contradicted"


def test_a_match_is_within_the_tolerance_or_within_one_more_run():
    ours = summarise([0.60, 0.62, 0.64])
    spread = stats.t.ppf(0.975, 2) * 0.02 * np.sqrt(1 + 1 / 3)
    assert compared(0.62 + spread - 1e-6, ours, "val/recall", 0.01).fit == "match"
    assert compared(0.62 + spread + 1e-6, ours, "val/recall", 0.01).fit == "differs"
    alone = summarise([0.62])
    assert compared(0.635, alone, "val/recall", 0.02).fit == "match"
    assert compared(0.65, alone, "val/recall", 0.02).fit == "differs"
    assert compared(11400, summarise([100.0]), "fit_seconds", 0.02).fit == ""  # another machine
    assert compared(None, alone, "val/recall", 0.02).fit == ""
    between = compared((0.5, 0.7), alone, "val/recall", 0.02)
    assert (between.gap, between.fit) == (0.0, "match")
    assert compared((0.5, 0.55), alone, "val/recall", 0.02).gap == pytest.approx(0.07)


def test_a_row_without_runs_is_in_the_table_and_failed_ones_are_counted():
    config = {"trainer": {"max_epochs": 300}}
    rows = [Row("default", "", {"train_recall": 0.6}, config), Row("best", "", {}, config)]
    metric = "val/batch_recall"
    found = [
        *(run(seed, **{metric: [0.5]}) for seed in (0, 1)),
        run(2, "diverged", **{metric: [0.1]}),
        run(3, "failed"),
    ]
    table = build_table(STUDY, rows, {"default": found})
    head = terminal_text(Part(STUDY, rows, {}, table, (), ())).splitlines()[2]
    assert re.split(r"\s{2,}", head) == ["row", "train recall %", "validation recall (of the test images) %", "n"]
    assert [line.count_text for line in table] == ["2, and 1 diverged, and 1 failed", "not run"]
    cell = table[0].cells[1]
    assert (cell.ours.n, cell.ours.mean) == (2, 0.5)
    assert cell.ours_text(2) == "50.00 ± 0.00"
    assert cell.ours_text(3) == "50.00 ± 0.00 (n = 2)"
