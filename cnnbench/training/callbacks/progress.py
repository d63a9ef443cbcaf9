"""Progress for people: a line an epoch, and on a terminal a live line within it."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl

from cnnbench.utils.console import duration, is_quiet, is_verbose, print_info

if TYPE_CHECKING:
    from cnnbench.training.module import ImageClassifier

LIVE_SECONDS = 0.2  # between two updates of the live line
READ_SECONDS = 5.0  # between two looks at the loss on a GPU, for a look waits until all that it has to do is done


class Progress(pl.callbacks.Checkpoint):  # called last, like History, when the epoch's metrics are complete
    """Prints loss, accuracy, recall, speed and the time left.

    Args:
        seconds: at most one line in this time, and always one for the last epoch; 0 prints every epoch.
        minutes: between two lines within an epoch, where there is no live line; None prints none.
    """

    def __init__(self, seconds: float = 2.0, minutes: float | None = 1.0) -> None:
        self.seconds, self.minutes = seconds, minutes
        self._shown = self._printed = self._read = 0.0
        self._live = sys.stdout.isatty()
        self._open = False  # whether the cursor stands behind the live line
        if is_verbose():
            self.seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first_epoch, self._start = trainer.current_epoch, time.perf_counter()
        data = trainer.datamodule  # type: ignore[attr-defined]
        weights = sum(p.numel() for p in pl_module.parameters())
        others = f" and {trainer.world_size - 1} more" if trainer.world_size > 1 else ""
        print_info(
            f"  {weights:,} weights; {data.count('train'):,} training, {data.count('val'):,} validation and "
            f"{data.count('test'):,} test images of {len(data.classes)} classes; on {pl_module.device}{others}"
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start, self._quality = time.perf_counter(), ""
        self._first_batch: int | None = None  # above 0 in an epoch that is gone on with

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._first_batch is None:
            self._first_batch = batch_idx
        if is_quiet() or not trainer.is_global_zero or not self._due():
            return
        self._shown = now = time.perf_counter()
        took, done = now - self._epoch_start, batch_idx + 1 - self._first_batch
        batches, images = int(trainer.num_training_batches), trainer.train_dataloader.images  # type: ignore[union-attr]
        parts = [f"  epoch {self._epoch(trainer)}  {(batch_idx + 1) / batches:4.0%}"]
        parts.append(self._running(trainer, cast("ImageClassifier", pl_module)))
        parts.append(f"{images * done / batches / took:,.0f} images/s")
        parts.append(f"{duration(took / done * (batches - batch_idx - 1))} left in it")
        line = "  ".join(part for part in parts if part)
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            line = f"\r{line[:width]:<{min(width, 79)}}"
        self._open = self._live
        print_info(line, end="" if self._live else "\n")

    def _due(self) -> bool:
        """Whether it is time for a line within the epoch."""
        now = time.perf_counter()
        if self._live:
            return now - self._shown >= LIVE_SECONDS
        return self.minutes is not None and now - max(self._shown, self._epoch_start) >= 60 * self.minutes

    def _running(self, trainer: pl.Trainer, classifier: ImageClassifier) -> str:
        """Loss and accuracy of the epoch so far, as last read; nothing of a run on several devices, which would all have
        to ask for them together."""
        now = time.perf_counter()
        if trainer.world_size > 1:
            return ""
        if classifier.device.type == "cpu" or now - self._read >= READ_SECONDS:
            self._read = now
            self._quality = f"loss {classifier.training_loss():.4f} acc {classifier.training_accuracy():6.2%}"
        return self._quality

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._open:  # what is told next begins a line
            print_info("")
            self._open = False

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
        print_info(f"\r  {line:<77}" if self._live else f"  {line}")
        self._open = False

    @staticmethod
    def _epoch(trainer: pl.Trainer) -> str:
        width = len(str(trainer.max_epochs))
        return f"{trainer.current_epoch + 1:>{width}}/{trainer.max_epochs}"
