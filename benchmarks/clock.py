"""What a training took: seconds on the clock, and of the processor, which other programs on the machine hardly change."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """Of some epochs: seconds on the clock, seconds of the processor in all threads and processes, and the mean training
    loss of the last epoch."""

    seconds: float
    processor: float
    loss: float


def processor_seconds() -> float:
    """User and system time of this process and of those that it has started, living ones (Linux alone) among them."""
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    for child in multiprocessing.active_children():  # the workers of a DataLoader that has not ended
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            used += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return used


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self.processor, self.clock = processor_seconds(), time.perf_counter()

    def result(self, loss: float) -> Result:
        """What it took up to now."""
        return Result(time.perf_counter() - self.clock, processor_seconds() - self.processor, loss)
