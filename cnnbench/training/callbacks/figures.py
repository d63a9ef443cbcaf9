"""The figures of a run: which are drawn when, and where they go (``figures/`` and TensorBoard)."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.tensorboard import SummaryWriter

from cnnbench.data import ImageDataModule
from cnnbench.data.augment import Normalize
from cnnbench.data.views import over_views
from cnnbench.training import grad_cam
from cnnbench.training.callbacks.tensorboard import summary_writer
from cnnbench.training.figures import Predictions, confusion_picture, kernel_sheet, prediction_sheet, recall_bars
from cnnbench.training.metrics import recall_per_class
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.console import escape

AUTO = "auto"
TAGS = {"kernels": "first-layer kernels", "per_class": "recall by class"}  # in TensorBoard, below the split
SHOWN, SHOWN_IN_EPOCH = 40, 10  # first test images with their predictions; validation images after an epoch
MISTAKES = 20  # test images that are predicted wrong: those that the network is surest of
THUMBNAIL = 32  # pixels of a side, at most, in TensorBoard's PROJECTOR
COLUMNS = 5  # of these: TensorBoard shows a picture small
Pictures = dict[str, np.ndarray]  # by name: uint8 (H, W, 3)


class Figures(pl.callbacks.Checkpoint):  # Lightning calls Checkpoints last, when the epoch's confusion matrix is there
    """Draws confusion matrices, predictions, mistakes, recall by class and kernels, at the end and after epochs that
    ``conf/callbacks/default.yaml`` explains; TensorBoard has a slider that goes through them."""

    def __init__(
        self, folder: Path, data: ImageDataModule, every_n_epochs: int = 0, at_epochs: Sequence[int] | str = (),
        pictures: bool = False, explain: str = "none", projector: int = 0,
    ) -> None:  # fmt: skip
        self.folder, self.data, self.explain, self.projector = folder, data, explain, projector
        self.every_n_epochs, self.at_epochs, self.pictures = every_n_epochs, at_epochs, pictures

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, auto = trainer.current_epoch + 1, self.at_epochs == AUTO
        is_power_of_two = epoch & (epoch - 1) == 0
        chosen = (is_power_of_two or epoch == trainer.max_epochs) if auto else epoch in self.at_epochs
        to_file = bool(self.every_n_epochs and epoch % self.every_n_epochs == 0) or (chosen and not auto)
        if trainer.is_global_zero and (to_file or (chosen and summary_writer(trainer) is not None)):
            pictures = self._of_epoch(cast(ImageClassifier, pl_module), epoch)
            if to_file:
                self._save({f"{name}_val_epoch{epoch:04d}": picture for name, picture in pictures.items()})
            send(trainer, pictures, "validation", epoch)

    def finish(self, trainer: pl.Trainer, classifier: ImageClassifier, matrices: dict[str, Tensor]) -> None:
        """Draw the final figures, after the test; rank 0 alone calls it, with the confusion matrices by split."""
        classes, titles = self.data.classes, {"val": "Validation set", "test": "Test set"}
        for split, matrix in matrices.items():
            self._save({f"confusion_{split}": confusion_picture(matrix.numpy(), classes, titles[split])})
        pictures = self._of_test(classifier, matrices["test"]) if self.pictures else {}
        self._save(pictures)
        if (writer := summary_writer(trainer)) is not None:  # which shows pictures small: one panel can be read
            one_panel = confusion_picture(matrices["test"].numpy(), classes, titles["test"], counts=False)
            send(trainer, {"confusion": one_panel, **pictures}, "test", trainer.current_epoch)
            if self.projector:
                send_features(writer, classifier, self.data, self.projector, trainer.current_epoch)

    def _of_epoch(self, classifier: ImageClassifier, epoch: int) -> Pictures:
        """The validation confusions and, with ``pictures``, some predictions and the first kernels."""
        drawn, matrix, classes = {}, classifier.confusion.get("val"), self.data.classes
        if matrix is not None:
            title = f"Validation set after epoch {epoch}"
            drawn["confusion"] = confusion_picture(matrix.numpy(), classes, title, counts=False)
            if self.pictures:
                rows = np.arange(min(SHOWN_IN_EPOCH, self.data.count("val")))
                title = f"First images of the validation set after epoch {epoch}"
                shown = predict(classifier, self.data, "val", rows)
                drawn["predictions"] = prediction_sheet(shown, classes, title, COLUMNS)
        return drawn | (_kernels(classifier) if self.pictures else {})

    def _of_test(self, classifier: ImageClassifier, matrix: Tensor) -> Pictures:
        """The first test images, the surest mistakes, recall by class and the first kernels."""
        data, count, classes = self.data, self.data.count("test"), self.data.classes
        first = predict(classifier, data, "test", np.arange(min(SHOWN, count)))
        drawn = {"predictions": prediction_sheet(first, classes, "First test images")}
        wrong = np.flatnonzero(classifier.test_predictions.numpy() != data.labels("test"))
        if len(wrong):
            mistakes = predict(classifier, data, "test", wrong)
            order = np.argsort(-mistakes.confidence, kind="stable")[:MISTAKES]
            surest = Predictions(*(values[order] for values in mistakes))
            title = f"The surest of {len(wrong):,} mistakes on {count:,} test images"
            if self.explain != "none":
                normalize, guess = Normalize(*data.statistics()), surest.predictions.tolist()
                images = grad_cam.side_by_side(classifier.network, normalize, surest.images, guess)
                surest, title = surest._replace(images=images), f"{title}, {grad_cam.TITLE}"
            drawn["mistakes"] = prediction_sheet(surest, classes, title, COLUMNS)
        recalls = recall_per_class(matrix).tolist()
        drawn["per_class"] = recall_bars(recalls, classes, "Recall by class on the test set")
        return drawn | _kernels(classifier)

    def _save(self, pictures: Pictures) -> None:
        for name, picture in pictures.items():
            self.folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(self.folder / f"{name}.png", compress_level=1)  # the default is slow


def send(trainer: pl.Trainer, pictures: Pictures, section: str, epoch: int) -> None:
    """Show the pictures in TensorBoard, if the run has it, below ``section``."""
    if (writer := summary_writer(trainer)) is not None:
        for name, picture in pictures.items():
            writer.add_image(f"{section}/{TAGS.get(name, name)}", picture, epoch, dataformats="HWC")


def predict(classifier: ImageClassifier, data: ImageDataModule, split: str, rows: np.ndarray) -> Predictions:
    """Predictions of the images of ``split`` in ``rows``."""
    parts = np.array_split(rows, max(-(-len(rows) // data.eval_batch_size), 1))
    kind = classifier.test_views if split == "test" else "none"
    black = Normalize(*data.statistics()).shift
    logits = torch.cat([over_views(classifier.predict_logits, data.batch(split, part), kind, black) for part in parts])
    best = logits.softmax(dim=1).cpu().max(dim=1)
    return Predictions(data.raw(split, rows), data.labels(split)[rows], best.indices.numpy(), best.values.numpy())


def _kernels(classifier: ImageClassifier) -> Pictures:
    first = next((module for module in classifier.network.modules() if isinstance(module, nn.Conv2d)), None)
    return {} if first is None else {"kernels": kernel_sheet(first.weight.detach().float().cpu().numpy())}


def last_linear(network: nn.Module) -> nn.Linear | None:
    """The linear layer that is registered last, whose input are the features; None where there is none."""
    return next((part for part in reversed([*network.modules()]) if isinstance(part, nn.Linear)), None)


def send_features(writer: SummaryWriter, model: ImageClassifier, data: ImageDataModule, most: int, epoch: int) -> None:
    """Send the features of at most so many test images, evenly spaced, with classes, predictions and thumbnails."""
    layer, seen, count = last_linear(model.network), list[Tensor](), data.count("test")
    assert layer is not None  # as the preflight has found
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))
    with layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(1).float().cpu())):
        for part in np.array_split(rows, -(-len(rows) // data.eval_batch_size)):
            model.predict_logits(data.batch("test", part))
    images = torch.from_numpy(data.raw("test", rows)).permute(0, 3, 1, 2).float() / 255
    size = [min(data.prepared.image_size, THUMBNAIL)] * 2
    names = np.array([escape(name) for name in data.classes])
    columns = names[data.labels("test")[rows]], names[model.test_predictions.numpy()[rows]]
    metadata = [list(pair) for pair in zip(*columns, strict=True)]
    thumbnails = interpolate(images, size, mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
    writer.add_embedding(torch.cat(seen), metadata, thumbnails, epoch, "test", metadata_header=["class", "prediction"])
