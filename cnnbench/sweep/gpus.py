"""Which GPU a run of a parallel sweep gets: a place on one that no other run of the sweep has."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnbench.environment import cores, gpus

POLL = 0.2  # seconds between two looks for a free place
ON_A_GPU = ("auto", "gpu", "cuda")  # of trainer.accelerator
FOLDER = ".gpus"


def runs_at_once(accelerator: str, runs_per_gpu: int) -> int:
    """How many runs this machine takes at a time: ``runs_per_gpu`` a GPU, or without one a run a core."""
    places = len(gpus()) * runs_per_gpu if accelerator in ON_A_GPU else 0
    return places or cores()


@contextmanager
def one_gpu(sweep: Path, config: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Hold a place on a GPU for a run of this configuration; waits until there is one.

    The places are locked files in the sweep's folder, which a killed process lets go of, so any launcher that has its
    workers on one machine spreads its runs. GPUs fill evenly: the second place of one is taken after the first of all.

    Yields:
        The environment variables of the run's process: CUDA_VISIBLE_DEVICES; none where there is nothing to choose.
    """
    names, trainer = gpus(), config["trainer"]
    if len(names) < 2 or trainer["accelerator"] not in ON_A_GPU or trainer.get("devices", 1) != 1:
        yield {}
        return
    folder = sweep / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    places = [(place, name) for place in range(config["sweep"]["runs_per_gpu"]) for name in names]
    while (taken := next((t for t in (_take(folder, *place) for place in places) if t is not None), None)) is None:
        time.sleep(POLL)
    handle, name = taken
    try:
        yield {"CUDA_VISIBLE_DEVICES": name}
    finally:
        os.close(handle)


def _take(folder: Path, place: int, name: str) -> tuple[int, str] | None:
    """Lock a place on a GPU: (handle, name), or None where another run has it."""
    import fcntl

    handle = os.open(folder / f"{platform.node()}-{name}-{place}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this handle, so that threads count one by one too
    except BlockingIOError:
        os.close(handle)
        return None
    return handle, name
