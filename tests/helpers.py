"""What several test files use: a small configuration, a run of it, and the command line."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from cnnbench.cli.main import main
from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import read_yaml
from cnnbench.utils.run_dir import is_locked

ROOT = Path(__file__).parent.parent
# a second of work: 160 digits of 12x12 through the smallest network
SMALL = [
    "model=tiny_cnn",
    "data.image_size=12",
    "data.limit_train=160",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "threads=1",  # several slow one another down where tests run side by side
]


def installed(optimizer: str) -> bool:
    """Whether the package is there that an optimizer comes from; torch is, some others are extras."""
    target = yaml.safe_load(read_yaml("optimizer", optimizer))["_target_"]
    return importlib.util.find_spec(target.partition(".")[0]) is not None


def config(*overrides: str, base: list[str] = SMALL) -> dict[str, Any]:
    """A resolved configuration of a small run with ``overrides``."""
    return resolved(compose([*base, "logger=none", *overrides]))


def cnnbench(
    *arguments: str, cwd: Path, check: int | None = None, fresh: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in ``cwd``, with more environment variables; with ``check``, insist on that exit status.

    In this process, which has imported torch; with ``fresh`` in one of its own, as a user's is.
    """
    path = [*env.get("PYTHONPATH", os.environ.get("PYTHONPATH", "")).split(os.pathsep), str(ROOT), str(ROOT / "tests")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    if fresh:
        command = [sys.executable, "-m", "cnnbench", *arguments]
        environ = {**os.environ, **env}
        done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=600)
    else:
        out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
        with (
            mock.patch.dict(os.environ, env),
            mock.patch.object(sys, "path", [*filter(None, path), *sys.path]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            os.chdir(cwd)
            try:
                status = main(arguments)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            finally:
                os.chdir(before)
        done = subprocess.CompletedProcess([*arguments], status, out.getvalue(), err.getvalue())
    if check is not None:
        assert done.returncode == check, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def wait_until_free(sweep: Path) -> None:
    """Wait until no process has a run of a sweep that was killed: they end by themselves, soon after."""
    while any(is_locked(folder) for folder in sweep.iterdir() if folder.is_dir()):
        time.sleep(0.05)
