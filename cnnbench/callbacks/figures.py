"""Confusion matrices as pictures: in ``figures/`` and in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

if TYPE_CHECKING:
    from cnnbench.classifier import ImageClassifier


class ConfusionFigures(Checkpoint):  # a Checkpoint, for Lightning calls those last, when the epoch's matrix is there
    """Draws the confusion matrix (counts and row-normalised) of validation and test when they are known.

    Args:
        folder: for the PNG files.
        classes: names in the order of the labels.
        every_n_epochs: also draw the validation matrix every so many epochs; 0 only at the end.
        at_epochs: and after these, counted from 1.
    """

    def __init__(
        self, folder: Path, classes: list[str], every_n_epochs: int = 0, at_epochs: Sequence[int] = ()
    ) -> None:
        self.folder, self.classes = Path(folder), classes
        self.every_n_epochs, self.at_epochs = every_n_epochs, at_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        matrix = cast("ImageClassifier", pl_module).confusion.get("val")
        if matrix is not None and (
            (self.every_n_epochs and epoch % self.every_n_epochs == 0) or epoch in self.at_epochs
        ):
            tag, file = f"confusion by epoch/epoch {epoch:04d}", f"confusion_val_epoch{epoch:04d}.png"
            self._draw(trainer, tag, matrix, file, trainer.global_step)

    def finish(self, trainer: pl.Trainer, matrices: dict[str, Tensor]) -> None:
        """Draw the final matrices by split; called once the test set has been evaluated."""
        for split, matrix in matrices.items():
            self._draw(trainer, f"confusion/{split}", matrix, f"confusion_{split}.png", trainer.global_step)

    def _draw(self, trainer: pl.Trainer, tag: str, matrix: Tensor, file: str, step: int) -> None:
        if not trainer.is_global_zero:
            return
        from PIL import Image

        from cnnbench.figures import confusion_sheet

        image = confusion_sheet(matrix.numpy(), self.classes, title=tag)
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(self.folder / file, compress_level=1)  # the default takes three times as long
        writer: Any = getattr(trainer.logger, "experiment", None)
        if hasattr(writer, "add_image"):
            writer.add_image(tag, image, step, dataformats="HWC")
