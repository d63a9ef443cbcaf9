"""What only TensorBoard shows: charts of several tags, the network's graph, recall by class, hparams. Its steps are
epochs, counted from 1, so that runs with other batch sizes can be compared."""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from cnnbench.config.overrides import parse_override
from cnnbench.config.settings import SEED, ignored, settings_of, show
from cnnbench.data import ImageDataModule
from cnnbench.training.callbacks.history import tag
from cnnbench.training.loggers import finish, keep_ids, send_files
from cnnbench.training.metrics import recall_per_class
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.console import escape
from cnnbench.utils.record import Record

log = logging.getLogger(__name__)

BY_CLASS = "recall by class"
MAX_CLASSES = 20  # up to which each has a curve of its own: more are no help to anybody


def summary_writer(trainer: pl.Trainer) -> SummaryWriter | None:
    """TensorBoard's writer of this run; None where it has none, or in a process that does not write."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return next((one.experiment for one in loggers if isinstance(one, TensorBoardLogger)), None)


class TensorBoardCallback(pl.callbacks.Checkpoint):  # Lightning calls those last, when the epoch's matrix is there
    """Sends the charts' layout and the graph once, and the validation recall of each class after each epoch."""

    def __init__(self, data: ImageDataModule) -> None:
        self.data, self.classes = data.prepared, data.classes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            keep_ids(trainer.loggers, Path(trainer.default_root_dir))
        writer = summary_writer(trainer)
        if writer is None or trainer.global_step:  # a resumed run has sent them
            return
        group = trainer.optimizers[0].param_groups[0]
        classifier = cast(ImageClassifier, pl_module)
        network, momentum = classifier.network, "momentum" in group or "betas" in group
        writer.add_custom_scalars(layout(self.classes, momentum, classifier.more_metrics))
        image = torch.zeros(1, self.data.channels, self.data.image_size, self.data.image_size)
        try:  # the writer prints what fails, and traces with TorchScript, which torch has deprecated
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                writer.add_graph(network, image.to(next(network.parameters())))
        except Exception as error:  # a network need not be traceable to be trained
            log.info("TensorBoard shows no graph: %s", error)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero:
            finish(trainer.loggers, "failed")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        writer = summary_writer(trainer)
        matrix = cast(ImageClassifier, pl_module).confusion.get("val")
        if writer is None or matrix is None or len(self.classes) > MAX_CLASSES:
            return
        for name, recall in zip(self.classes, recall_per_class(matrix).tolist(), strict=True):
            if recall == recall:  # NaN is of a class without images
                writer.add_scalar(f"{BY_CLASS}/{escape(name)}", recall, trainer.current_epoch + 1)


def layout(classes: Sequence[str], momentum: bool, more_metrics: Sequence[str]) -> dict[str, dict[str, list[object]]]:
    """The charts of the CUSTOM SCALARS tab; a chart names its tags by regular expressions."""
    metrics = ("accuracy", "loss", "recall", *more_metrics)
    lines = {"training and validation": {name: [f"^{name}/train$", f"^{name}/val$"] for name in metrics}}
    if len(classes) <= MAX_CLASSES:
        lines["classes"] = {f"{BY_CLASS}, validation": [f"^{BY_CLASS}/"]}
    lines["optimizer"] = {"learning rate": ["^optimizer/lr$"]}
    if momentum:
        lines["optimizer"]["momentum"] = ["^optimizer/momentum$"]
    return {title: {name: ["Multiline", tags] for name, tags in charts.items()} for title, charts in lines.items()}


def log_hparams(trainer: pl.Trainer, record: Record) -> None:
    """The end of all loggers: one hparams entry, so that TensorBoard's HPARAMS tab and the tables of others compare the
    runs of a sweep: the overrides, the optimizer and its learning rate, and the final metrics that one compares."""
    if not trainer.loggers:
        return
    settings = settings_of(record["config"], record["choices"], record["overrides"])
    settings["optimizer.lr"] = (record["lr_finder"] or settings).get("lr", settings.get("optimizer.lr"))
    overridden = [parse_override(text)[0] for text in record["overrides"]]
    keys = [key for key in dict.fromkeys(("optimizer", *overridden, "optimizer.lr")) if not ignored(key)]
    values = {key: show(settings[key]) if isinstance(settings[key], list) else settings[key]
              for key in (*keys, SEED) if settings.get(key) is not None}  # fmt: skip
    objective = record["protocol"]["objective"]
    tests = dict.fromkeys(("test/accuracy", "test/recall", *(n for n in record["metrics"] if n.startswith("test/"))))
    metrics = {tag(name): record["metrics"][name] for name in tests}
    metrics[f"{tag(objective)} (best)"] = record["best"][objective]
    others = {name.replace(" (best)", "/best"): value for name, value in metrics.items()}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(values, metrics, trainer.current_epoch)
        else:
            logger.log_metrics(others, trainer.current_epoch)
            logger.log_hyperparams(values)
    send_files(trainer.loggers, Path(trainer.default_root_dir))
    finish(trainer.loggers, "success")
