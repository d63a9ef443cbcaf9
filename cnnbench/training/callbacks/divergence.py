"""A run that has nothing more to learn ends as ``diverged``: its loss is no number, or far above guessing for long."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

if TYPE_CHECKING:
    from cnnbench.training.module import ImageClassifier

AT_CHANCE = 0.02  # relative distance from the loss of guessing that counts as being there


class Diverged(RuntimeError):
    """Training has failed in a way that more of it cannot mend.

    Args:
        what: is wrong with the loss.
        epoch: counted from 0; step: optimizer steps done.
    """

    def __init__(self, what: str, epoch: int, step: int) -> None:
        super().__init__(f"{what} in epoch {epoch + 1}, step {step}")
        self.epoch, self.step = epoch, step


class StopWhenDiverged(
    Checkpoint
):  # a Checkpoint, for Lightning calls those last, when the epoch's metrics are complete
    """Raises Diverged at the first Lightning step (on a GPU: epoch) after which the training loss is not finite, at an
    epoch with a validation loss that is not, and after ``epochs`` in a row with a training loss that is far too high.

    Args:
        above: how many times the loss of guessing, ln(classes), is far too high; None never ends a run for that.
        epochs: in a row.
        at_chance: whether epochs that stay at the loss of guessing, within 2 %, count too.
    """

    def __init__(self, above: float | None = None, epochs: int = 5, at_chance: bool = False) -> None:
        self.above, self.epochs, self.at_chance = above, epochs, at_chance
        self.lost = 0  # epochs in a row so far

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        # reading a number makes a GPU wait, so there it is done once an epoch
        if pl_module.device.type != "cpu" and not trainer.is_last_batch:
            return
        if not math.isfinite(cast("ImageClassifier", pl_module).training_loss()):
            raise Diverged("the training loss is not finite", trainer.current_epoch, trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        classifier = cast("ImageClassifier", pl_module)
        if not math.isfinite(classifier.metrics.get("val/loss", 0.0)):
            raise Diverged("the validation loss is not finite", trainer.current_epoch, trainer.global_step)
        loss, guessing = classifier.metrics["train/loss"], math.log(classifier.num_classes)
        too_high = self.above is not None and loss > self.above * guessing
        stuck = self.at_chance and abs(loss - guessing) <= AT_CHANCE * guessing
        self.lost = self.lost + 1 if too_high or stuck else 0
        if self.lost >= self.epochs:
            told = "far above" if too_high else "that of"
            raise Diverged(
                f"the training loss is {loss:.4g}, {told} guessing ({guessing:.4g}), for {self.lost} epochs",
                trainer.current_epoch,
                trainer.global_step,
            )

    def state_dict(self) -> dict[str, Any]:
        return {"lost": self.lost}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lost = state_dict["lost"]
