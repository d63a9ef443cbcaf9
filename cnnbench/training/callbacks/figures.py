"""The figures of a run: when they are drawn, and where they go (``figures/`` and TensorBoard)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from cnnbench.training.callbacks.final_figures import epoch_sheets, final_sheets
from cnnbench.training.callbacks.tensorboard import add_png, writer

if TYPE_CHECKING:
    from cnnbench.data import ImageDataModule
    from cnnbench.training.module import ImageClassifier

AUTO = "auto"
# what the figures are called in TensorBoard, below the split
TAGS = {"kernels": "first-layer kernels", "per_class": "recall by class"}


class Figures(Checkpoint):  # a Checkpoint, for Lightning calls those last, when the epoch's matrix is there
    """Draws the confusion matrices of validation and test, predictions, mistakes, recall by class and kernels.

    Args:
        folder: for the PNG files.
        data: whose images are shown.
        every_n_epochs: also draw those of the validation set every so many epochs; 0 only at the end.
        at_epochs: and after these, counted from 1. ``auto`` is the first, each power of two and the last, in
            TensorBoard alone, where a slider goes through them.
        pictures: whether there is more than confusion matrices.
    """

    def __init__(
        self,
        folder: Path,
        data: ImageDataModule,
        every_n_epochs: int = 0,
        at_epochs: Sequence[int] | str = (),
        pictures: bool = True,
    ) -> None:
        self.folder, self.data = Path(folder), data
        self.every_n_epochs, self.at_epochs, self.pictures = every_n_epochs, at_epochs, pictures

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, auto = trainer.current_epoch + 1, self.at_epochs == AUTO
        asked = bool(self.every_n_epochs and epoch % self.every_n_epochs == 0) or (not auto and epoch in self.at_epochs)
        watched = auto and (epoch & (epoch - 1) == 0 or epoch == trainer.max_epochs) and writer(trainer) is not None
        if not trainer.is_global_zero or not (asked or watched):
            return
        for name, sheet in epoch_sheets(cast("ImageClassifier", pl_module), self.data, epoch, self.pictures).items():
            file = f"{name}_val_epoch{epoch:04d}.png" if asked else None
            self._show(trainer, f"validation/{TAGS.get(name, name)}", sheet, file, epoch)

    def finish(self, trainer: pl.Trainer, classifier: ImageClassifier, matrices: dict[str, Tensor]) -> None:
        """Draw the final figures; called once the test set has been evaluated.

        Args:
            matrices: the final confusions by split (val, test).
        """
        if not trainer.is_global_zero:
            return
        from cnnbench.training.figures import confusion_sheet

        epoch = trainer.current_epoch
        for split, title in (("val", "Validation set"), ("test", "Test set")):
            if split in matrices:
                sheet = confusion_sheet(matrices[split].numpy(), self.data.classes, title)
                self._show(trainer, None, sheet, f"confusion_{split}.png", epoch)
        if writer(trainer) is not None:  # which shows pictures small: one panel can be read
            sheet = confusion_sheet(matrices["test"].numpy(), self.data.classes, title, counts=False)
            self._show(trainer, "test/confusion", sheet, None, epoch)
        if self.pictures:
            for name, sheet in final_sheets(classifier, self.data, matrices["test"]).items():
                self._show(trainer, f"test/{TAGS.get(name, name)}", sheet, f"{name}.png", epoch)

    def _show(self, trainer: pl.Trainer, tag: str | None, sheet: np.ndarray, file: str | None, epoch: int) -> None:
        from PIL import Image

        image, png = Image.fromarray(sheet), io.BytesIO()
        image.save(png, "PNG", compress_level=1)  # the default takes three times as long
        if file is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_bytes(png.getvalue())
        board = writer(trainer)
        if board is not None and tag is not None:
            add_png(board, tag, png.getvalue(), image.size, epoch)
