"""A sweep on a real Slurm, with a job that is told, half-way, that its time is up."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, SMALL, config
from same import differences
from slurm import missing, slurm

from cnnbench.analysis.runs import collect
from cnnbench.training.train import train
from cnnbench.utils.record import read_record

RUN = [
    *SMALL,
    "logger=none",
    "callbacks.progress.seconds=1000",
    "trainer.max_epochs=4",
    "model.dropout=0.3",
    "model.hidden=[16]",
]


@pytest.mark.skipif(bool(missing()), reason=f"needs a Slurm: {', '.join(missing())}; .ci/run installs one")
def test_a_sweep_on_slurm_is_complete_though_a_job_was_requeued(tmp_path: Path) -> None:
    with slurm(tmp_path / "slurm") as environ:
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **environ}
        command = [
            sys.executable, "-m", "cnnbench", "-m", *RUN, "seed=range(3)", "hydra/launcher=submitit_slurm",
            "hydra.launcher.cpus_per_task=1", "hydra.sweep.dir=s",
            # one more than there are cores; the run of seed 1 sleeps after its first epochs, until it is told to stop
            "+callbacks.f._target_=faults.Fault", "+callbacks.f.by_seed={1:wait}", "+callbacks.f.step=9",
            f"+callbacks.f.folder='{tmp_path}'",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while not (tmp_path / "seed1").exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        jobs = subprocess.run(
            ["squeue", "-h", "-t", "R", "-o", "%i"], env=environ, capture_output=True, text=True, check=True
        ).stdout.split()  # fmt: skip
        (job,) = [job for job in jobs if job.endswith("_1")]
        # once is enough; it goes on while the job is being requeued
        telling = subprocess.Popen(["scancel", "--signal=USR2", job], env=environ, stderr=subprocess.DEVNULL)
        told, _ = process.communicate(timeout=600)
        telling.kill()
        telling.wait()
    assert process.returncode == 0, told
    runs = collect([tmp_path / "s"])
    assert [run.status for run in runs] == ["completed"] * 3
    with (tmp_path / "s" / "leaderboard.csv").open() as file:
        assert sum(int(row["n"]) for row in csv.DictReader(file)) == 3
    requeued = tmp_path / "s" / "seed=1"
    record = read_record(requeued)
    assert [end["status"] for end in record["attempts"]] == ["interrupted"]
    assert "SIGUSR2" in record["attempts"][0]["error"]["message"] and len(record["resumed"]) == 1
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())
    # as if nothing had happened
    train(config(*RUN, "seed=1", base=[]), tmp_path / "whole")
    assert not differences(tmp_path / "whole", requeued)
