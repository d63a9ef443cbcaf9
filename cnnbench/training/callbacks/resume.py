"""What makes a killed run go on as if nothing had happened: checkpoints within an epoch, and all that they need.

A checkpoint stands before batch b of epoch e (b is 0 after an epoch's end). Order and augmentation follow from
(seed, epoch), so besides Lightning's state only the random state, which dropout uses, has to be kept.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint

from cnnbench.training.callbacks.checkpoint import BestAndLast
from cnnbench.training.distributed import gather
from cnnbench.utils.signals import Stopped, stop_requested


class Resume(Checkpoint):  # a Checkpoint, for Lightning calls those last
    """Saves within an epoch when it is time, or when a stop is asked for; and restores what Lightning does not.

    Args:
        keep: writes the checkpoints.
        session: what this run is and runs on, kept in each checkpoint; JSON-like.
        minutes: between two checkpoints within an epoch; None is none.
        steps: likewise in optimizer steps.
    """

    def __init__(
        self, keep: BestAndLast, session: Mapping[str, Any], minutes: float | None = 5, steps: int | None = None
    ) -> None:
        self.keep, self.session, self.minutes, self.steps = keep, dict(session), minutes, steps
        self.sessions: list[dict[str, Any]] = []  # those before this one, each with where it had come to
        self.earlier_seconds = 0.0
        self._started = self._saved = time.perf_counter()
        self._saved_step = 0
        self._random: dict[str, Any] | None = None

    def seconds(self) -> float:
        """Seconds of training so far, over all sessions, without what was lost."""
        return self.earlier_seconds + time.perf_counter() - self._started

    # Saving

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved, self._saved_step = time.perf_counter(), trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (asked := _asked(trainer)) is not None:  # nothing to save: an epoch has just ended, or not begun
            raise Stopped(f"stopped by {asked}")
        if self._random is not None:
            set_random_state(self._random)
            self._random = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.is_last_batch:  # the end of the epoch saves
            return
        due = stop_requested() is not None
        due |= self.minutes is not None and time.perf_counter() - self._saved >= 60 * self.minutes
        due |= self.steps is not None and trainer.global_step - self._saved_step >= self.steps
        if trainer.world_size > 1:  # all processes save, or none
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if not due:
            return
        self.keep.save(trainer)
        self.on_train_start(trainer, pl_module)
        if (asked := _asked(trainer)) is not None:
            raise Stopped(f"stopped by {asked}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_start(trainer, pl_module)  # ``keep`` has just saved

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        given = trainer.train_dataloader.state_dict()["given"]  # type: ignore[union-attr]
        position = {
            "epoch": trainer.current_epoch + (given == 0),
            "batch": given,
            "step": trainer.global_step,
        }
        state, *others = gather(random_state())  # by rank
        checkpoint["resume"] = {
            "position": position,
            "should_stop": bool(trainer.should_stop),
            "seconds": self.seconds(),
            "random": state,
            "random_of_others": others,
            "sessions": [*self.sessions, {**self.session, **position}],
        }

    # Going on

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        saved = checkpoint["resume"]
        self.sessions, self.earlier_seconds = list(saved["sessions"]), saved["seconds"]
        states, position = [saved["random"], *saved.get("random_of_others", ())], saved["position"]
        self._random = states[trainer.global_rank]
        self._started = time.perf_counter()
        trainer.should_stop = saved["should_stop"]
        data = trainer.datamodule  # type: ignore[attr-defined]
        chunk = data.steps_per_execution * data.accumulate
        batches = -(-data.count("train") // data.batch_size)
        left = -(-(batches - position["batch"]) // chunk)
        place(checkpoint["loops"]["fit_loop"], position, -(-batches // chunk) - left)


def _asked(trainer: pl.Trainer) -> str | None:
    """Who asked any of the run's processes for a stop."""
    asked = stop_requested()
    if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(asked is not None, all=False):
        return asked or "another process of this run"
    return asked


def place(loop: dict[str, Any], position: Mapping[str, int], chunks: int) -> None:
    """Let the saved state of Lightning's fit loop stand where ``position`` says, after ``chunks`` of its epoch.

    Lightning's own account of an interrupted epoch leaves out hooks and depends on the hook that saved.
    """

    def progress(count: int, ready: int | None = None) -> dict[str, Any]:
        tracker = dict.fromkeys(("ready", "started", "processed", "completed"), count)
        tracker["ready"] = count if ready is None else ready
        return {"total": tracker, "current": dict(tracker)}

    # by an epoch that is ready and has not started Lightning knows that the rest is to be taken as it stands
    loop["epoch_progress"] = progress(position["epoch"], position["epoch"] + (position["batch"] > 0))
    loop["epoch_loop.batch_progress"] = {**progress(chunks), "is_last_batch": False}
    loop["epoch_loop.val_loop.batch_progress"] = {**progress(0), "is_last_batch": False}


def random_state() -> dict[str, Any]:
    """The state of the global generators (torch, CUDA, numpy, Python), as numbers and tensors."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what ``random_state`` returned; CUDA's only where there are as many devices."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
