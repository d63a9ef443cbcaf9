"""The images of a set that does not fit in memory, read by the worker processes of a DataLoader."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Timer

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnnbench.utils.errors import RequestError, one_line

SHARED = Path("/dev/shm")  # where the workers put what they have read
REMEDY = "use data.workers=0 or data.storage=memory, or give more shared memory (docker run --shm-size=1g)"


class Rows(Dataset):
    """Raw images by row numbers; where they are mapped from a ``file``, each worker opens it itself, and is sent none."""

    def __init__(self, images: Tensor, file: str | None) -> None:
        self.file, self.images = file, None if file else images

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        if self.images is None:
            self.images = torch.from_numpy(np.load(self.file, mmap_mode="r", allow_pickle=False))  # type: ignore[arg-type]
        return self.images.index_select(0, torch.from_numpy(rows))


class StreamReader:
    """Reads blocks of ``images``, uint8 (N, H, W, C), mapped from ``file`` or in memory, in processes that stay from epoch
    to epoch; without ``workers`` in this one. A block has up to ``block`` images, and is waited for ``seconds``."""

    def __init__(
        self, images: Tensor, file: str | None, block: int, workers: int, seconds: float, pin_memory: bool
    ) -> None:
        self.seconds, self.block_bytes = seconds, block * images[0].nbytes
        self.parts: list[np.ndarray] = []  # what is to be read in this epoch
        self.processes: set[BaseProcess] = set()  # the workers
        self.loader = DataLoader(
            Rows(images, file),
            batch_size=None,
            sampler=self.parts,
            num_workers=workers,
            generator=torch.Generator(),  # for the workers' seeds, which would else move the global one
            persistent_workers=workers > 0,
            timeout=seconds if workers else 0,
            pin_memory=pin_memory,
        )

    def read(self, parts: list[np.ndarray]) -> Iterator[Tensor]:
        """The images of these rows, one block after the other. Raises RequestError where the workers have no room for them,
        one has died or gives nothing."""
        self._check_shared_memory()
        self.parts[:] = parts
        others = {*active_children()} - self.processes
        try:
            blocks = iter(self.loader)  # its processes stay for the next epoch
            self.processes = {*active_children()} - others
            for _ in parts:
                yield self._next(blocks)
        except RuntimeError as error:
            remedy = f"{REMEDY}, or a longer data.worker_seconds"
            raise RequestError(f"no images from a stream's workers ({one_line(error)}): {remedy}") from error

    def _next(self, blocks: Iterator[Tensor]) -> Tensor:
        """The next images. torch's limit does not hold while a worker hands them over, so one that stops then is ended."""
        limit = Timer(1.1 * self.seconds, self._kill_workers)
        limit.daemon = True
        limit.start()
        try:
            return next(blocks)
        except (EOFError, OSError) as error:  # that worker was ended
            time.sleep(1)  # within which torch, on the signal of its end, raises RuntimeError
            raise RuntimeError("a worker has ended") from error
        finally:
            limit.cancel()

    def _kill_workers(self) -> None:
        for process in self.processes:
            process.kill()

    def _check_shared_memory(self) -> None:
        """Raise RequestError where the workers would wait for ever for shared memory to put images into."""
        ahead = (1 + self.loader.num_workers * (self.loader.prefetch_factor or 0)) * self.block_bytes
        if self.loader.num_workers and SHARED.is_dir() and ahead > (free := shutil.disk_usage(SHARED).free):
            left = f"in {SHARED}, which has {free / 1e6:.1f} MB left"
            raise RequestError(f"the workers of a stream need {ahead / 1e6:.1f} MB {left}: {REMEDY}")

    def wake(self) -> None:
        """Let workers that were stopped go on, for they could not end, and this process would wait for them."""
        for process in self.processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGCONT)
