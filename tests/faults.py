"""What can go wrong in a run, as a callback: +callbacks.fault._target_=faults.Fault +callbacks.fault.how=kill ..."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch


class Fault(pl.Callback):
    """Does ``how`` (raise, diverge, kill, term, int, exit or hang) at the end of the first chunk at or after ``step``.

    Args:
        file: made when it happens; where it is there already, nothing happens. None is every time.
        seed: only in the run with this seed.
    """

    def __init__(self, how: str, step: int = 1, file: str | None = None, seed: int | None = None) -> None:
        self.how, self.step, self.file, self.seed = how, step, Path(file) if file else None, seed

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if trainer.global_step < self.step or self.seed not in (None, trainer.datamodule.seed):  # type: ignore[attr-defined]
            return
        if self.file is not None:
            if self.file.exists():
                return
            self.file.touch()
        if self.how == "raise":
            raise RuntimeError("it went off")
        if self.how == "diverge":
            with torch.no_grad():
                next(module.parameters()).fill_(float("nan"))
        elif self.how == "exit":
            os._exit(3)
        elif self.how == "hang":
            time.sleep(600)
        else:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[self.how])


class FaultsBySeed(pl.Callback):
    """A fault for each of some seeds: {1: raise, 2: diverge, ...}."""

    def __init__(self, by_seed: dict[int, str], step: int = 1) -> None:
        self.faults = [Fault(how, step, seed=int(seed)) for seed, how in by_seed.items()]

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        for fault in self.faults:
            fault.on_train_batch_end(trainer, module)
