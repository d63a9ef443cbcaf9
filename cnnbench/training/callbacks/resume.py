"""What makes a killed run go on as if nothing had happened: checkpoints within an epoch, and all that they need.

A checkpoint stands before batch b of epoch e (b is 0 after an epoch's end). Order and augmentation follow from
(seed, epoch), so besides Lightning's state only the random state, which dropout uses, has to be kept.
"""

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from cnnbench.data import ImageDataModule
from cnnbench.training import checkpoint_io
from cnnbench.training.callbacks.checkpoint import BestAndLast
from cnnbench.training.distributed import gather
from cnnbench.utils.console import print_info
from cnnbench.utils.environment import code_version
from cnnbench.utils.errors import RequestError
from cnnbench.utils.signals import Stopped, restore_stop_signals, stop_requested


def resumable(folder: Path, fingerprint: str, devices: int = 1) -> tuple[Path, list[dict[str, Any]]] | None:
    """The newest whole checkpoint in the run's folder, and the sessions that led to it; None, with TensorBoard's old
    curves gone, where there is none. Raises RequestError where it is of another configuration or number of devices."""
    newest = checkpoint_io.newest(folder / "checkpoints", lambda text: print_info(f"  {text}"))
    if newest is None:
        for events in folder.rglob("events.out.tfevents.*"):
            events.unlink()
        return None
    path, saved = newest
    sessions, last = saved["resume"]["sessions"], saved["resume"]["sessions"][-1]
    if last["fingerprint"] != fingerprint:
        raise RequestError(f"{path} is of another configuration; choose another folder")
    if (began := last.get("devices", 1)) != devices:
        raise RequestError(f"{path} is of a run on {began} devices in all; it goes on with as many only")
    print_info(f"  going on at epoch {last['epoch'] + 1}, batch {last['batch'] + 1} ({path})")
    return path, sessions


class Resume(Checkpoint):  # a Checkpoint, for Lightning calls those last
    """Saves, with ``checkpoint``, within an epoch when so many ``minutes`` or optimizer ``steps`` are over (None is
    none), or a stop is requested; and restores what Lightning does not. Each checkpoint keeps the run's
    ``fingerprint``, and what else its process ran on."""

    def __init__(self, checkpoint: BestAndLast, fingerprint: str, minutes: float | None, steps: int | None) -> None:
        self.checkpoint, self.minutes, self.steps = checkpoint, minutes, steps
        self.session = {"fingerprint": fingerprint, "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
        self.session |= dict(zip(("git", "git_dirty"), code_version(), strict=True))
        self.sessions: list[dict[str, Any]] = []  # those before this one, each with where it had come to
        self.earlier_seconds = 0.0
        self._started = time.perf_counter()
        self._random_state: dict[str, Any] | None = None

    def seconds(self) -> float:
        """Seconds of training so far, over all sessions, without what was lost."""
        return self.earlier_seconds + time.perf_counter() - self._started

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        restore_stop_signals()  # Lightning's handler of SIGTERM, set just before this, does not say what stopped a run

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        restore_stop_signals()
        self._restore_random_state()  # of a run that was killed after its last epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise_if_stopped(trainer)  # nothing to save: an epoch has just ended, or not begun
        self._saved, self._saved_step = time.perf_counter(), trainer.global_step
        self._restore_random_state()

    def _restore_random_state(self) -> None:
        if self._random_state is not None:
            set_random_state(self._random_state)
            self._random_state = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.is_last_batch:  # the end of the epoch saves
            return
        due = stop_requested() is not None
        due |= self.minutes is not None and time.perf_counter() - self._saved >= 60 * self.minutes
        due |= self.steps is not None and trainer.global_step - self._saved_step >= self.steps
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # all ranks save, or none
            self.checkpoint.save(trainer)
            self._saved, self._saved_step = time.perf_counter(), trainer.global_step
            raise_if_stopped(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        given = trainer.train_dataloader.state_dict()["given"]  # type: ignore[union-attr]
        data = trainer.datamodule.prepared.fingerprint  # type: ignore[attr-defined]
        position = {"epoch": trainer.current_epoch + (given == 0), "batch": given, "step": trainer.global_step}
        states = gather(random_state())  # by rank
        checkpoint["resume"] = {
            "position": position, "should_stop": bool(trainer.should_stop), "seconds": self.seconds(),
            "random": states[0], "random_of_others": states[1:],
            "sessions": [*self.sessions, {**self.session, "data": data, "devices": trainer.world_size, **position}],
        }  # fmt: skip

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["resume"]
        self.sessions, self.earlier_seconds = list(saved["sessions"]), saved["seconds"]
        self._random_state = [saved["random"], *saved.get("random_of_others", ())][trainer.global_rank]
        self._started = time.perf_counter()
        trainer.should_stop = saved["should_stop"]
        set_position(checkpoint["loops"]["fit_loop"], saved["position"], trainer.datamodule)  # type: ignore[attr-defined]


def raise_if_stopped(trainer: Trainer) -> None:
    """Raise Stopped in all ranks where one of them was asked to stop."""
    by = stop_requested()
    if trainer.strategy.reduce_boolean_decision(by is not None, all=False):
        raise Stopped(f"stopped by {by or 'another process of this run'}")


def set_position(fit_loop: dict[str, Any], position: Mapping[str, int], data: ImageDataModule) -> None:
    """Let the saved state of Lightning's fit loop stand at ``position``, in Lightning steps of today's length; its own
    account of an interrupted epoch leaves out hooks and depends on the hook that saved."""
    batches_per_step = data.steps_per_execution * data.accumulate
    batches = -(-data.count("train") // data.batch_size)
    left = -(-(batches - position["batch"]) // batches_per_step)
    steps = -(-batches // batches_per_step) - left

    def progress(count: int, begun: bool = False) -> dict[str, Any]:
        tracker = {"ready": count + begun, "started": count, "processed": count, "completed": count}
        return {"total": tracker, "current": dict(tracker)}

    # by an epoch that is ready and has not started Lightning knows that the rest is to be taken as it stands
    fit_loop["epoch_progress"] = progress(position["epoch"], position["batch"] > 0)
    fit_loop["epoch_loop.batch_progress"] = {**progress(steps), "is_last_batch": False}
    fit_loop["epoch_loop.val_loop.batch_progress"] = {**progress(0), "is_last_batch": False}


def random_state() -> dict[str, Any]:
    """The state of the global generators (torch, CUDA, numpy, Python), as numbers and tensors."""
    (version, numbers, gauss), (name, keys, *rest) = random.getstate(), np.random.get_state(legacy=True)
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
