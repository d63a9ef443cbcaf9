"""What a run ran on: versions, code and hardware, for its record."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def code_version() -> tuple[str | None, bool | None]:
    """The git commit of this code and whether the tree differs from it; (None, None) outside a checkout."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None, None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.stdout.strip(), bool(changes.stdout.strip())


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def environment(device: str) -> dict[str, Any]:
    """The record's ``environment``; ``device`` is torch's name of the device trained on."""
    import torch

    versions = {}
    for package in ("torch", "torchvision", "lightning", "cnnbench"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    commit, dirty = code_version()
    return {
        "python": platform.python_version(),
        **versions,
        "device": device,
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "git": commit,
        "git_dirty": dirty,
    }
