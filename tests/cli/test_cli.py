"""The command line as a user meets it: exit statuses, one-line errors, sweeps, and nothing left behind."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
from helpers import SMALL, cnnbench

from cnnbench.cli.main import main
from cnnbench.sweep.job import share_of_cores

BOMB = """
import lightning.pytorch as pl

class Bomb(pl.Callback):
    def on_train_start(self, trainer, module):
        if trainer.datamodule.seed == 1:
            raise RuntimeError("it went off")
"""


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


def test_one_run_leaves_the_files_of_the_contract(tmp_path: Path) -> None:
    done = cnnbench(*SMALL, "hydra.run.dir=here", cwd=tmp_path, check=0, fresh=True)
    assert "accuracy macro recall" in done.stdout
    assert done.stderr == ""
    run = tmp_path / "here"
    for path in (
        "result.json",
        "metrics.csv",
        "checkpoints/best.ckpt",
        ".hydra/config.yaml",
        "figures/confusion_test.png",
    ):
        assert (run / path).exists(), path
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    record = records(run)[0]
    assert record["overrides"] == SMALL and record["choices"]["model"] == "tiny_cnn"


def test_a_sweep_ends_with_a_leaderboard_over_seeds(tmp_path: Path) -> None:
    done = cnnbench(
        "-m", *SMALL, "optimizer=sgd,adam", "seed=range(2)", "hydra.sweep.dir=s", cwd=tmp_path, check=0, fresh=True
    )
    assert "[4/4]" in done.stdout and "leaderboard.md" in done.stdout
    assert re.search(r"\n- Best of 2: optimizer=(sgd|adam), with validation accuracy", done.stdout)
    # what is kept as the best of a run is named with its epoch, in per cent
    assert len(re.findall(r"; best validation accuracy \d+\.\d\d% in epoch [12]; ", done.stdout)) == 4
    assert len(records(tmp_path / "s")) == 4
    with (tmp_path / "s" / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and {row["n"] for row in rows} == {"2"}
    assert {path.name for path in (tmp_path / "s").iterdir() if path.is_dir()} == {
        f"optimizer={name},seed={seed}" for name in ("sgd", "adam") for seed in (0, 1)
    }
    # what is on disk gives the same leaderboard again
    before = (tmp_path / "s" / "leaderboard.csv").read_text()
    (tmp_path / "s" / "leaderboard.csv").unlink()
    cnnbench("report", "s", cwd=tmp_path, check=0)
    assert (tmp_path / "s" / "leaderboard.csv").read_text() == before


def test_a_run_that_raises_or_diverges_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "bomb.py").write_text(BOMB)
    done = cnnbench(
        "-m", *SMALL, "+callbacks.bomb._target_=bomb.Bomb", "optimizer=sgd", "optimizer.lr=0.01,1e30", "seed=0,1",
        "hydra.sweep.dir=s", cwd=tmp_path, check=1, PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    statuses = sorted(record["status"] for record in records(tmp_path / "s"))
    assert statuses == ["completed", "diverged", "failed", "failed"]
    assert "it went off" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / "s" / "leaderboard.md").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["optimizer=adma"], "did you mean 'adam'?"),
        (["-m", "optimizer=sgd,adma"], "did you mean 'adam'?"),
        (
            ["optimizer=sgd,adam"],
            "optimizer=sgd,adam is several values, which `cnnbench -m` sweeps over (optimizer=[sgd,adam]",
        ),
        (["lr=0.1"], "did you mean 'optimizer.lr'?"),
        (["norm=batch"], "did you mean 'model.norm'?"),
        (["epochs=3"], "did you mean 'trainer.max_epochs'?"),
        (["-m", "optimizer.lr=0.1,-1"], "optimizer.lr must be"),
        (["-m", "seed=0,1", "model=lenet", "data.image_size=10"], "convolution 2"),
        (["trainer.precision=8-true"], "trainer.precision"),
        (["data.validation=1.5"], "data.validation"),
        (["objective=val/acuracy"], "did you mean 'val/accuracy'?"),
        (["objective=test/accuracy"], "data.validation=test"),
        (["data=mnist", "data.root=nowhere"], "MNIST is not in"),
        (["data=image_folder", "data.path=nowhere"], "nowhere is not a folder; it should hold a folder a class"),
        (["optimizer.momentum=0.5", "optimizer=rmsprop", "optimizer.alpha=-1"], "alpha"),
        (["model.activation=rleu"], "did you mean 'relu'?"),
        (["init_from=nowhere.ckpt"], "init_from=nowhere.ckpt is not a file"),
        (["model=resnet18", "model.weights=a", "init_from=b"], "model.weights and init_from"),
        (["trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=1"], "must be at least 2"),
        (["optimizer=switch", "optimizer@optimizer.then=sdg"], "did you mean 'sgd'?"),
        (["optimizer=switch", "optimizer.then.nesterov=true", "optimizer.then.momentum=0"], "Nesterov"),
        (["-m", "seed=0,1", "hydra/launcher=parallel", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs must be"),
        (["-m", "seed=0,1", "hydra/launcher=parallel", "hydra.launcher.n_jobs=many"], "hydra.launcher.n_jobs must be"),
        (["-m", "seed=0,1", "hydra/sweeper=optuna", "hydra.sweeper.sampler=tpee"], "did you mean 'tpe'?"),
        (
            ["-m", "seed=0,1", "hydra/sweeper=optuna", "hydra.sweeper.pruner=no"],
            "median or halving or wilcoxon or none",
        ),
        (["-m", "seed=0,1", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be"),
        (
            ["-m", "seed=0,1", "hydra/launcher=paralel"],
            "joblib, local, parallel, ray, submitit_slurm; did you mean 'parallel'?",
        ),
        (["hydra/sweeper=optun"], "grid, optuna; did you mean 'optuna'?"),
        (["hydra.sweeper.n_trials=5"], "add hydra/sweeper=optuna"),
        (["-m", "seed=0,1", "hydra.launcher.gres=2"], "add hydra/launcher=submitit_slurm"),
        (["-m", "seed=0,1", "hydra/sweeper=basic"], "grid, optuna"),
        (["--config-name=other"], "--config-name=other is no flag of a run"),
        (
            ["-m", "seed=0,1", "hydra/launcher=parallel", "hydra.launcher.n_job=2"],
            "did you mean 'hydra.launcher.n_jobs'?",
        ),
        (["-m", "optimizer.lr=interval(1e-4,1)"], "add hydra/sweeper=optuna"),
        (["list", "hydra/launcher=paralel"], "did you mean 'parallel'?"),
        (["reprot"], "did you mean 'report'?"),
        (["report", "nowhere"], "nowhere"),
        (["list", "optimiser"], "did you mean 'optimizer'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_request_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and expected in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["resume", "rerun"])
def test_a_folder_may_have_an_equals_sign_in_its_name(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("optimizer=adam,seed=0").mkdir()
    assert main([command, "optimizer=adam,seed=0"]) == 2
    assert "optimizer=adam,seed=0 " in capsys.readouterr().err  # it is taken for a folder, with nothing in it
    assert main([command, "optimizer=adam"]) == 2
    assert "needs the folder" in capsys.readouterr().err


def test_a_wrong_request_ends_the_process_with_status_2(tmp_path: Path) -> None:
    done = cnnbench("-m", "optimizer=sgd,adma", cwd=tmp_path, check=2, fresh=True)
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_list_and_help_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for arguments, told in (
        (("list",), "alexnet"),
        (("list", "optimizer=adam"), "lr: 0.001"),
        (("--help",), "Sweep a grid"),
        (("--version",), "cnnbench "),
        (("resume", "--help"), "usage: cnnbench resume"),
    ):
        assert told in cnnbench(*arguments, cwd=tmp_path, check=0, fresh=True).stdout  # -m finds what lies here first


def test_the_configuration_can_be_asked_for(tmp_path: Path) -> None:
    assert "max_epochs: 7" in cnnbench("--cfg", "job", "trainer.max_epochs=7", cwd=tmp_path, check=0, fresh=True).stdout
    assert not (tmp_path / "outputs").exists()


def test_nothing_but_what_needs_one_asks_for_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in ("optuna", "timm", "captum", "onnx", "onnxruntime", "schedulefree", "pytorch_optimizer", "datasets",
                  "wandb", "mlflow", "ray", "joblib_launcher"):  # fmt: skip
        monkeypatch.setitem(sys.modules, extra, None)  # cannot be imported
    for module in ("cnnbench.sweep.optuna_search", "cnnbench.sweep.search_space"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    asked = ("optimizer=sgd,adam", "seed=range(1,3)", "optimizer.lr=interval(0.25,0.5)")
    shown = cnnbench("--cfg", "job", *asked, cwd=tmp_path, check=0).stdout
    assert "lr: 0.25" in shown and "seed: 1" in shown and "torch.optim.SGD" in shown
    cnnbench("--info", "searchpath", *asked, cwd=tmp_path, check=0)
    small = [*SMALL, "logger=none", "sweep.isolate=false", "seed=0,1", "hydra.sweep.dir=s"]
    cnnbench("-m", *small, cwd=tmp_path, check=0)
    for command in (["report", "s"], ["resume", "s"], ["predict", "s/seed=0", "--help"], ["list"]):
        cnnbench(*command, cwd=tmp_path, check=0)


@pytest.mark.parametrize(("jobs", "runs", "expected"), [(1, 4, None), (None, 4, None), (2, 6, 4), (-1, 6, 1),
                                                        (-1, 2, 4), (4, 2, 4), (16, 99, 1), (2, None, 4)])  # fmt: skip
def test_parallel_runs_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, jobs: int | None, runs: int | None, expected: int | None
) -> None:
    monkeypatch.setattr("cnnbench.sweep.job.available_cores", lambda: 8)
    assert share_of_cores(jobs, runs) == expected


@pytest.mark.parametrize("command", [["resume", "."], []])
def test_no_permission_is_one_line(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied", "theirs/multirun.yaml")

    monkeypatch.setattr("cnnbench.cli.main._run", refuse)
    error = cnnbench(*command, cwd=tmp_path, check=2).stderr
    assert len(error.splitlines()) == 1 and "theirs/multirun.yaml cannot be used (Permission denied)" in error
    assert "hydra.sweep.dir or --out" in error
