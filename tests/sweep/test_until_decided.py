"""sweep.until=decided: seeds are added until the comparisons are decided, also after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import SMALL

from cnnbench.analysis.runs import collect, read_run
from cnnbench.analysis.sequential import Decisions, read_decided
from cnnbench.cli.main import main
from cnnbench.sweep.plan import PlannedRun
from cnnbench.sweep.run_summary import finish
from cnnbench.sweep.sweep import Sweep
from cnnbench.utils.record import write_record

QUIET = [*SMALL, "logger=none", "callbacks.progress.seconds=1000", "callbacks.figures.pictures=false"]
GRID = ["-m", *QUIET, "sweep.isolate=false", "sweep.until=decided", "hydra.sweep.dir=s", "optimizer=sgd,adam,rmsprop"]
MEANS = {"sgd": 0.90, "adam": 0.93, "rmsprop": 0.934}
JITTER = [0.001, -0.002, 0.003, 0.0, -0.001, 0.002, -0.003, 0.001]  # by seed, shifted by configuration


class Trained:
    """In place of training: records with made-up accuracies.

    Args:
        bad: (optimizer, seed) of the runs that fail.
        kill_at: the number of the run before which the whole process is as good as killed.
    """

    def __init__(self, bad: Sequence[tuple[str, int]] = (), kill_at: int = 1000) -> None:
        self.bad, self.kill_at, self.begun = bad, kill_at, 0

    def launch(self, sweep: Sweep, runs: Sequence[PlannedRun]) -> None:
        for run in runs:
            self.begun += 1
            if self.begun == self.kill_at:
                raise InterruptedError
            name, seed = run.cfg.hydra.runtime.choices.optimizer, run.config["seed"]
            value = MEANS[name] + JITTER[(seed + 3 * len(name)) % 8]
            record = {
                "status": "failed" if (name, seed) in self.bad else "completed", "fingerprint": run.fingerprint,
                "config": run.config, "choices": dict(run.cfg.hydra.runtime.choices), "seed": seed,
                "overrides": [f"optimizer={name}", f"seed={seed}"], "metrics": {"test/accuracy": value},
                "best": {"epoch": 0, "val/accuracy": value}, "protocol": {"objective": "val/accuracy"},
            }  # fmt: skip
            write_record(sweep.folder / run.folder, record)


COMPOSED: dict[tuple[str, ...], PlannedRun] = {}  # Hydra's composition is what takes long here


def compose_once(compose: Callable[..., PlannedRun]) -> Callable[..., PlannedRun]:
    def composed(self: Sweep, overrides: Sequence[str], *rest: object) -> PlannedRun:
        key = (*self.command, *overrides)
        if key not in COMPOSED:
            COMPOSED[key] = compose(self, overrides, *rest)
        return replace(COMPOSED[key], state="new")

    return composed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Sweep, "compose", compose_once(Sweep.compose))
    monkeypatch.setattr(Sweep, "check", lambda self, runs, repeat_failed: None)
    monkeypatch.setattr("cnnbench.sweep.rounds.finish", completed)
    return tmp_path / "s"


def completed(folder: Path, runs: Sequence[PlannedRun], interrupted: bool) -> int:
    """The status of a sweep, without its report."""
    return int(not all(read_run(folder / run.folder).completed for run in runs))


def sweep(monkeypatch: pytest.MonkeyPatch, *arguments: str, **faults: object) -> int:
    trained = Trained(**faults)  # type: ignore[arg-type]
    monkeypatch.setattr(Sweep, "launch", lambda self, runs: trained.launch(self, runs))
    return main(arguments)


def ran(folder: Path) -> dict[str, list[int]]:
    """The seeds of each optimizer."""
    seeds: dict[str, list[int]] = {}
    for run in collect([folder]):
        seeds.setdefault(run.settings["optimizer"], []).append(run.seed or 0)
    return {name: sorted(found) for name, found in seeds.items()}


def test_what_is_worse_gets_no_more_seeds_and_all_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("cnnbench.sweep.rounds.finish", finish)
    assert sweep(monkeypatch, *GRID, "sweep.max_seeds=8", "sweep.practical=1") == 0
    told = " ".join(capsys.readouterr().out.split())
    found = ran(folder)
    counts = {name: len(seeds) for name, seeds in found.items()}
    assert counts["sgd"] < counts["adam"] == counts["rmsprop"] < 8
    assert all(seeds == list(range(len(seeds))) for seeds in found.values())
    assert f"{sum(counts.values())} runs instead of 24 (3 configurations of 8 seeds)" in told
    assert f"after {counts['sgd']} seeds: 1 of 3 pairs undecided; dropped: optimizer=sgd" in told
    # the same, replayed from the records
    names = [f"optimizer={name}" for name in MEANS]
    decisions = Decisions(names, range(3, 9), 0.01)
    for n in range(3, 9):
        values: dict[str, dict[int, float | None]] = {name: {} for name in names}
        for run in collect([folder]):
            if run.seed is not None and run.seed < n:
                values[f"optimizer={run.settings['optimizer']}"][run.seed] = run.value("val/accuracy")
        decisions.look(values)
    (result,) = read_decided([folder])
    assert {(one, other): judged for one, other, judged in result.pairs} == {
        pair: judged for pair, judged in decisions.pairs.items() if judged.decision != "undecided"
    }
    assert decisions.pairs["optimizer=adam", "optimizer=rmsprop"].decision == "practically the same"
    for name in ("report.html", "leaderboard.md"):
        text = (folder / name).read_text()
        assert "Seeds were added until decided" in text and "the number of seeds was fixed beforehand" in text
    page = (folder / "report.html").read_text()
    assert 'id="decided"' in page and "practically the same" in page
    assert "sweep.until" not in page.partition("Seeds were added until decided (sweep.until=decided)")[2]


def test_a_killed_sweep_goes_on_to_the_same_runs_wherever_it_was_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = [*GRID, "sweep.max_seeds=7", "sweep.practical=1"]
    assert sweep(monkeypatch, *grid) == 0
    whole, decided = ran(folder), (folder / "decided.json").read_text()
    for kill_at in (2, 11):
        folder.rename(folder.with_name(f"s{kill_at}"))
        with pytest.raises(InterruptedError):
            sweep(monkeypatch, *grid, kill_at=kill_at)
        again = ["resume", "s"] if kill_at == 11 else grid
        assert sweep(monkeypatch, *again) == 0
        assert ran(folder) == whole and (folder / "decided.json").read_text() == decided
    trained = Trained(kill_at=1)
    monkeypatch.setattr(Sweep, "launch", lambda self, runs: trained.launch(self, runs))
    assert main(["resume", "s"]) == 0 and trained.begun == 0  # there is nothing left


def test_failed_runs_take_no_other_pair_with_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    bad = [*(("adam", seed) for seed in range(8)), ("sgd", 1)]
    assert sweep(monkeypatch, *GRID, "sweep.max_seeds=8", "sweep.practical=1", bad=bad) == 1
    assert len(ran(folder)["adam"]) == 3 and "dropped: optimizer=adam" in capsys.readouterr().out
    (result,) = read_decided([folder])
    ((one, other, judged),) = result.pairs
    assert (one, other, judged.decision) == ("optimizer=sgd", "optimizer=rmsprop", "worse")
    assert judged.n == len(ran(folder)["sgd"]) - 1


def test_with_a_baseline_each_is_compared_with_it_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["sweep.baseline='optimizer=adam'", "seed=5", "sweep.max_seeds=8", "sweep.practical=1"]
    assert sweep(monkeypatch, *GRID, *more) == 0
    (result,) = read_decided([folder])
    assert [pair[:2] for pair in result.pairs] == [
        ("optimizer=sgd", "optimizer=adam"),
        ("optimizer=rmsprop", "optimizer=adam"),
    ]
    assert [judged.decision for *_, judged in result.pairs] == ["worse", "practically the same"]
    assert ran(folder)["sgd"][:3] == [5, 6, 7]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["optimizer=sgd"], "there is one"),
        (["optimizer=sgd,sgd"], "there is one"),
        (["steps_per_execution=1,2"], "nothing that changes the result"),
        (["seed=range(9)"], "give the first one alone"),
        (["sweep.until=decided,null"], "of the whole sweep"),
        (["sweep.max_seeds=2"], "at least 3"),
        (["sweep.practical=0"], "above 0"),
        (["sweep.baseline='optimizer=adma'"], "did you mean"),
        (["objective=val/loss"], "needs sweep.practical"),
        (["hydra/sweeper=optuna"], "hydra.sweeper.seeds"),
        (["data.split_seed=0,1"], "data.split_seed can have one value alone; data.split_seed='${seed}' draws a split"),
        (["optimizer=adam", "data.split_seed=3"], "there is one"),
        (["data.folds=2", "data.fold=0,1"], "data.fold can have one value alone"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture, more: list[str], told: str
) -> None:
    assert main([*GRID, *more]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not folder.exists()


def test_a_rule_does_not_change_after_a_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pair = [*GRID[:-1], "optimizer=sgd,adam"]
    assert main([text for text in pair if text != "-m" and "sweep.dir" not in text]) == 2  # no sweep
    assert sweep(monkeypatch, *pair, "sweep.max_seeds=4") == 0
    for more in (["sweep.max_seeds=5"], ["optimizer=sgd,rmsprop"], ["sweep.practical=2"], ["sweep.until=null"]):
        assert main([*pair, "sweep.max_seeds=4", *more]) == 2
        assert "choose another folder" in capsys.readouterr().err
    (folder / "decided.json").unlink()  # a sweep without
    assert main([*pair, "sweep.max_seeds=4"]) == 2
    (folder / "decided.json").write_text(json.dumps({"rule": {"metric": 3}, "pairs": [[1]], "told": ["x"]}))
    assert read_decided([folder]) == []


def test_real_runs_survive_a_kill_and_a_change_of_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    launch = Sweep.launch

    def killed(self: Sweep, runs: Sequence[PlannedRun]) -> None:
        launch(self, runs[:1])
        raise InterruptedError

    grid = [*GRID[:-1], "optimizer=sgd,adam", "sweep.max_seeds=3", "trainer.max_epochs=1"]
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Sweep, "launch", killed)
        main(grid)
    assert main(["resume", "s", "hydra/launcher=basic"]) == 0
    assert [run.status for run in collect([tmp_path / "s"])] == ["completed"] * 6
    (result,) = read_decided([tmp_path / "s"])
    assert "6 runs of 6" in " ".join(result.notes)
