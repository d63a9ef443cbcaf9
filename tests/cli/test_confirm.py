"""cnnbench confirm: the winners of a sweep again, with seeds that chose nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import SMALL, config

from cnnbench.analysis.leaderboard import build
from cnnbench.analysis.runs import collect
from cnnbench.cli.confirm import winners
from cnnbench.cli.main import main
from cnnbench.config.compose import fingerprint
from cnnbench.sweep.plan import PlannedRun
from cnnbench.sweep.sweep import Sweep
from cnnbench.utils.record import write_record

QUIET = [*SMALL, "logger=none", "callbacks.figures.pictures=false", "sweep.isolate=false",
         "trainer.max_epochs=1"]  # fmt: skip


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sweep of three configurations and two seeds."""
    folder = tmp_path_factory.mktemp("grid")
    command = ["-m", *QUIET, "optimizer=sgd,adam,rmsprop", "seed=3,7", f"hydra.sweep.dir={folder / 's'}"]
    assert main(command) == 0
    return folder / "s"


def means(folder: Path) -> dict[str, float]:
    """Mean validation accuracy by optimizer."""
    values: dict[str, list[float]] = {}
    for run in collect([folder]):
        values.setdefault(run.settings["optimizer"], []).append(run.record["best"]["val/accuracy"])
    return {name: sum(of) / len(of) for name, of in values.items()}


def test_the_best_are_run_with_fresh_seeds_and_reported_alone(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(grid.parent)
    launch, launched = Sweep.launch, []

    def killed(self: Sweep, runs: Sequence[PlannedRun]) -> None:
        launched.extend(run.folder for run in runs)
        launch(self, runs[:1])
        raise InterruptedError

    monkeypatch.setattr(Sweep, "launch", killed)
    with pytest.raises(InterruptedError):
        main(["confirm", "s", "--top", "2", "--seeds", "2"])
    assert len(launched) == 4 and len(set(launched)) == 4 and len(collect([Path("s_confirm")])) == 1
    monkeypatch.setattr(Sweep, "launch", launch)
    assert main(["resume", "s_confirm"]) == 0  # of all winners
    old, new = means(grid), means(Path("s_confirm"))
    best = sorted(old, key=lambda name: -old[name])[:2]
    assert {(run.settings["optimizer"], run.seed) for run in collect([Path("s_confirm")])} == {
        (name, seed) for name in best for seed in (8, 9)
    }
    assert {path.name for path in Path("s_confirm").iterdir() if path.is_dir()} == {
        f"optimizer={name},seed={seed}" for name in best for seed in (8, 9)
    }
    told = " ".join(capsys.readouterr().out.split())
    assert "best 2 of 3 configurations in s" in told
    assert f"{100 * old[best[0]]:.2f} ±" in told and f"{100 * new[best[0]]:.2f} ±" in told
    assert len(collect([grid])) == 6
    assert main(["resume", "s_confirm"]) == 0  # which has nothing to do
    assert "4 runs: 4 finished, 0 to do" in capsys.readouterr().out
    assert main(["confirm", "s", "--top", "1"]) == 2 and "--out" in capsys.readouterr().err


def test_the_best_on_each_data_set_are_confirmed_on_all_their_splits(tmp_path: Path) -> None:
    values = {("digits", "sgd"): 0.9, ("digits", "adam"): 0.8, ("mnist", "sgd"): 0.6, ("mnist", "adam"): 0.7}
    for (data, optimizer), value in values.items():
        for fold in (0, 1, 2):
            given = [f"data={data}", f"optimizer={optimizer}", "data.folds=3", f"data.fold={fold}"]
            made = config(*given, "seed=3")
            record = {
                "status": "completed", "config": made, "seed": 3, "overrides": [*SMALL, "logger=none", *given, "seed=3"],
                "choices": {"data": data, "optimizer": optimizer}, "fingerprint": fingerprint(made),
                "best": {"epoch": 0, "val/accuracy": value}, "protocol": {"objective": "val/accuracy"},
            }  # fmt: skip
            write_record(tmp_path / f"{data}{optimizer}{fold}", record)
    found = [overrides for _, overrides in winners(build(collect([tmp_path])), 1)]
    assert [of[-4:] for of in found] == [
        [f"data={data}", f"optimizer={optimizer}", "data.folds=3", "data.fold=0,1,2"]
        for data, optimizer in (("digits", "sgd"), ("mnist", "adam"))
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--top", "0"], "--top must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["optimizer.lr=1"], "changes the result"),
        (["--out", "there"], "has runs already"),
        (["--best"], "neither an option nor an override"),
    ],
)
def test_what_makes_no_sense_is_refused(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
    arguments: list[str], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").symlink_to(grid)
    assert main(["confirm", str(grid), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["optimizer=sgd"], "another configuration than its overrides give"),
        (["+callbacks.x._target_=os.system"], "which is not what this installation has there"),
    ],
)
def test_records_from_elsewhere_are_checked(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture, overrides: list[str], told: str
) -> None:
    record = json.loads((grid / "optimizer=adam,seed=3" / "result.json").read_text())
    (tmp_path / "t" / "run").mkdir(parents=True)
    (tmp_path / "t" / "run" / "result.json").write_text(json.dumps({**record, "overrides": overrides}))
    assert main(["confirm", str(tmp_path / "t")]) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "t_confirm").exists()
    (tmp_path / "empty" / "run").mkdir(parents=True)
    (tmp_path / "empty" / "run" / "result.json").write_text(json.dumps({**record, "status": "failed"}))
    assert main(["confirm", str(tmp_path / "empty")]) == 2 and "no completed run" in capsys.readouterr().err
