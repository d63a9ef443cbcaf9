"""A run on several machines, which torchrun starts; both are this one here, each with processes of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, config
from same import differences
from test_ddp import BASE, DDP, DROPOUT, go

from cnnbench.training import preflight
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record

TWO = [*BASE, *DDP, *DROPOUT, "trainer.devices=1", "trainer.num_nodes=2", "logger=none"]


def on_two_machines(folder: Path, *arguments: str) -> list[tuple[int, str]]:
    """Start the command on both, in ``folder``; the exit status of each and what it printed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test", "-m", "cnnbench", *arguments,
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=200)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, printed, strict=True)]


def test_a_sweep_over_two_machines_stops_goes_on_and_outlives_a_process_of_the_second(tmp_path: Path) -> None:
    asked = [
        "-m", *TWO, "seed=0,1", "hydra.sweep.dir=s", "+callbacks.f._target_=faults.Fault", "+callbacks.f.rank=1",
        "+callbacks.f.by_seed={0:term,1:exit}", "+callbacks.f.step=10", f"+callbacks.f.folder={tmp_path}",
    ]  # fmt: skip
    stopped = on_two_machines(tmp_path, *asked)  # a process of the second machine is told to
    record = read_record(tmp_path / "s" / "seed=0")
    assert record["status"] == "interrupted" and record["environment"]["devices"] == 2, (record["error"], stopped)
    again = on_two_machines(tmp_path, *asked)
    first, second = (read_record(tmp_path / "s" / f"seed={seed}") for seed in (0, 1))
    assert [first["status"], second["status"]] == ["completed", "failed"], again
    assert first["resumed"] and "process 2 of 2: the process ended itself with status 3" in second["error"]["message"]
    assert [status for status, _ in again] == [1, 1]
    assert sum("machine 2: run 2" in text for _, text in again) == 1  # the other one leads
    go(tmp_path / "one", *TWO, "trainer.devices=2", "trainer.num_nodes=1")
    assert not differences(tmp_path / "one", tmp_path / "s" / "seed=0")


def test_machines_that_nobody_asked_for_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(RequestError, match=r"started this on 2 machines: ask for them with trainer\.num_nodes=2"):
        preflight.check_devices(config(*DDP), 2)
    with pytest.raises(RequestError, match=r"batch_size=3 is shared by 4 devices"):
        preflight.check_devices(config(*DDP, "trainer.num_nodes=2", "data.batch_size=3"), 2)
