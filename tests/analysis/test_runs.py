"""Which runs are found, what tells them apart, and what is said where they should not differ."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from made_up import failed, make_record

from cnnbench.analysis.grouping import group
from cnnbench.analysis.report.html import run_commands
from cnnbench.analysis.runs import collect
from cnnbench.config.overrides import parse_override
from cnnbench.config.settings import canonical, show
from cnnbench.utils.errors import RequestError


def grid_of(runs, **options):
    return group(collect([runs.root]), **options)


def labels(runs):
    return [configuration.label for configuration in grid_of(runs).configurations]


def test_every_kind_of_run_is_found_once(runs):
    runs.add(make_record(["seed=0"], 0.9))
    runs.add(failed(["seed=1"]))
    runs.add(failed(["seed=2"], status="diverged"))
    runs.unfinished(["seed=3"])
    broken = runs.add(make_record(["seed=4"], 0.9))
    (broken / "result.json").write_text('{"status": "comp')
    found = collect([runs.root, runs.root, runs.root / "seed=0"])
    assert sorted(run.status for run in found) == ["completed", "diverged", "failed", "unfinished", "unreadable"]
    assert {run.seed for run in found if run.status != "unreadable"} == {0, 1, 2, 3}
    reasons = {run.status: run.reason for run in found}
    assert reasons["failed"] == "RuntimeError: out of memory"
    assert "not a whole record" in reasons["unreadable"]
    assert "still running, or killed" in reasons["unfinished"]


def test_an_unfinished_run_is_of_the_configuration_of_the_others(runs):
    for seed in range(2):
        record = make_record([f"seed={seed}"], 0.9)
        runs.add({**record, "choices": {"experiment": "None", **record["choices"]}})
    runs.unfinished(["seed=2"])
    grid = grid_of(runs)
    assert grid.factors == () and len(grid.configurations) == 1
    assert [run.status for _, run in grid.incomplete] == ["unfinished"]


def test_a_metric_that_was_not_measured_at_the_best_epoch_has_no_value(runs):
    record = make_record(["seed=0"], 0.9)
    record["best"] = {"epoch": 3, "val/accuracy": 0.9, "train/loss": 0.5}
    record["metrics"] |= {"val/accuracy": 0.8, "val/f1": 0.7, "test/f1": 0.6}
    run = collect([runs.add(record)])[0]
    assert [run.value(name) for name in ("val/accuracy", "val/f1", "test/f1")] == [0.9, None, 0.6]
    record["protocol"] = {**record.get("protocol", {}), "weights": "last"}
    run = collect([runs.add(record)])[0]
    assert [run.value(name) for name in ("val/accuracy", "val/f1")] == [0.8, 0.7]


def test_a_record_with_little_in_it_is_read(runs):
    runs.add({"status": "failed"}, "a")
    runs.add({"status": "completed"}, "b")
    runs.add({"status": "completed", **dict.fromkeys(("metrics", "best", "config", "time", "overrides", "error"))}, "c")
    grid = grid_of(runs)
    assert len(grid.runs) == 2 and grid.factors == ()
    assert grid.incomplete[0][1].reason == "no reason recorded"


def test_wrong_folders_are_told(tmp_path):
    with pytest.raises(RequestError, match="not there"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(RequestError, match="no runs below"):
        collect([tmp_path])
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="not a folder"):
        collect([tmp_path / "file"])


def test_a_choice_is_named_by_its_group_and_not_by_what_follows_from_it(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"], scheduler=["cosine", "exp"])
    assert grid_of(runs).factors == ("optimizer", "scheduler")
    assert "optimizer=adam scheduler=exp" in labels(runs)


def test_a_key_that_varies_within_a_choice_is_a_factor(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"], optimizer__lr=[0.1, 0.01])
    assert grid_of(runs).factors == ("optimizer", "optimizer.lr")
    assert "optimizer=sgd optimizer.lr=0.1" in labels(runs)


def test_seed_and_what_follows_from_it_or_another_key_are_no_factors(runs):
    runs.grid(lambda **_: 0.9, trainer__max_epochs=[2, 3])  # data.seed is seed, scheduler.T_max the epochs
    grid = grid_of(runs)
    assert grid.factors == ("trainer.max_epochs",)
    assert [len(c.runs) for c in grid.configurations] == [3, 3]
    assert any("different numbers of epochs" in note for note in grid.notes)


def test_what_does_not_matter_is_ignored(runs):
    runs.add(make_record(["seed=0", "name=one", "data.root=/a", "logger=none"], 0.9))
    runs.add(make_record(["seed=1", "name=two", "data.root=/b", "logger=tensorboard"], 0.9))
    assert grid_of(runs).factors == ()


def test_an_experiment_is_named_by_itself(runs):
    for name, lr in (("default", 0.1), ("5b_lr", 0.5)):
        record = make_record([f"experiment=eq2425/{name}", "seed=0"], 0.9, config={"optimizer": {"lr": lr}})
        record["choices"]["experiment"] = f"eq2425/{name}"
        runs.add(record)
    assert labels(runs) == ["experiment=eq2425/5b_lr", "experiment=eq2425/default"]


def test_a_changed_default_tells_runs_apart(runs):
    runs.add(make_record(["seed=0"], 0.9))
    runs.add(make_record(["seed=1"], 0.9, config={"data": {"batch_size": 32}}))
    assert sorted(labels(runs)) == ["data.batch_size=32", "data.batch_size=64"]


def test_different_code_is_told_apart_unless_asked_otherwise(runs):
    for seed in range(2):
        runs.add(make_record([f"seed={seed}"], 0.9))
        runs.add(make_record([f"seed={seed}"], 0.8, environment={"git": "fedcba9876543210"}))
    grid = grid_of(runs)
    assert grid.factors == ("code",) and [len(c.runs) for c in grid.configurations] == [2, 2]
    assert any("different versions of the code" in note for note in grid.notes)
    merged = grid_of(runs, ignore=["code"])
    assert merged.factors == () and any("averaged over, as asked" in note for note in merged.notes)
    with pytest.raises(RequestError, match="did you mean 'code'"):
        grid_of(runs, ignore=["cod"])


def test_different_data_under_one_name_is_told_apart(runs):
    runs.add(make_record(["seed=0"], 0.9))
    runs.add(make_record(["seed=1"], 0.9, data={"fingerprint": "digits-2"}))
    grid = grid_of(runs)
    assert grid.factors == ("data version",)
    assert any("different data" in note for note in grid.notes)


def test_another_set_is_no_other_version(runs):
    runs.grid(lambda **_: 0.9, data=["digits", "mnist"])
    grid = grid_of(runs)
    assert grid.factors == ("data",) and grid.notes == ()


def test_validation_in_different_ways_and_on_the_test_set_is_told(runs):
    runs.grid(lambda **_: 0.9, data__validation=["0.1", "test"])
    notes = " ".join(grid_of(runs).notes)
    assert "validated in different ways" in notes and "Validation was on the test set" in notes


def test_exact_duplicates_count_once_and_a_disagreement_is_told(runs):
    record = make_record(["seed=0"], 0.9)
    runs.add(record, "first")
    runs.add(record, "second")
    runs.add(make_record(["seed=0"], 0.8), "third")
    grid = grid_of(runs)
    assert len(grid.runs) == 1
    assert any(note.startswith("second repeats first") and note.endswith("counted once.") for note in grid.notes)
    assert any("third repeats first" in note and "their results differ (test/accuracy 0.9 and 0.8)" in note
               for note in grid.notes)  # fmt: skip


def test_a_number_written_in_another_way_is_no_other_run(runs):
    for written in ("0", "0.0"):  # whose fingerprints differ
        for seed in range(3):
            runs.add(make_record([f"optimizer.weight_decay={written}", f"seed={seed}"], 0.9 + seed / 100))
    (one,) = grid_of(runs).configurations
    assert [run.seed for run in one.runs] == [0, 1, 2]


def test_a_failure_that_was_repeated_with_success_is_not_listed(runs):
    record = make_record(["seed=0"], 0.9)
    runs.add(record, "good")
    runs.add({**failed(["seed=0"]), "fingerprint": record["fingerprint"]}, "bad")
    grid = grid_of(runs)
    assert grid.incomplete == [] and any("repeated with success" in note for note in grid.notes)


def test_a_failed_run_belongs_to_its_configuration(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"])
    runs.add({key: value for key, value in failed(["optimizer=sgd", "seed=9"]).items() if key != "config"})
    grid = grid_of(runs)
    assert len(grid.configurations) == 2
    assert len(grid.find("optimizer=sgd").incomplete) == 1


def test_a_configuration_is_found_by_full_or_short_names(runs):
    runs.grid(lambda **_: 0.9, model__norm=["none", "batch"], model__filters=["[16,4]", "[32,8]"])
    grid = grid_of(runs)
    one = grid.find("model.norm=batch model.filters=[32,8]")
    assert one is grid.find("norm=batch filters=[32,8]")
    with pytest.raises(RequestError, match="names 2 configurations, add to it"):
        grid.find("norm=batch")
    with pytest.raises(RequestError, match=r"did you mean '(model\.)?norm=batch'"):
        grid.find("norm=bacth")
    with pytest.raises(RequestError, match=r"what varies here is .*did you mean 'norm'"):
        grid.find("nrm=batch")


@pytest.mark.parametrize("path", ["/my images", "/a,b", "/a=b c", '/it\'s "q"'])
def test_a_configuration_is_found_by_its_label_whatever_is_in_it(runs, path):
    for value in (path, "/other"):
        record = make_record(["seed=0"], 0.9, config={"data": {"path": value}}, fingerprint=value)
        runs.add({**record, "overrides": [f"data.path={value}"]}, "run")
    grid = grid_of(runs)
    (one,) = [c for c in grid.configurations if c.values["data.path"] == path]
    assert grid.find(one.label) is grid.find(one.short) is one


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=1e-3", 0.001), ("+a=true", True), ("a=null", None), ("a=none", "none"), ("a=[1,2]", [1, 2]),
     ("a='x y'", "x y"), ("a=", "")],
)  # fmt: skip
def test_overrides_are_read_as_hydra_reads_them(text, value):
    assert parse_override(text) == ("a", value)


def test_equal_settings_are_equal_however_they_are_written():
    assert canonical(1) == canonical(1.0) != canonical(True)
    assert canonical([1, 2.0]) == canonical((1.0, 2))
    assert show([64, 128]) == "[64,128]" and show(0.001) == "0.001" and show(None) == "null"


def test_the_command_of_runs_without_a_key_takes_it_away(runs):
    for seed in (0, 1):
        record = make_record([f"seed={seed}"], 0.9)
        runs.add({**record, "overrides": ["~callbacks.figures", f"seed={seed}"]}, "run")
    (found,) = run_commands(collect([runs.root]))
    assert found == "cnnbench -m '~callbacks.figures' seed=0,1"  # with a value it would take away nothing


def test_commands_cover_the_runs_exactly(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"], model__filters=["[16,4]", "[32,8]"])
    found = run_commands(collect([runs.root]))
    assert len(found) == 1
    words = found[0].replace("'", "").split()
    assert words[:2] == ["cnnbench", "-m"]
    assert {frozenset(word.partition("=")[2].replace("],[", "];[").replace("],", "];").split(";")) for word in words[2:]
            if word.startswith("model")} == {frozenset({"[16,4]", "[32,8]"})}  # fmt: skip
    runs.add(make_record(["optimizer=rmsprop", "model.filters=[16,4]", "seed=0"], 0.9))
    assert len(run_commands(collect([runs.root]))) == 2


def test_nothing_heavy_is_imported_for_a_leaderboard(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"])
    code = (
        "import sys, json; from pathlib import Path; from cnnbench.analysis.leaderboard import build;"
        "from cnnbench.analysis.runs import collect; from cnnbench.analysis.report.write import write_leaderboard;"
        "from cnnbench.analysis.report.text import leaderboard_text; from cnnbench.analysis.report import write;"
        f"board = build(collect([Path({str(runs.root)!r})])); leaderboard_text(board);"
        f"write_leaderboard(board, Path({str(runs.root)!r}));"
        "print(json.dumps([m for m in ('pandas', 'statsmodels', 'matplotlib', 'torch', 'scipy.stats', 'jinja2')"
        " if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
