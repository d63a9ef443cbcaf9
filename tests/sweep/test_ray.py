"""A sweep on a Ray cluster that is there already, started from another folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT, SMALL, cnnbench

from cnnbench.analysis.runs import collect


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment variables of a cluster of this machine, which is stopped afterwards."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    environ = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "RAY_ADDRESS": f"127.0.0.1:{port}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    ray = Path(sys.executable).with_name("ray")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    start = [
        "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2", "--include-dashboard=false",
        f"--temp-dir=/tmp/ray-{os.getpid()}", "--object-store-memory=100000000",
    ]  # fmt: skip
    whole = {**os.environ, **environ}
    subprocess.run([ray, *start], cwd=elsewhere, env=whole, check=True, capture_output=True)
    try:
        yield environ
    finally:
        subprocess.run([ray, "stop", "--force"], env=whole, check=False, capture_output=True)


def test_a_sweep_on_ray_is_complete(tmp_path: Path, cluster: dict[str, str]) -> None:
    faults = [
        "+callbacks.f._target_=faults.Fault",
        "+callbacks.f.by_seed={1:kill}",
        f"+callbacks.f.folder='{tmp_path}'",
    ]
    command = ["-m", *SMALL, "logger=none", "seed=range(3)", *faults, "hydra/launcher=ray", "hydra.sweep.dir=s"]
    done = cnnbench(*command, "hydra.launcher.ray.init.address=auto", cwd=tmp_path, check=0, fresh=True, **cluster)
    # Ray starts the run again whose worker was killed
    assert {run.seed: run.status for run in collect([tmp_path / "s"])} == dict.fromkeys(range(3), "completed")
    assert "3/3 done" in done.stdout
