"""``checkpoints/last.ckpt`` after every epoch, and ``best.ckpt`` where the objective was best."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from cnnbench.metrics import metric_mode

if TYPE_CHECKING:
    from cnnbench.classifier import ImageClassifier


class BestAndLast(Checkpoint):
    """Keeps the newest checkpoint and the one with the best objective.

    A small validation set gives equal accuracies often; of those the one with the lowest loss is the best.

    Args:
        folder: for ``best.ckpt`` and ``last.ckpt``.
        objective: a metric's name, such as val/accuracy.
    """

    def __init__(self, folder: Path, objective: str) -> None:
        self.folder, self.objective = Path(folder), objective
        self.mode = metric_mode(objective)
        self.best: dict[str, float] = {}  # epoch and metrics where the objective was best
        self.best_confusion: dict[str, Tensor] = {}  # by split, of that epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics: dict[str, float] = cast("ImageClassifier", pl_module).metrics
        better = not self.best or self._rank(metrics) > self._rank(self.best)
        if better:
            shown = {name: number for name, number in metrics.items() if not name.startswith("test/")}
            self.best = {"epoch": trainer.current_epoch, **shown}
            self.best_confusion = dict(cast("ImageClassifier", pl_module).confusion)
        last = self.folder / "last.ckpt"
        trainer.save_checkpoint(last)  # Lightning writes a temporary file and moves it
        if better and trainer.is_global_zero:
            self._link(last, self.folder / "best.ckpt")

    def _rank(self, metrics: dict[str, float]) -> tuple[float, float]:
        """Higher is better: by the objective, then by the loss on the same split; a NaN is worse than any number."""
        split = self.objective.split("/")[0]
        value = metrics[self.objective] * (1 if self.mode == "max" else -1)
        return (-math.inf if math.isnan(value) else value), -metrics[f"{split}/loss"]

    @staticmethod
    def _link(source: Path, target: Path) -> None:
        """Let ``target`` be what ``source`` is now; no byte is copied, and a later ``last`` is another file."""
        temporary = target.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        os.replace(temporary, target)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_confusion": self.best_confusion}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_confusion = dict(state_dict["best"]), dict(state_dict["best_confusion"])
