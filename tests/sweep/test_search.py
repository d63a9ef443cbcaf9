"""Searches: what is drawn, what is ended early, and going on after a kill."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers import ROOT, SMALL, cnnbench, config, wait_until_free
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cnnbench.analysis.runs import PRUNED, collect
from cnnbench.analysis.search import SearchResult, read_searches
from cnnbench.cli.main import main
from cnnbench.sweep.optuna_search import Search, check_axes
from cnnbench.sweep.plan import PlannedRun
from cnnbench.sweep.run_summary import finish
from cnnbench.sweep.search_space import corners, override, parse
from cnnbench.sweep.sweep import Sweep
from cnnbench.training.pruner import load_trial, open_storage
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import write_record

SPACE = [
    "optimizer=sgd,adam",
    "optimizer.lr=tag(log,interval(1e-4,1))",
    "model.filters=[4],[8]",
    "seed=int(interval(1,9))",
]


def test_the_axes_are_those_that_hydra_s_syntax_names() -> None:
    fixed, axes = parse([*SPACE, "model.dropout=interval(0,0.5)", "trainer.max_epochs=range(2,5)", "data=digits"])
    assert fixed == ["data=digits"]
    assert axes == {
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "optimizer.lr": FloatDistribution(1e-4, 1, log=True),
        "model.filters": CategoricalDistribution(["[4]", "[8]"]),
        "seed": IntDistribution(1, 9),
        "model.dropout": FloatDistribution(0, 0.5),
        "trainer.max_epochs": CategoricalDistribution(["2", "3", "4"]),
    }
    assert override("optimizer.lr", axes["optimizer.lr"], 0.000123456789) == "optimizer.lr=0.000123457"
    assert override("seed", axes["seed"], 4) == "seed=4"


@pytest.mark.parametrize(
    "text", ["a=interval(1,0)", "a=tag(log,interval(0,1))", "a=tag(lgo,interval(1,2))", "a=interval("]
)
def test_an_axis_that_makes_no_sense_is_told_in_one_line(text: str) -> None:
    with pytest.raises(RequestError) as told:
        parse([text])
    assert "\n" not in str(told.value)


def test_the_corners_have_every_choice_and_both_ends() -> None:
    runs = corners(["a=1,2,3", "b=interval(0,1)", "c=5"])
    assert runs == [["c=5", "a=1", "b=0"], ["c=5", "a=2", "b=1"], ["c=5", "a=3", "b=1"]]


def search(folder: Path, n_trials: int = 8, **options: object) -> Search:
    return Search(folder, SPACE[:2], "val/accuracy", 10, n_trials=n_trials, **{"startup_trials": 2, **options})  # type: ignore[arg-type]


def run(one: Search, value: float, status: str = "completed") -> list[list[str]]:
    """A search whose runs end at once; returns the overrides of each."""
    given: list[list[str]] = []
    while batch := one.next_batch():
        for trial in batch:
            given.append(one.overrides(trial))
            write_record(one.folder / one.run_name(trial), {"status": status, "best": {"val/accuracy": value}})
            assert one.tell(trial)
        one.write()
    return given


def test_as_many_runs_are_drawn_as_are_asked_for_also_of_a_search_that_grows(tmp_path: Path) -> None:
    given = run(search(tmp_path, 3, at_a_time=2), 0.5)
    assert len(given) == 3 and len({tuple(overrides) for overrides in given}) == 3
    grown = search(tmp_path, 5)
    assert grown.count_left() == 2 and len(run(grown, 0.7)) == 2
    (found,) = read_searches([tmp_path])
    assert [trial["value"] for trial in found.trials] == [0.5] * 3 + [0.7] * 2
    assert found.best_so_far() == [0.5] * 3 + [0.7] * 2 and found.best() == found.trials[3]
    assert {text.partition("=")[2] for overrides in given for text in overrides[:1]} <= {"sgd", "adam"}
    for overrides in given:
        assert 1e-4 <= float(overrides[1].partition("=")[2]) <= 1


def test_what_a_killed_search_had_begun_comes_first(tmp_path: Path) -> None:
    one = search(tmp_path, 2)
    (begun,) = one.next_batch()
    given = run(search(tmp_path, 2), 0.5)
    assert given[0] == one.overrides(begun) and len(given) == 2


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_search_that_goes_on_draws_as_one_that_was_not_stopped(tmp_path: Path, sampler: str) -> None:
    whole = run(search(tmp_path / "whole", 6, sampler=sampler), 0.5)
    parts = [run(search(tmp_path / "parts", count, sampler=sampler), 0.5) for count in (1, 4, 6)]
    assert [overrides[:2] for part in parts for overrides in part] == [overrides[:2] for overrides in whole]
    assert len({tuple(overrides[:2]) for overrides in whole}) == 6
    other = run(search(tmp_path / "other", 6, sampler=sampler, seed=1), 0.5)
    assert sampler == "qmc" or not {tuple(o[:2]) for o in other} & {tuple(o[:2]) for o in whole}


def test_a_search_over_something_else_is_refused(tmp_path: Path) -> None:
    search(tmp_path)
    with pytest.raises(RequestError, match="something else"):
        Search(tmp_path, ["optimizer=sgd,adam"], "val/accuracy", 10, n_trials=1)


@pytest.mark.parametrize(
    ("status", "value", "state"),
    [("failed", 0.5, "fail"), ("diverged", 0.5, "pruned"), ("completed", math.nan, "fail")],
)
def test_a_run_without_a_value_counts_as_one(tmp_path: Path, status: str, value: float, state: str) -> None:
    assert len(run(search(tmp_path, 1), value, status)) == 1
    assert read_searches([tmp_path])[0].trials[0]["state"] == state


def test_a_run_that_falls_behind_the_median_is_ended(tmp_path: Path) -> None:
    """The pruner is Optuna's; that each run is told of the others' epochs, and ends where it says so, is ours."""
    one = search(tmp_path, 3, pruner="median", startup_trials=2)
    for _ in range(2):
        (trial,) = one.next_batch()
        loaded = load_trial(trial.number, str(one.path), "median", 2, 4)
        assert loaded is not None
        for epoch in range(4):
            loaded.report(1.0, epoch)
        one.study.tell(trial.number, 1.0)
    (behind,) = one.next_batch()
    own = f"{{number:{behind.number},storage:{one.path},pruner:median,startup_trials:2}}"
    asked = config(f"sweep.trial={own}", "trainer.max_epochs=4")
    record = train(asked, tmp_path / one.run_name(behind))
    assert record["status"] == "interrupted" and record["error"]["type"] == PRUNED
    assert record["error"]["message"] == "ended by the search in epoch 2: it had fallen behind"
    assert one.tell(behind)
    assert one.study.trials[2].state == optuna.trial.TrialState.PRUNED
    assert list(one.study.trials[2].intermediate_values) == [0, 1]
    # the same run outside the search is not ended
    assert train(asked, tmp_path / "alone")["status"] == "completed"


def run_seeds(one: Search, values: list[list[float]]) -> list[int]:
    """A search of several seeds whose runs end at once with these values, by trial; returns how many each had."""
    while batch := one.next_batch():
        for trial in batch:
            while (seed := one.next_seed(trial)) is not None:
                assert one.overrides(trial, seed)[-2] == f"seed={seed}"
                best = {"val/accuracy": values[trial.number][seed - one.seeds[0]]}
                write_record(one.folder / one.run_name(trial, seed), {"status": "completed", "best": best})
            assert one.tell(trial)
    one.write()
    return [len(list(one.folder.glob(f"trial={number},*"))) for number in range(len(values))]


def test_a_trials_value_is_the_mean_over_its_seeds_and_wilcoxons_test_ends_it_early(tmp_path: Path) -> None:
    values = [[0.9, 0.8, 0.7, 0.9, 0.8, 0.7], [0.5, 0.4, 0.3, 0.5, 0.4, 0.3], [0.9, 0.8, 0.8, 0.9, 0.8, 0.7]]
    options = {"seeds": 6, "first_seed": 5, "startup_trials": 1}
    assert run_seeds(search(tmp_path / "all", 3, pruner="none", **options), values) == [6, 6, 6]
    assert run_seeds(search(tmp_path / "early", 3, pruner="wilcoxon", **options), values) == [6, 4, 6]  # p = 1/16
    all_, early = read_searches([tmp_path / "all", tmp_path / "early"])
    assert [trial["value"] for trial in all_.trials] == pytest.approx([np.mean(of) for of in values])
    assert [trial["state"] for trial in early.trials] == ["complete", "pruned", "complete"] and early.seeds == 6
    assert early.best() == early.trials[2]
    with pytest.raises(RequestError, match="something else"):
        search(tmp_path / "all", 3, seeds=5, first_seed=5, pruner="none")


def test_a_killed_trial_goes_on_with_the_seeds_that_are_left(tmp_path: Path) -> None:
    options = {"seeds": 5, "pruner": "wilcoxon"}
    one = search(tmp_path, 1, **options)
    (trial,) = one.next_batch()
    for seed in one.seeds[:2]:
        write_record(tmp_path / one.run_name(trial, seed), {"status": "completed", "best": {"val/accuracy": 0.5}})
    assert one.next_seed(trial) == 2 and not one.tell(trial)
    write_record(tmp_path / one.run_name(trial, 2), {"status": "interrupted"})
    again = search(tmp_path, 1, **options)
    (begun,) = again.next_batch()
    assert begun.number == trial.number and again.next_seed(begun) == 2
    assert list(again.study.trials[0].intermediate_values) == [0, 1]
    write_record(tmp_path / one.run_name(trial, 2), {"status": "diverged"})
    assert again.next_seed(begun) is None and again.tell(begun)  # no more seeds of what diverges
    assert again.study.trials[0].state.name == "PRUNED"


@pytest.mark.parametrize(
    ("seeds", "pruner", "axes", "told"),
    [
        (3, "median", [], "take wilcoxon or none"),
        (5, "halving", [], "take wilcoxon or none"),
        (3, "none", ["seed=0,1"], "^seed cannot be searched over"),
        (1, "median", ["seed=0,1"], "^seed cannot be searched over"),
        (1, "median", ["++data.fold=0,1"], "^data.fold cannot be searched over"),
        (1, "median", ["optimizer=sgd,adam", "objective=val/accuracy,val/loss"], "^objective cannot be searched over"),
    ],
)
def test_seeds_and_pruners_that_do_not_go_together_are_refused(
    seeds: int, pruner: str, axes: list[str], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        check_axes(parse(axes)[1], seeds, pruner)
    check_axes(parse(["optimizer.lr=0.1,1", "data.fold=choice(0)"])[1], 5, "wilcoxon")


FAST = [*SMALL, "logger=none", "sweep.isolate=false", "callbacks.figures.pictures=false", "trainer.max_epochs=1"]
FAST += ["optimizer=sgd,adam", "hydra/sweeper=optuna", "hydra.sweep.dir=s"]


def test_a_killed_search_of_several_seeds_goes_on_and_its_report_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    launch = Sweep.launch

    def killed(self: Sweep, runs: Sequence[PlannedRun]) -> None:
        launch(self, runs)
        raise InterruptedError

    command = ["-m", *FAST, "hydra.sweeper.seeds=2", "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler=qmc"]
    assert main([*command, "hydra.sweeper.pruner=median"]) == 2 and not (tmp_path / "s").exists()
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Sweep, "launch", killed)
        main(command)
    assert len(collect([tmp_path / "s"])) == 1
    assert main(["resume", "s"]) == 0
    told = capsys.readouterr().out
    assert "[4/4]" in told and "seed=1" in told
    (found,) = read_searches([tmp_path / "s"])
    for trial in found.trials:
        runs = [run for run in collect([tmp_path / "s"]) if run.path.name.startswith(f"trial={trial['number']},")]
        assert {run.seed for run in runs} == {0, 1}
        assert trial["value"] == pytest.approx(np.mean([run.best("val/accuracy") for run in runs]))
    page = (tmp_path / "s" / "report.html").read_text()
    assert 'id="searches"' in page and f"trial {(found.best() or {})['number']}" in page


def test_a_search_in_turn_tells_its_total_and_what_varies_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for trials in (1, 2):
        assert main(["-m", *FAST, f"hydra.sweeper.n_trials={trials}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("[")]
    assert [re.sub("sgd|adam", "...", line) for line in told] == ["[1/1] optimizer=...", "[2/2] optimizer=..."]
    (journal,) = {line.split()[-1] for line in lines if "optuna-dashboard" in line}
    assert len(open_storage(journal).get_all_studies()) == 1


def test_the_command_line_survives_a_kill_and_its_report_shows_the_search(tmp_path: Path) -> None:
    command = [
        "-m", *SMALL, "logger=none", *SPACE[:2], "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4",
        "hydra.sweeper.pruner=none", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=s",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnbench", *command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not list((tmp_path / "s").glob("trial=*/metrics.csv")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_free(tmp_path / "s")
    done = cnnbench("resume", "s", cwd=tmp_path, check=0)
    assert len(collect([tmp_path / "s"])) == 4 and "4 of 4" not in done.stderr
    found = read_searches([tmp_path / "s"])[0]
    assert [trial["state"] for trial in found.trials] == ["complete"] * 4
    page = (tmp_path / "s" / "report.html").read_text()
    assert 'id="searches"' in page and f"trial {(found.best() or {})['number']}" in page


def test_a_search_that_went_on_still_counts_what_failed_before(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    record = {"status": "failed", "error": {"type": "RuntimeError", "message": "x"}, "overrides": [], "config": {}}
    write_record(tmp_path / "trial=0", record)
    assert finish(tmp_path, [], is_search=True) == 1  # no run is of this command
    told = capsys.readouterr().out
    assert "hydra.sweeper.n_trials" in told and "repeat_failed" not in told  # which a search does not know


def test_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(json.dumps({"objective": "val/loss"}))
    assert read_searches([tmp_path, tmp_path / "nowhere"]) == []
    losses = [{"number": 0, "value": None, "state": "pruned"}, {"number": 1, "value": 0.5, "state": "complete"},
              {"number": 2, "value": 0.7, "state": "complete"}]  # fmt: skip
    assert SearchResult("val/loss", losses, {}).best_so_far() == [None, 0.5, 0.5]


def test_a_journal_draws_nothing_but_what_was_asked_for(tmp_path: Path) -> None:
    """It may come from anywhere, and what it has drawn becomes an override."""
    drawn = optuna.distributions.CategoricalDistribution(["[{_target_:os.mkdir,path:MARK}]"])
    Search(tmp_path, ["model.filters=choice([4],[8])"], "val/accuracy", 1, n_trials=1).study.ask(
        {"model.filters": drawn}
    )
    search = Search(tmp_path, ["model.filters=choice([4],[8])"], "val/accuracy", 1, n_trials=1)
    (trial,) = search.next_batch()
    with pytest.raises(RequestError, match=r"has drawn .* which is none of"):
        search.overrides(trial)
