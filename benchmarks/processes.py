"""Six trainings as whole processes: a sweep of cnnbench, and for each other library six processes, one after the other.

Start-up and compilation count, and so do cnnbench's test, figures, record and leaderboard.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.cases import ON_CPU, make_data
from benchmarks.peers import ENVIRONMENT, PEERS

CASE = ON_CPU["tiny_cnn-64"]
SET_CHILD_SUBREAPER = 36  # in <linux/prctl.h>
OPTIMIZERS, SCHEDULERS = ("sgd", "adam", "rmsprop"), ("cosine", "exp")


def report(rows: list[str], repeats: int, quick: bool, folder: Path) -> dict[str, Any]:
    """Print and return median seconds, on the clock and of the processor, of cnnbench and those of ``rows`` that are other
    libraries; the first turn is not counted, but in a ``quick`` report."""
    images, epochs = (640, 1) if quick else (6_400, 5)
    data, turns = make_data(CASE, images, folder), repeats + (not quick)
    names = ["cnnbench", *(row for row in rows if row in PEERS)]
    figures: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "processor": [], "loss": []} for name in names}
    adopt_orphans()
    for turn in range(turns):
        for name, of_row in figures.items():
            before, start = children_seconds(), time.perf_counter()
            losses = sweep(data, epochs, folder / f"processes{turn}") if name == "cnnbench" else six(name, data, epochs)
            of_row["seconds"].append(time.perf_counter() - start)
            of_row["processor"].append(children_seconds() - before)
            of_row["loss"] = losses
    print(f"\nsix trainings as whole processes: tiny_cnn, {epochs} epoch(s) of {images:,} images, batch {CASE.batch_size}, "
          f"one thread; medians of {repeats}; training losses of {' '.join(OPTIMIZERS)} with {' and '.join(SCHEDULERS)}")  # fmt: skip
    print(f"  {'row':<22} {'seconds':>8} {'cpu s':>8}  losses")
    for name, of_row in figures.items():
        counted = {key: of_row[key][turns - repeats :] for key in ("seconds", "processor")}
        print(f"  {name:<22} {statistics.median(counted['seconds']):8.2f} {statistics.median(counted['processor']):8.2f}  "
              + " ".join(f"{loss:.3f}" for loss in of_row["loss"]), flush=True)  # fmt: skip
        of_row.update(counted)
    return figures


def adopt_orphans() -> None:
    """Become the parent of processes whose own ends first (Linux): cnnbench's runs are forked by a server that outlives
    the program for a moment, and its time would not be counted."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_seconds() -> float:
    """User and system time of all processes that were started, and of theirs, once all have ended."""
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def run(*arguments: str) -> str:
    """What Python prints with these arguments, on one thread."""
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ).stdout  # fmt: skip


def six(row: str, data: Path, epochs: int) -> list[float]:
    """A process for each training; their losses."""
    arguments = ["-m", "benchmarks.peers", row, CASE.name, str(data), str(epochs)]
    answers = [run(*arguments, *chosen) for chosen in product(OPTIMIZERS, SCHEDULERS)]
    return [json.loads(answer.splitlines()[-1])["loss"] for answer in answers]


def sweep(data: Path, epochs: int, folder: Path) -> list[float]:
    """One process of cnnbench for all six, with its defaults; their losses."""
    run("-m", "cnnbench", "-m", f"optimizer={','.join(OPTIMIZERS)}", f"scheduler={','.join(SCHEDULERS)}",
        f"model={CASE.model}", "data=npz", f"data.path={data}", f"data.batch_size={CASE.batch_size}",
        f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu", "threads=1", f"hydra.sweep.dir={folder}")  # fmt: skip
    losses = {}
    for path in folder.rglob("result.json"):
        record = json.loads(path.read_text())
        chosen = dict(override.split("=", 1) for override in record["overrides"])
        losses[chosen["optimizer"], chosen["scheduler"]] = record["metrics"]["train/loss"]
    return [losses[key] for key in product(OPTIMIZERS, SCHEDULERS)]
