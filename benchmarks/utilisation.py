"""How busy the GPU is while something runs on it, as the driver reports it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

COMMAND = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]


@contextmanager
def watched(device: str) -> Iterator[list[float]]:
    """A list that, after the block, holds the share of time in percent in which a kernel was running, a reading each
    fifth of a second; empty on a CPU and where there is no nvidia-smi."""
    readings: list[float] = []
    if device != "cuda":
        yield readings
        return
    try:
        process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        yield readings
        return
    try:
        yield readings
    finally:
        process.terminate()
        output, _ = process.communicate()
        readings += [float(line) for line in output.splitlines() if line.strip().isdigit()]
