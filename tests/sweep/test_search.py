"""Searches: what is drawn, what is ended early, and going on after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from helpers import ROOT, SMALL, cnnbench

from cnnbench.analysis.runs import collect
from cnnbench.analysis.search import SearchResult, read_searches
from cnnbench.cli.main import main
from cnnbench.sweep.optuna_search import Search
from cnnbench.sweep.process import ENOUGH
from cnnbench.sweep.search_space import Axis, corners, parse
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
    assert axes == [
        Axis("optimizer", ("sgd", "adam")),
        Axis("optimizer.lr", low=1e-4, high=1.0, log=True),
        Axis("model.filters", ("[4]", "[8]")),
        Axis("seed", low=1, high=9, whole=True),
        Axis("model.dropout", low=0, high=0.5),
        Axis("trainer.max_epochs", ("2", "3", "4")),
    ]
    assert axes[1].text(0.000123456789) == "0.000123457" and axes[3].text(4) == "4"


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


def search(folder: Path, trials: int = 8, **options: object) -> Search:
    return Search(folder, SPACE[:2], "val/accuracy", 10, trials=trials, **{"startup_trials": 2, **options})  # type: ignore[arg-type]


def run_of(one: Search, accuracy: float, status: str = "completed"):
    """A launcher whose runs end at once; it keeps what it was given."""
    given: list[list[str]] = []

    def launch(batch: list[list[str]], number: int) -> None:
        for overrides in batch:
            given.append(overrides)
            subdir = overrides[-1].partition("=")[2].strip("'")
            write_record(one.folder / subdir, {"status": status, "best": {"epoch": 0, "val/accuracy": accuracy}})

    return launch, given


def test_as_many_runs_are_drawn_as_are_asked_for_also_of_a_search_that_grows(tmp_path: Path) -> None:
    first = search(tmp_path, trials=3, at_a_time=2)
    launch, given = run_of(first, 0.5)
    first.run(launch)
    assert len(given) == 3 and len({tuple(overrides) for overrides in given}) == 3
    second = search(tmp_path, trials=5)
    launch, more = run_of(second, 0.7)
    second.run(launch)
    assert len(more) == 2
    (found,) = read_searches([tmp_path])
    assert [trial["value"] for trial in found.trials] == [0.5] * 3 + [0.7] * 2
    assert found.best_so_far() == [0.5] * 3 + [0.7] * 2 and found.best() == found.trials[3]
    assert {text.partition("=")[2] for overrides in given for text in overrides[:1]} <= {"sgd", "adam"}
    for overrides in given:
        assert 1e-4 <= float(overrides[1].partition("=")[2]) <= 1


def test_what_a_killed_search_had_begun_comes_first(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(batch: list[list[str]], number: int) -> None:
        begun.extend(batch)
        raise Killed

    begun: list[list[str]] = []
    with pytest.raises(Killed):
        search(tmp_path, trials=2).run(killed)
    again = search(tmp_path, trials=2)
    launch, given = run_of(again, 0.5)
    again.run(launch)
    assert given[0] == begun[0] and len(given) == 2


def test_a_search_over_something_else_is_refused(tmp_path: Path) -> None:
    search(tmp_path)
    with pytest.raises(RequestError, match="something else"):
        Search(tmp_path, ["optimizer=sgd,adam"], "val/accuracy", 10, trials=1)


@pytest.mark.parametrize(("status", "state"), [("failed", "fail"), ("diverged", "pruned")])
def test_a_run_without_a_value_counts_as_one(tmp_path: Path, status: str, state: str) -> None:
    one = search(tmp_path, trials=1)
    launch, given = run_of(one, 0.5, status)
    one.run(launch)
    assert len(given) == 1 and read_searches([tmp_path])[0].trials[0]["state"] == state


def test_a_run_that_falls_behind_the_median_is_ended(tmp_path: Path) -> None:
    """The pruner is Optuna's; that it is told the epochs of the files, and that its word reaches the run, is ours."""
    one = search(tmp_path, trials=5, pruner="median", startup_trials=2)
    curves = {0: 0.8, 1: 0.9, 2: 0.1, 3: 0.95}
    ended = {}

    def launch(batch: list[list[str]], number: int) -> None:
        folder = tmp_path / batch[0][-1].partition("=")[2].strip("'")
        folder.mkdir()
        value = curves.get(number, 0.9)
        (folder / "metrics.csv").write_text("epoch,val/accuracy\n" + "".join(f"{e},{value}\n" for e in range(6)))
        until = time.monotonic() + (10 if number == 2 else 2)
        while time.monotonic() < until and not (folder / ENOUGH).exists():
            time.sleep(0.05)
        ended[number] = (folder / ENOUGH).exists()
        write_record(
            folder, {"status": "interrupted" if ended[number] else "completed", "best": {"val/accuracy": value}}
        )

    one.run(launch)
    assert ended == {0: False, 1: False, 2: True, 3: False, 4: False}
    assert one.study.trials[2].state == optuna.trial.TrialState.PRUNED
    assert one.study.trials[2].intermediate_values[0] == 0.1


def test_a_search_in_turn_tells_its_total_and_what_varies_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [*SMALL, "logger=none", "optimizer=sgd,adam", "hydra/sweeper=optuna", "hydra.sweep.dir=s"]
    command += ["sweep.isolate=false", "callbacks.figures.pictures=false"]
    for trials in (1, 2):
        assert main(["-m", *command, f"hydra.sweeper.n_trials={trials}"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert [re.sub("sgd|adam", "...", line) for line in told] == ["[1/1] optimizer=...", "[2/2] optimizer=..."]


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
    done = cnnbench("resume", "s", cwd=tmp_path, check=0)
    assert len(collect([tmp_path / "s"])) == 4 and "4 of 4" not in done.stderr
    found = read_searches([tmp_path / "s"])[0]
    assert [trial["state"] for trial in found.trials] == ["complete"] * 4
    page = (tmp_path / "s" / "report.html").read_text()
    assert 'id="searches"' in page and f"trial {(found.best() or {})['number']}" in page


def test_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(json.dumps({"objective": "val/loss"}))
    assert read_searches([tmp_path, tmp_path / "nowhere"]) == []
    losses = [{"number": 0, "value": None, "state": "pruned"}, {"number": 1, "value": 0.5, "state": "complete"},
              {"number": 2, "value": 0.7, "state": "complete"}]  # fmt: skip
    assert SearchResult(tmp_path, "val/loss", losses, {}).best_so_far() == [None, 0.5, 0.5]
