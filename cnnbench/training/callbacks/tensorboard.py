"""What only TensorBoard can show: the network's graph, charts of several tags, hparams. Its steps are epochs, from 1:
a person knows what epoch 8 is, and batch sizes can be compared."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger

from cnnbench.training.callbacks.network_graph import network_graph
from cnnbench.training.metrics import recall_per_class

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from cnnbench.training.module import ImageClassifier

log = logging.getLogger(__name__)

BY_CLASS = "recall by class"
MOST_CLASSES = 20  # up to which each has a curve of its own: more are no help to anybody, and take room
Layout = dict[str, dict[str, tuple[str, list[str]]]]


def writer(trainer: pl.Trainer) -> SummaryWriter | None:
    """TensorBoard's writer of this run; None where it has none, or in a process that does not write."""
    if not isinstance(trainer.logger, TensorBoardLogger) or not trainer.is_global_zero:
        return None
    return trainer.logger.experiment


def remove_events(folder: Path) -> None:
    """Delete the event files of an attempt that left no checkpoint: the run begins anew, and so do its curves."""
    for path in folder.rglob("events.out.tfevents.*"):
        path.unlink()


def add_png(writer: SummaryWriter, tag: str, png: bytes, size: tuple[int, int], epoch: int) -> None:
    """Send a picture that is a PNG already; ``add_image`` would compress it again, for longer."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=png)
    _send(writer, Summary(value=[Summary.Value(tag=tag, image=image)]), epoch)


def add_hparams(writer: SummaryWriter, values: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """One hparams entry: what the run was set to, and the tags that the HPARAMS tab shows the last value of."""
    from torch.utils.tensorboard.summary import hparams

    shown = {key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in values.items()}
    for summary in hparams(shown, dict.fromkeys(metrics, 0)):
        _send(writer, summary)


def layout(classes: Sequence[str], momentum: bool) -> Layout:
    """The charts of the CUSTOM SCALARS tab; a chart names its tags by regular expressions."""

    def chart(*tags: str) -> tuple[str, list[str]]:
        return "Multiline", [f"^{re.escape(tag)}$" for tag in tags]

    splits = ("train", "val")
    charts = {"training and validation": {name: chart(*(f"{name}/{split}" for split in splits))
                                          for name in ("accuracy", "loss", "recall")}}  # fmt: skip
    if len(classes) <= MOST_CLASSES:
        charts["classes"] = {f"{BY_CLASS}, validation": ("Multiline", [f"^{BY_CLASS}/"])}
    charts["optimizer"] = {"learning rate": chart("optimizer/lr")}
    if momentum:
        charts["optimizer"]["momentum"] = chart("optimizer/momentum")
    return charts


class TensorBoardCallback(Checkpoint):  # a Checkpoint, for Lightning calls those last, when the epoch's matrix is there
    """Sends the graph and the layout once, and the validation recall of each class after each epoch.

    Args:
        classes: names in the order of the labels.
        image: shape (C, H, W) of what the network reads.
    """

    def __init__(self, classes: Sequence[str], image: tuple[int, int, int]) -> None:
        self.classes, self.image = classes, image

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        board = writer(trainer)
        if board is None or trainer.global_step:  # a resumed run has sent them
            return
        group = trainer.optimizers[0].param_groups[0]
        board.add_custom_scalars(layout(self.classes, "momentum" in group or "betas" in group))
        network = cast("ImageClassifier", pl_module).network
        weight = next(network.parameters())
        try:
            graph = network_graph(network, torch.zeros(1, *self.image, dtype=weight.dtype, device=weight.device))
        except Exception as error:  # a network need not be traceable to be trained
            log.info("TensorBoard shows no graph: %s", error)
            return
        from tensorboard.compat.proto.event_pb2 import Event

        board._get_file_writer().add_event(Event(graph_def=graph.SerializeToString()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        board = writer(trainer)
        matrix = cast("ImageClassifier", pl_module).confusion.get("val")
        if board is None or matrix is None or len(self.classes) > MOST_CLASSES:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        recalls = zip(self.classes, recall_per_class(matrix).tolist(), strict=True)
        values = [
            Summary.Value(tag=f"{BY_CLASS}/{name}", simple_value=recall) for name, recall in recalls if recall == recall
        ]  # NaN is of a class without images
        _send(board, Summary(value=values), trainer.current_epoch + 1)  # one event, not one a class


def _send(writer: SummaryWriter, summary: Any, epoch: int | None = None) -> None:
    writer._get_file_writer().add_summary(summary, epoch)
