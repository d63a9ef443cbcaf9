"""``checkpoints/last.ckpt`` after every epoch, and ``best.ckpt`` where the objective was best."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from torch import Tensor

from cnnbench.training.checkpoint_io import BEST, LAST, link, read
from cnnbench.training.metrics import metric_mode
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.torch_files import DamagedFileError


class BestAndLast(pl.callbacks.Checkpoint):
    """Keeps the newest checkpoint, the one before it, and the one with the best objective; of equal ones, which a small
    validation set gives often, the one with the lowest loss."""

    def __init__(self, folder: Path, objective: str) -> None:
        self.folder, self.objective = Path(folder), objective
        self.best: dict[str, float] = {}  # epoch and metrics where the objective was best
        self.best_confusion: dict[str, Tensor] = {}  # by split, of that epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        classifier = cast(ImageClassifier, pl_module)
        better = not self.best or self._score(classifier.metrics) > self._score(self.best)
        if better:
            shown = {name: number for name, number in classifier.metrics.items() if not name.startswith("test/")}
            self.best, self.best_confusion = {"epoch": trainer.current_epoch, **shown}, dict(classifier.confusion)
        # the best one first: a kill between the two leaves one that is newer than last.ckpt, never one that is missing
        self.save(trainer, BEST if better else LAST)
        if better and trainer.is_global_zero:
            link(self.folder / BEST, self.folder / LAST)

    def save(self, trainer: pl.Trainer, name: str = LAST) -> None:
        """Write a checkpoint; all that was sent to the logger so far is on disk before it."""
        for logger in trainer.loggers:
            if flush := getattr(getattr(logger, "experiment", None), "flush", None):
                flush()
        trainer.save_checkpoint(self.folder / name)

    def best_weights(self) -> dict[str, Tensor]:
        """The state of the classifier where the objective was best; raises RuntimeError where ``best.ckpt`` is damaged,
        missing, or of another epoch than ``best`` says."""
        path = self.folder / BEST
        try:
            checkpoint = read(path)
            if (epoch := checkpoint["epoch"]) != (best := self.best["epoch"]):
                raise DamagedFileError(f"{path} is of epoch {epoch}, the best was {best:.0f}")
        except (FileNotFoundError, DamagedFileError) as error:
            raise RuntimeError(f"{error}: delete {self.folder} to start again") from error
        return checkpoint["state_dict"]

    def _score(self, metrics: dict[str, float]) -> tuple[float, float]:
        """Higher is better: by the objective, then by the loss on the same split; a NaN is worse than any number."""
        split = self.objective.split("/")[0]
        value = metrics[self.objective] * (1 if metric_mode(self.objective) == "max" else -1)
        return (-math.inf if math.isnan(value) else value), -metrics[f"{split}/loss"]

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_confusion": self.best_confusion}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # a run that goes on from an older checkpoint may have been further, and best.ckpt is from there
        with suppress(FileNotFoundError, DamagedFileError):
            newer = read(self.folder / BEST)
            if newer["epoch"] > state_dict["best"].get("epoch", -1):
                state_dict = newer["callbacks"][self.state_key]
        self.best, self.best_confusion = dict(state_dict["best"]), dict(state_dict["best_confusion"])
