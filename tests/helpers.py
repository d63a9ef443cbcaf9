"""What several test files use: a small configuration, a run of it, and the command line in a process of its own."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.config.compose import compose, resolved
from cnnbench.sweep.process import context
from cnnbench.utils.signals import unblock_signals

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


def config(*overrides: str, base: list[str] = SMALL) -> dict[str, Any]:
    """A resolved configuration of a small run with ``overrides``."""
    return resolved(compose([*base, "logger=none", *overrides]))


def cnnbench(
    *arguments: str, cwd: Path, check: int | None = None, fresh: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m cnnbench`` as a user would; with ``check``, insist on that exit status.

    Its process is forked from the server that runs of this test session come from, so it need not import torch for
    ten seconds; with ``fresh`` it is one of its own, as a user's is.
    """
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", **env}
    done = (_started if fresh else _forked)(arguments, cwd, environ)
    if check is not None:
        assert done.returncode == check, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _started(arguments: Sequence[str], cwd: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cnnbench", *arguments]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=300)


def _forked(arguments: Sequence[str], cwd: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("out", "err")]
        process = context().Process(target=_command, args=(arguments, str(cwd), environ, streams))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([*arguments], 300)
        return subprocess.CompletedProcess([*arguments], process.exitcode, *(path.read_text() for path in streams))


def _command(arguments: Sequence[str], cwd: str, environ: dict[str, str], streams: Sequence[Path]) -> None:
    """What a process from the server does instead of what it is there for."""
    unblock_signals()
    os.setsid()
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]  # the command's is no process of Python's
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    sys.argv = ["cnnbench", *arguments]
    sys.path[:0] = environ["PYTHONPATH"].split(os.pathsep)
    atexit.unregister(os._exit)  # the server's way to end
    from cnnbench.cli.main import main

    try:
        status = main()
    finally:
        atexit._run_exitfuncs()
    sys.exit(status)
