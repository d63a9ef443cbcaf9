"""What can go wrong in a run, as a callback: +callbacks.fault._target_=faults.Fault +callbacks.fault.how=kill ..."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from cnnbench.utils.signals import stop_requested


class Fault(pl.Callback):
    """Does ``how`` (raise, diverge, kill, term, int, exit, hang, kill_server, or wait until the run is asked to stop) at the end of the first chunk at or after ``step``.

    Args:
        rank: that it happens in, of a run on several devices. ``build`` is a failure at once.
        by_seed: instead of ``how``, what happens in the runs with these seeds.
        folder: where it happens only once: a file of the seed's name marks that it has.
    """

    def __init__(
        self,
        how: str | None = None,
        step: int = 1,
        by_seed: dict[int, str] | None = None,
        folder: str | None = None,
        rank: int = 0,
    ) -> None:
        self.rank = rank
        if how == "build" and os.environ.get("RANK") == str(rank):
            raise RuntimeError("it was not built")
        self.how, self.step, self.by_seed = how, step, {int(seed): value for seed, value in (by_seed or {}).items()}
        self.folder = Path(folder) if folder else None

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        seed: int = trainer.datamodule.seed  # type: ignore[attr-defined]
        how = self.by_seed.get(seed, self.how)
        if how is None or trainer.global_rank != self.rank or trainer.global_step < self.step:
            return
        if self.folder is not None:
            mark = self.folder / f"seed{seed}"
            if mark.exists():
                return
            mark.touch()
        if how == "raise":
            raise RuntimeError("it went off")
        if how == "diverge":
            with torch.no_grad():
                next(module.parameters()).fill_(float("nan"))
        elif how == "exit":
            os._exit(3)
        elif how == "kill_server":  # that this process was forked from
            os.kill(os.getppid(), signal.SIGKILL)
        elif how == "wait":
            while stop_requested() is None:
                time.sleep(0.05)
        elif how == "hang":
            time.sleep(600)
        else:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[how])


class Count(pl.Callback):
    """Writes a line with the seed into ``file`` whenever a run starts to train."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        with self.file.open("a") as file:
            file.write(f"{trainer.datamodule.seed}\n")  # type: ignore[attr-defined]
