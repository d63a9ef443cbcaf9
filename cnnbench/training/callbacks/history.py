"""One row of metrics an epoch: kept for the record, written to metrics.csv, and sent to the logger."""

import csv
import io
import time
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger

from cnnbench.training.module import ImageClassifier
from cnnbench.utils.record import write_atomically


class History(pl.callbacks.Checkpoint):  # Lightning calls Checkpoints last, when the epoch's metrics are complete
    """Collects ``rows`` (epoch, lr, metrics by name) and ``epoch_seconds`` (the training part of each epoch), and
    writes ``metrics.csv`` into the run's folder after each epoch."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / "metrics.csv"
        self.rows: list[dict[str, float]] = []
        self.epoch_seconds: list[float] = []
        self._started = self._trained = self._before = 0.0  # the last: seconds of the epoch in an earlier process

    def columns(self) -> dict[str, list[float]]:
        """The rows as one list a name, as the record has them."""
        names = dict.fromkeys(name for row in self.rows for name in row)  # a resumed run may measure more
        return {name: [row.get(name, float("nan")) for row in self.rows] for name in names}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:  # of a resumed run: this one begins its file again
            for row in self.rows if isinstance(logger, CSVLogger) else ():
                logger.log_metrics(tagged(row), step=int(row["epoch"]) + 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._trained = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epoch_seconds.append(self._before + self._trained - self._started)
        self._before = self._started = self._trained = 0.0
        classifier = cast(ImageClassifier, pl_module)
        lr, momentum = classifier.trained_with
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": lr}
        row.update({k: v for k, v in classifier.metrics.items() if not k.startswith("test/")})
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, [*self.columns()], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue())
        logged = tagged(row)
        if momentum is not None:
            logged["optimizer/momentum"] = float(momentum)
        for logger in trainer.loggers:
            logger.log_metrics(logged, step=trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        running = self._before + self._trained - self._started
        return {"rows": self.rows, "epoch_seconds": self.epoch_seconds, "running_seconds": running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.epoch_seconds = list(state_dict["rows"]), list(state_dict["epoch_seconds"])
        self._before = state_dict["running_seconds"]


def tag(metric: str) -> str:
    """``accuracy/val`` for ``val/accuracy``: TensorBoard groups by what comes first, so splits stand side by side."""
    return "/".join(reversed(metric.split("/")))


def tagged(row: dict[str, float]) -> dict[str, float]:
    """What loggers get of a row."""
    return {tag(name): value for name, value in row.items() if "/" in name} | {"optimizer/lr": row["lr"]}
