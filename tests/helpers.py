"""What several test files use: a small configuration, a run of it, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cnnbench.config import compose, resolved

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


def cnnbench(*arguments: str, cwd: Path, check: int | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m cnnbench`` as a user would; with ``check``, insist on that exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "cnnbench", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if check is not None:
        assert done.returncode == check, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
