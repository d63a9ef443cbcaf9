"""Tuned against tuned: the choice of each configuration's best value, and cautions where nothing was tuned."""

from __future__ import annotations

import csv
import io
import json
from statistics import mean

import pytest
from made_up import failed, make_record

from cnnbench.analysis.analyse import analyse
from cnnbench.analysis.effects import find_effects
from cnnbench.analysis.grouping import group
from cnnbench.analysis.leaderboard import build
from cnnbench.analysis.report import write as report
from cnnbench.analysis.report.text import leaderboard_text
from cnnbench.analysis.runs import collect
from cnnbench.cli.main import main
from cnnbench.utils.errors import RequestError

RATES = [0.001, 0.01, 0.1]


def add(runs, overrides, seed, val, test, **changes):
    """A run whose validation and test accuracy are these."""
    changed = {"best": {"val/accuracy": val}, "metrics": {"test/accuracy": test}, **changes}
    runs.add(make_record([*overrides, f"seed={seed}"], test, **changed))


def two_optimizers(runs, **changes):
    """On validation adam is best at 0.01 and sgd at 0.1; on the test set both are best at 0.001."""
    for optimizer, best in (("adam", 0.01), ("sgd", 0.1)):
        for rate in RATES:
            for seed in range(3):
                val = 0.9 + 0.05 * (rate == best) + 0.001 * seed + 0.01 * (optimizer == "adam")
                add(
                    runs,
                    [f"optimizer={optimizer}", f"optimizer.lr={rate}"],
                    seed,
                    val,
                    0.95 - rate + 0.002 * seed,
                    **changes,
                )


def values(board):
    return {(row.configuration.values["optimizer"], row.configuration.values["optimizer.lr"]) for row in board.rows}


def plain_choice(runs, name="val/accuracy"):
    """For each optimizer the rate with the best mean, from the records, in plain loops."""
    by_cell = {}
    for run in runs:
        cell = (run.record["choices"]["optimizer"], run.record["config"]["optimizer"]["lr"])
        by_cell.setdefault(cell, []).append(run.record["best"][name])
    optimizers = {optimizer for optimizer, _ in by_cell}
    return {
        (o, max((mean(v), rate) for (other, rate), v in by_cell.items() if other == o)[1]) for o in optimizers
    }  # fmt: skip


def test_the_choice_is_by_validation_and_the_comparison_by_test(runs):
    two_optimizers(runs)
    collected = collect([runs.root])
    analysis = analyse(collected, best_over=["optimizer.lr"])
    assert values(analysis.board) == plain_choice(collected) == {("adam", 0.01), ("sgd", 0.1)}
    (one,) = analysis.comparisons
    assert analysis.metric == "test/accuracy" and one.difference.value == pytest.approx(0.01 - 0.1)
    assert [effect.factor for effect in analysis.effects.mains] == ["optimizer"]
    assert analysis.effects.cautions == []
    # a short name, and the same key given in another way
    assert values(build(collected, best_over=["lr"])) == values(analysis.board)
    assert (
        analyse(collected, best_over=["lr"], baseline="optimizer=sgd")
        .comparisons[0]
        .configuration.label.endswith("=0.01")
    )


@pytest.mark.parametrize("objective", ["test/accuracy", "parameters", None])
def test_a_test_metric_never_chooses(runs, objective):
    two_optimizers(runs)
    board = build(collect([runs.root]), objective, best_over=["optimizer.lr"])
    assert values(board) == {("adam", 0.01), ("sgd", 0.1)} and board.grid.chosen_by == "val/accuracy"
    assert any("optimistic" in note and "test metric" in note for note in board.notes)


def test_a_loss_is_chosen_by_its_minimum(runs):
    for rate, loss in ((0.01, 0.3), (0.1, 0.2)):
        for optimizer in ("adam", "sgd"):
            add(runs, [f"optimizer={optimizer}", f"optimizer.lr={rate}"], 0, 0.9, 0.9 - rate,
                best={"val/loss": loss, "val/accuracy": 1 - rate})  # fmt: skip
    assert values(build(collect([runs.root]), "val/loss", best_over=["lr"])) == {("adam", 0.1), ("sgd", 0.1)}


def test_of_rates_that_differ_by_rounding_alone_the_first_by_name_is_chosen(runs):
    for optimizer in ("adam", "sgd"):
        for rate, val in ((0.1, 0.1 + 0.2), (0.01, 0.3)):
            add(runs, [f"optimizer={optimizer}", f"optimizer.lr={rate}"], 0, val, 0.9)
    assert values(build(collect([runs.root]), best_over=["lr"])) == {("adam", 0.01), ("sgd", 0.01)}


def test_validation_on_the_test_set_is_told(runs):
    two_optimizers(runs, data={"validation": "test"})
    notes = build(collect([runs.root]), best_over=["lr"]).notes
    assert any("every choice made by a validation metric was made on the test set" in note for note in notes)


