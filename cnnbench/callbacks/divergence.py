"""A run whose loss is no longer a number has nothing more to learn: it ends as ``diverged``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl

if TYPE_CHECKING:
    from cnnbench.classifier import ImageClassifier


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""


class StopWhenDiverged(pl.Callback):
    """Raises Diverged at the first Lightning step (on a GPU: epoch) after which the training loss is not finite."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        # reading a number makes a GPU wait, so there it is done once an epoch
        if pl_module.device.type != "cpu" and not trainer.is_last_batch:
            return
        if not math.isfinite(cast("ImageClassifier", pl_module).training_loss()):
            raise Diverged(
                f"the training loss is not finite in epoch {trainer.current_epoch}, step {trainer.global_step}"
            )
