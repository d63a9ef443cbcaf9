"""Confusion matrices as pictures: in ``figures/`` and in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
from torch import Tensor

if TYPE_CHECKING:
    from cnnbench.classifier import ImageClassifier


class ConfusionFigures(pl.Callback):
    """Draws the confusion matrix (counts and row-normalised) of validation and test when they are known.

    Args:
        folder: for the PNG files.
        classes: names in the order of the labels.
        every_n_epochs: also draw the validation matrix every so many epochs; 0 only at the end.
    """

    def __init__(self, folder: Path, classes: list[str], every_n_epochs: int = 0) -> None:
        self.folder, self.classes, self.every_n_epochs = Path(folder), classes, every_n_epochs

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # the module's own hook comes after the callbacks', so what it holds is of the epoch before
        epoch = trainer.current_epoch - 1
        if self.every_n_epochs and epoch >= 0 and (epoch + 1) % self.every_n_epochs == 0:
            matrix = cast("ImageClassifier", pl_module).confusion.get("val")
            if matrix is not None:
                tag, file = f"confusion by epoch/epoch {epoch + 1:04d}", f"confusion_val_epoch{epoch + 1:04d}.png"
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
        Image.fromarray(image).save(self.folder / file)
        writer: Any = getattr(trainer.logger, "experiment", None)
        if hasattr(writer, "add_image"):
            writer.add_image(tag, image, step, dataformats="HWC")
