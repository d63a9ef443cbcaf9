"""A run on several machines, whose ranks torchrun starts; both are this one here, with a rank each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed.run
from helpers import ROOT, config
from same import differences
from test_distributed import BASE, DDP, DROPOUT, go

from cnnbench.sweep.process import start
from cnnbench.training import preflight
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record
from cnnbench.utils.signals import unblock_signals

TWO = [*BASE, *DDP, *DROPOUT, "trainer.devices=1", "trainer.num_nodes=2", "logger=none"]


def torchrun(port: int, folder: Path, output: Path, environ: dict[str, str], arguments: tuple[str, ...]) -> None:
    """What the command torchrun does, in this process."""
    unblock_signals()
    os.environ.update(environ)
    os.chdir(folder)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    torch.distributed.run.main([*options, "-m", "cnnbench", *arguments])


def on_two_machines(folder: Path, *arguments: str) -> list[tuple[int | None, str]]:
    """Start the command on both, in ``folder``; the exit status of each and what it printed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    outputs = [folder / f"machine_{machine}_at_{port}" for machine in range(2)]
    # from a process that has imported torch; the ranks that torchrun starts are new ones
    started = [start(torchrun, port, folder, output, environ, arguments) for output in outputs]
    for process in started:
        process.join(600)
    return [(process.exitcode, output.read_text()) for process, output in zip(started, outputs, strict=True)]


@pytest.fixture(scope="module")
def on_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of ``TWO`` with seed 0 on one machine, whose ranks cnnbench starts."""
    folder = tmp_path_factory.mktemp("on") / "one"
    go(folder, *TWO, "trainer.devices=2", "trainer.num_nodes=1")
    return folder


def test_a_sweep_over_two_machines_stops_and_goes_on_until_one_loses_a_rank(tmp_path: Path, on_one: Path) -> None:
    asked = [
        "-m", *TWO, "seed=0,1", "hydra.sweep.dir=s", "+callbacks.f._target_=faults.Fault", "+callbacks.f.rank=1",
        "+callbacks.f.by_seed={0:term,1:exit}", "+callbacks.f.step=10", f"+callbacks.f.folder={tmp_path}",
    ]  # fmt: skip
    stopped = on_two_machines(tmp_path, *asked)  # the rank of the second machine is told to
    record = read_record(tmp_path / "s" / "seed=0")
    assert record["status"] == "interrupted" and record["environment"]["devices"] == 2, (record["error"], stopped)
    again = on_two_machines(tmp_path, *asked)
    first, second = (read_record(tmp_path / "s" / f"seed={seed}") for seed in (0, 1))
    assert [first["status"], second["status"]] == ["completed", "failed"], again
    assert first["resumed"] and "another rank has ended" in second["error"]["message"]
    assert [status for status, _ in again] == [1, 1]
    assert sum("[2/2] seed=1" in text for _, text in again) == 1  # rank 0 tells
    assert not differences(on_one, tmp_path / "s" / "seed=0")


def test_ranks_that_srun_starts_train_as_one_run(tmp_path: Path, on_one: Path) -> None:
    variables = {
        "SLURM_JOB_ID": "12345", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "test", "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    asked = [*BASE, *DDP, *DROPOUT, "logger=none", "hydra.run.dir=run"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "cnnbench", *asked], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **variables, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    printed = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0] and "on cpu and 1 more" in printed[0], printed
    assert not printed[1]
    assert not differences(on_one, tmp_path / "run")


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_ranks_that_nobody_asked_for_are_told(monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    variables = {
        "torchrun": {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4"},
        "srun": {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "x"},
    }
    for name, value in variables[launcher].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=r"4 processes of this were started, so .* must be 4, and is 2"):
        preflight.check_devices(config(*DDP), 2)
    with pytest.raises(RequestError, match=r"batch_size=3 is shared by 4 devices"):
        preflight.check_devices(config(*DDP, "trainer.num_nodes=2", "data.batch_size=3"), 2)
