"""What ends a run before its last epoch: no more improvement, a loss that has diverged, or a search that prunes it."""

import math
from typing import Any, cast

import lightning.pytorch as pl

from cnnbench.training.losses import guessing_losses
from cnnbench.training.metrics import metric_mode
from cnnbench.training.module import ImageClassifier
from cnnbench.training.pruner import load_trial
from cnnbench.utils.signals import Stopped

AT_CHANCE = 0.02  # relative distance from the loss of guessing that counts as being there


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Ends training once the objective has not improved by more than ``min_delta`` for ``patience`` epochs."""

    def __init__(self, objective: str, patience: int = 10, min_delta: float = 0.0) -> None:
        super().__init__(objective, min_delta, patience, mode=metric_mode(objective), check_on_train_epoch_end=True)


class Diverged(RuntimeError):
    """The loss is such that more training cannot help; ``epoch`` counts from 0, ``step`` is optimizer steps done."""

    def __init__(self, reason: str, epoch: int, step: int) -> None:
        super().__init__(f"{reason} in epoch {epoch + 1}, step {step}")
        self.epoch, self.step = epoch, step


class StopWhenDiverged(pl.callbacks.Checkpoint):  # Lightning calls those last, when the epoch's metrics are complete
    """Raises Diverged at the first Lightning step (on a GPU: epoch) after which the training loss is not finite, at an
    epoch with a validation loss that is not, and after ``epochs`` in a row with a training loss ``above`` so many times
    that of guessing, which is ln(classes) of cross-entropy, or, with ``at_chance``, at that of guessing."""

    def __init__(self, above: float | None = None, epochs: int = 5, at_chance: bool = False) -> None:
        self.above, self.epochs, self.at_chance = above, epochs, at_chance
        self.lost = 0  # epochs in a row so far

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        is_read = pl_module.device.type == "cpu" or trainer.is_last_batch  # reading a number makes a GPU wait
        if is_read and not math.isfinite(cast(ImageClassifier, pl_module).meters["train"].loss()):
            raise Diverged("the training loss is not finite", trainer.current_epoch, trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        classifier, at = cast(ImageClassifier, pl_module), (trainer.current_epoch, trainer.global_step)
        if not math.isfinite(classifier.metrics.get("val/loss", 0.0)):
            raise Diverged("the validation loss is not finite", *at)
        loss = classifier.metrics["train/loss"]
        guessing, untrained = guessing_losses(classifier.train_loss, classifier.num_classes)
        too_high = self.above is not None and loss > self.above * untrained
        stuck = self.at_chance and abs(loss - guessing) <= AT_CHANCE * guessing
        self.lost = self.lost + 1 if too_high or stuck else 0
        if self.lost >= self.epochs:
            relation = f"{'far above' if too_high else 'that of'} guessing ({untrained if too_high else guessing:.4g})"
            raise Diverged(f"the training loss is {loss:.4g}, {relation}, for {self.lost} epochs", *at)

    def state_dict(self) -> dict[str, Any]:
        return {"lost": self.lost}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lost = state_dict["lost"]


class Pruned(Stopped):
    """The search ended the run; reports know such runs by this name in their record's error."""


class Pruning(pl.callbacks.Checkpoint):
    """Reports the objective after each epoch to the run's Optuna trial (see ``load_trial``), and ends the run where the
    trial should be pruned, but not after the last of its ``epochs``."""

    def __init__(self, objective: str, epochs: int, **trial: Any) -> None:
        self.objective, self.epochs, self.is_behind = objective, epochs, False
        self.trial = load_trial(epochs=epochs, **trial)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        if trainer.is_global_zero and self.trial is not None:
            self.trial.report(cast(ImageClassifier, pl_module).metrics[self.objective], epoch)
            self.is_behind = epoch + 1 < self.epochs and self.trial.should_prune()
        self.is_behind = trainer.strategy.broadcast(self.is_behind)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_behind:
            raise Pruned(f"ended by the search in epoch {trainer.current_epoch}: it had fallen behind")
