"""Which GPUs a run of a parallel sweep gets: a place on as many as it takes that no other run of the sweep has."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnbench.utils.environment import GPU_ACCELERATORS, gpus

POLL = 0.2  # seconds between two looks for a free place
FOLDER = ".gpus"


@contextmanager
def own_gpus(sweep: Path, config: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Hold a place on each of ``trainer.devices`` GPUs for a run of this configuration; waits until there are so many.

    The places are locked files in the sweep's folder, which a killed process lets go of, so any launcher that has its
    workers on one machine spreads its runs. GPUs fill evenly: the second place of one is taken after the first of all.

    Yields:
        The environment variables of the run's process: CUDA_VISIBLE_DEVICES; none where there is nothing to choose.
    """
    names, trainer = gpus(), config["trainer"]
    if len(names) < 2 or trainer["accelerator"] not in GPU_ACCELERATORS or isinstance(trainer["devices"], list):
        yield {}
        return
    wanted = len(names) if trainer["devices"] == "auto" else min(trainer["devices"], len(names))
    folder = sweep / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    places = [(place, name) for place in range(config["sweep"]["runs_per_gpu"]) for name in names]
    taken: dict[str, int] = {}  # GPUs, and the handles of the locks on them
    try:
        while len(taken) < wanted:
            for place, name in places:
                if len(taken) < wanted and name not in taken and (handle := _take(folder, place, name)) is not None:
                    taken[name] = handle
            if len(taken) < wanted:  # another run may have, and wait for, the others
                while taken:
                    os.close(taken.popitem()[1])
                time.sleep(POLL * (1 + random.random()))
        yield {"CUDA_VISIBLE_DEVICES": ",".join(name for name in names if name in taken)}
    finally:
        for handle in taken.values():
            os.close(handle)


def _take(folder: Path, place: int, name: str) -> int | None:
    """Lock a place on a GPU: the handle, or None where another run has it."""
    import fcntl

    handle = os.open(folder / f"{platform.node()}-{name}-{place}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this handle, so that threads count one by one too
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
