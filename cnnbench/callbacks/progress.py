"""Progress for people: a line an epoch, and on a terminal a live line within it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl

from cnnbench.terminal import duration, say, verbose

if TYPE_CHECKING:
    from cnnbench.classifier import ImageClassifier

LIVE_SECONDS = 0.2  # between two updates of the live line


class Progress(pl.callbacks.Checkpoint):  # called last, like History, when the epoch's metrics are complete
    """Prints loss, accuracy, recall, speed and the time left.

    Args:
        seconds: at most one line in this time, and always one for the last epoch; 0 prints every epoch.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        self.seconds = seconds
        self._shown = self._printed = 0.0
        self._live = sys.stdout.isatty()
        if verbose():
            self.seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first_epoch, self._start = trainer.current_epoch, time.perf_counter()
        data = trainer.datamodule  # type: ignore[attr-defined]
        weights = sum(p.numel() for p in pl_module.parameters())
        others = f" and {trainer.world_size - 1} more" if trainer.world_size > 1 else ""
        say(
            f"  {weights:,} weights; {data.count('train'):,} training, {data.count('val'):,} validation and "
            f"{data.count('test'):,} test images of {len(data.classes)} classes; on {pl_module.device}{others}"
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if not self._live or now - self._shown < LIVE_SECONDS:
            return
        self._shown = now
        share = (batch_idx + 1) / trainer.num_training_batches
        left = (now - self._epoch_start) * (1 / share - 1)
        line = f"  epoch {self._epoch(trainer)}  {share:4.0%}  {left:.0f} s left in it"
        say(f"\r{line:<79}", end="")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        now = time.perf_counter()
        if not trainer.is_global_zero or (not last and now - self._printed < self.seconds):
            return
        self._printed = now
        done = trainer.current_epoch + 1 - self._first_epoch
        left = (now - self._start) / done * ((trainer.max_epochs or 0) - trainer.current_epoch - 1)
        images = trainer.train_dataloader.images  # type: ignore[union-attr]
        parts = [f"epoch {self._epoch(trainer)}"]
        for split in ("train", "val"):
            values = {
                k.split("/")[1]: v for k, v in cast("ImageClassifier", pl_module).metrics.items() if k.startswith(split)
            }
            if values:
                parts.append(
                    f"{split} loss {values['loss']:.4f} acc {values['accuracy']:6.2%} recall {values['recall']:6.2%}"
                )
        parts.append(f"{images / (now - self._epoch_start):,.0f} images/s, {duration(left)} left")
        line = " | ".join(parts)
        say(("\r" if self._live else "") + f"  {line}")

    @staticmethod
    def _epoch(trainer: pl.Trainer) -> str:
        width = len(str(trainer.max_epochs))
        return f"{trainer.current_epoch + 1:>{width}}/{trainer.max_epochs}"
