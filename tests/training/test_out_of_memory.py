"""A full disk and a closed pipe: what was done stays, what failed is said in a line, and with room the run goes on."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, SMALL, cnnbench, config

from cnnbench.data.cache import prepare
from cnnbench.data.sources import Digits
from cnnbench.sweep.process import start
from cnnbench.training.train import train
from cnnbench.utils.record import read_record

RUN = [*SMALL, "model=lenet_bn", "data.image_size=28", "trainer.max_epochs=3", "logger=none"]


@pytest.fixture(autouse=True)
def _data(cache: Path) -> None:
    """Prepared with room; that it is told where there is none is tested with the store."""
    prepare(Digits(), None, 28, cache)


def limited(bytes_a_file: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line where no file can grow beyond so many bytes, which fails as a full disk does."""
    return subprocess.run(
        [sys.executable, "-m", "cnnbench", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file)),
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_checkpoint_without_room_fails_the_run_which_goes_on_when_there_is_some(tmp_path: Path) -> None:
    done = limited(100_000, *RUN, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    record = read_record(tmp_path / "run")
    assert record["status"] == "failed" and "best.ckpt could not be written" in record["error"]["message"]
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    cnnbench("resume", "run", cwd=tmp_path, check=0)
    cnnbench(*RUN, "hydra.run.dir=whole", cwd=tmp_path, check=0)
    assert read_record(tmp_path / "run")["metrics"] == read_record(tmp_path / "whole")["metrics"]


def test_a_record_without_room_is_told_in_a_line(tmp_path: Path) -> None:
    done = limited(7_000, *RUN, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1 and "no record could be written" in done.stdout
    assert "Traceback" not in done.stderr and not (tmp_path / "run" / "result.json").exists()


def test_a_report_without_room_is_told_and_the_runs_are_kept(tmp_path: Path) -> None:
    cnnbench("-m", *RUN, "seed=0,1", "trainer.max_epochs=1", "hydra.sweep.dir=sweep", cwd=tmp_path, check=0)
    for name in ("report.html", "leaderboard.csv"):
        (tmp_path / "sweep" / name).unlink()
    done = limited(2_000, "report", "sweep", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("cnnbench: ") and len(done.stderr.splitlines()) == 1
    assert "report.html cannot be written" in done.stderr
    assert read_record(tmp_path / "sweep" / "seed=0")["status"] == "completed"


def test_a_sweep_whose_reader_has_gone_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnbench", "-m", *RUN, "seed=0,1", "hydra.sweep.dir=sweep"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(600) == 0 and "Broken" not in errors, errors
    assert [read_record(tmp_path / "sweep" / f"seed={seed}")["status"] for seed in (0, 1)] == ["completed"] * 2


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_which_batch_fits_is_tried_in_the_precision_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cnnbench.training.module.ImageClassifier.train_step", fail)
    record = train(config(f"trainer.precision={precision}"), tmp_path)
    assert "a step fits by itself" in record["error"]["message"]


def train_with_900_mib(folder: Path, overrides: list[str]) -> None:
    used = 1024 * int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (used + 900 * 2**20,) * 2)
    train(config(*overrides), folder)


def test_a_batch_that_does_not_fit_is_told_with_one_that_does(tmp_path: Path) -> None:
    asked = [
        "model=three_layer_cnn",
        "data.image_size=64",
        "data.limit_train=1200",
        "trainer.max_epochs=1",
    ]  # 0.3 MiB an image and layer

    def run(size: int) -> dict:
        process = start(train_with_900_mib, tmp_path / f"run{size}", [*asked, f"data.batch_size={size}"])
        process.join(600)
        assert process.exitcode == 0
        return read_record(tmp_path / f"run{size}")

    record = run(1200)
    assert record["status"] == "failed" and record["error"]["type"] == "MemoryError", record["error"]
    told = re.fullmatch(
        r"no room in memory: data\.batch_size=1200 is too much; data\.batch_size=(\d+) fits", record["error"]["message"]
    )
    assert told is not None, record["error"]["message"]
    assert run(int(told[1]))["status"] == "completed"