def test_tries_edges_and_failures_are_told(runs):
    two_optimizers(runs)
    add(runs, ["optimizer=rmsprop", "optimizer.lr=0.01"], 0, 0.93, 0.9)
    add(runs, ["optimizer=rmsprop", "optimizer.lr=0.1"], 0, 0.92, 0.9)
    runs.add(failed(["optimizer=sgd", "optimizer.lr=9", "seed=0"], status="diverged"))
    runs.add(failed(["optimizer=adam", "optimizer.lr=0.01", "seed=3"]))
    board = build(collect([runs.root]), best_over=["lr"])
    tries = {row.configuration.values["optimizer"]: row.configuration.tries for row in board.rows}
    assert tries == {"adam": 3, "sgd": 4, "rmsprop": 2}
    told = " ".join(board.notes)
    assert "best of up to 4 values of optimizer.lr by mean validation accuracy" in told
    fewer = next(note for note in board.notes if "fewer tries" in note)
    assert "optimizer=adam lr=0.01" in fewer and "optimizer=rmsprop lr=0.01" in fewer and "sgd" not in fewer
    assert "1 configuration without a completed run" in told and any("lr=9" in line for line in board.trouble)
    text = leaderboard_text(board)
    assert "tries" in text.splitlines()[2].split() and all(len(line) <= 100 for line in text.splitlines())
    (line, *_) = csv.DictReader(io.StringIO(report.leaderboard_csv(board)))
    assert line["tries"] == "3"


def test_several_keys_are_chosen_together(runs):
    for optimizer in ("adam", "sgd"):
        for rate in (0.01, 0.1):
            for decay in (0.0, 0.5):
                val = 0.8 + (0.1 if (rate == 0.1) == (decay == 0.5) else 0) + 0.01 * decay
                given = [f"optimizer={optimizer}", f"optimizer.lr={rate}", f"optimizer.weight_decay={decay}"]
                add(runs, given, 0, val, 0.9)
    collected = collect([runs.root])
    for names in (["lr,optimizer.weight_decay"], ["lr", "weight_decay"]):
        board = build(collected, best_over=names)
        assert [
            (c.values["optimizer.lr"], c.values["optimizer.weight_decay"], c.tries) for c in board.grid.configurations
        ] == [(0.1, 0.5, 4)] * 2


def test_what_cannot_be_chosen_is_refused_in_one_line(runs, capsys):
    two_optimizers(runs)
    for given, told in (
        ("optimizer.lrr", "did you mean 'optimizer.lr'"),
        ("optimizer.momentum", "it does not vary"),
        ("optimizer,lr", "nothing is left to compare"),
    ):
        assert main(["report", str(runs.root), "--best-over", given]) == 2
        out, err = capsys.readouterr()
        assert told in err and len(err.splitlines()) == 1 and not out
    assert not (runs.root / "report.html").exists()
    for run in collect([runs.root]):
        record = json.loads((run.path / "result.json").read_text())
        for part in ("best", "metrics"):
            record[part] = {name: v for name, v in record[part].items() if not name.startswith(("val/", "train/"))}
        (run.path / "result.json").write_text(json.dumps(record))
    with pytest.raises(RequestError, match="needs a validation metric"):
        build(collect([runs.root]), best_over=["lr"])


def cautions(runs):
    grid = group(collect([runs.root]))
    return find_effects(grid.configurations, grid.factors, "test/accuracy").cautions


def test_an_optimizer_at_one_rate_each_is_a_caution(runs):
    runs.grid(lambda optimizer: 0.9, optimizer=["adam", "sgd"])  # each at its own default
    (text,) = cautions(runs)
    assert "optimizer and lr vary together (adam: 0.001; sgd: 0.1)" in text and "sweep several for each" in text
    assert text in " ".join(analyse(collect([runs.root])).answer)
    assert text in report.build([runs.root], "md").text.replace("\\", "")


def test_an_optimizer_at_the_same_rate_is_a_caution_too(runs):
    runs.grid(lambda **_: 0.9, optimizer=["adam", "sgd"], optimizer__lr=[0.01])
    (text,) = cautions(runs)
    assert "optimizer was compared at lr=0.01 alone" in text


def test_rates_that_do_not_link_the_optimizers_are_a_caution(runs):
    for optimizer, rates in (("adam", (0.001, 0.01)), ("sgd", (0.1, 0.5))):
        for rate in rates:
            for seed in range(2):
                add(runs, [f"optimizer={optimizer}", f"optimizer.lr={rate}"], seed, 0.9, 0.9 + 0.001 * seed)
    (text,) = cautions(runs)
    assert "(adam: 0.001, 0.01; sgd: 0.1, 0.5)" in text and "sweep several" not in text
    assert analyse(collect([runs.root]), best_over=["lr"]).effects.cautions == []


def test_a_rate_that_was_swept_for_all_needs_no_caution(runs):
    runs.grid(lambda optimizer, optimizer__lr: 0.9 + 0.03 * (optimizer == "adam") * (1 + (optimizer__lr == 0.1)),
              optimizer=["adam", "sgd"], optimizer__lr=[0.01, 0.1])  # fmt: skip
    assert cautions(runs) == []  # an interaction, but adam is better at both


def test_a_model_is_no_optimizer(runs):
    runs.grid(lambda **_: 0.9, model__norm=["none", "batch"])
    assert cautions(runs) == []
