"""Progress for people: a line an epoch, and within it a tqdm bar on a terminal, or a line now and then elsewhere."""

import io
import shutil
import sys
import time
from typing import Any, cast

import lightning.pytorch as pl
import torch
from tqdm import tqdm

from cnnbench.data.loader import BatchLoader
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.console import duration, is_quiet, is_verbose, print_info
from cnnbench.utils.environment import CoreUse, cores

BAR_SECONDS = 0.2  # between two updates of the bar
LOSS_SECONDS = 5.0  # between two looks at the loss on a GPU: a look waits until all that it has to do is done
LINE = "{desc} {percentage:3.0f}%{postfix}, {rate_fmt}, {remaining} left in it"
BAR = LINE.replace("%", "%|{bar}|")


class _Bar(tqdm):
    monitor_interval = 0  # no thread that redraws it


class Progress(pl.callbacks.Checkpoint):  # Lightning calls Checkpoints last, when the epoch's metrics are complete
    """Prints loss, accuracy, recall, speed and the time left: at most one line an epoch in so many seconds, and always
    one for the last; within an epoch a line in so many minutes, or none, where there is no bar."""

    def __init__(self, seconds: float = 2.0, minutes: float | None = 1.0) -> None:
        self.seconds = 0.0 if is_verbose() else seconds
        self._terminal = sys.stdout.isatty()
        self._interval = BAR_SECONDS if self._terminal else None if minutes is None else 60 * minutes
        self._bar = _Bar(disable=True)
        self._shown = self._printed = self._loss_read = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first_epoch, self._start = trainer.current_epoch, time.perf_counter()
        data = trainer.datamodule  # type: ignore[attr-defined]
        weights = sum(p.numel() for p in pl_module.parameters())
        others = f" and {trainer.world_size - 1} more" if trainer.world_size > 1 else ""
        train, val, test = (f"{data.count(split):,}" for split in ("train", "val", "test"))
        images = f"{train} training, {val} validation and {test} test images of {len(data.classes)} classes"
        print_info(f"  {weights:,} weights; {images}; on {pl_module.device}{others}")
        self._bar = _Bar(
            disable=is_quiet() or self._interval is None or not trainer.is_global_zero,
            file=sys.stdout if self._terminal else io.StringIO(), bar_format=BAR if self._terminal else LINE,
            ncols=shutil.get_terminal_size().columns - 1 if self._terminal else None, nrows=24,
            unit=" images", unit_scale=True, leave=False, mininterval=0, miniters=1,
        )  # fmt: skip

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start, self._epoch_began, self._cores = time.perf_counter(), False, CoreUse()
        self._epoch = f"  epoch {trainer.current_epoch + 1:>{len(str(trainer.max_epochs))}}/{trainer.max_epochs}"
        self._bar.set_description_str(self._epoch, refresh=False)
        self._bar.set_postfix_str("", refresh=False)
        self._bar.reset(trainer.train_dataloader.images)  # type: ignore[union-attr]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        bar, now = self._bar, time.perf_counter()
        if bar.disable or self._interval is None:
            return
        images = bar.total / trainer.num_training_batches  # that share a Lightning step
        if not self._epoch_began:  # with a later batch than the first where a run goes on within an epoch
            self._epoch_began = True
            bar.initial = bar.n = bar.last_print_n = round(batch_idx * images)
        if now - max(self._shown, self._epoch_start) < self._interval:
            return
        self._shown = now
        # a loss on several devices would have to be asked for by all of them together
        if trainer.world_size == 1 and (pl_module.device.type == "cpu" or now - self._loss_read >= LOSS_SECONDS):
            self._loss_read = now
            meter = cast(ImageClassifier, pl_module).meters["train"]
            bar.set_postfix_str(f"loss {meter.loss():.4f} acc {meter.accuracy():6.2%}", refresh=False)
        bar.update(round((batch_idx + 1) * images) - bar.n)
        if not self._terminal:
            print_info(str(bar))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        now = time.perf_counter()
        if not trainer.is_global_zero or (not last and now - self._printed < self.seconds):
            return
        self._printed = now
        done = trainer.current_epoch + 1 - self._first_epoch
        left = (now - self._start) / done * ((trainer.max_epochs or 0) - trainer.current_epoch - 1)
        loader = cast(BatchLoader, trainer.train_dataloader)
        metrics, parts = cast(ImageClassifier, pl_module).metrics, [self._epoch]
        for split in ("train", "val"):
            if f"{split}/loss" in metrics:
                loss, accuracy, recall = (metrics[f"{split}/{name}"] for name in ("loss", "accuracy", "recall"))
                parts.append(f"{split} loss {loss:.4f} acc {accuracy:6.2%} recall {recall:6.2%}")
        parts.append(f"{loader.images / (now - self._epoch_start):,.0f} images/s, {duration(left)} left")
        threads, is_alone = torch.get_num_threads(), trainer.world_size == 1 and not loader.workers
        if threads > 1 and is_alone and (others := self._cores.others()) + threads > cores() + 0.5:
            parts.append(f"slowed down by other programs, which keep {others:.1f} of {cores()} cores busy")
        self._bar.clear()
        print_info(" | ".join(parts))

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self._bar.close()

    on_exception = on_train_end
