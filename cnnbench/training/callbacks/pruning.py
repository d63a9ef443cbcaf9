"""Ends a run of a search that has fallen behind the others: Optuna's pruner decides, from the study that all runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from cnnbench.training.pruner import load_trial
from cnnbench.utils.signals import Stopped

if TYPE_CHECKING:
    from cnnbench.training.module import ImageClassifier


class Pruned(Stopped):
    """The search ended the run. The record's error has this class's name, by which reports know such runs."""


class Pruning(Checkpoint):  # a Checkpoint, for Lightning calls those last, when the epoch's metrics are complete
    """Reports the objective after each epoch to the run's trial, and ends the run where the trial should be pruned.

    Args:
        objective: the metric of the search.
        epochs: that the run trains; after the last it is not ended.
        number, storage, pruner, startup_trials: of the trial and its study, as ``load_trial`` has them.
    """

    def __init__(self, objective: str, epochs: int, **trial: Any) -> None:
        self.objective, self.epochs = objective, epochs
        self.trial = load_trial(epochs=epochs, **trial)
        self.is_behind = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        if trainer.is_global_zero and self.trial is not None:
            self.trial.report(cast("ImageClassifier", pl_module).metrics[self.objective], epoch)
            self.is_behind = epoch + 1 < self.epochs and self.trial.should_prune()
        if trainer.world_size > 1:
            self.is_behind = trainer.strategy.broadcast(self.is_behind)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_behind:
            raise Pruned(f"ended by the search in epoch {trainer.current_epoch}: it had fallen behind")
