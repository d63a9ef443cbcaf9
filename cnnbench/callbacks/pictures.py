"""Pictures of a finished run: the first test images with predictions, the surest mistakes, recall by class, kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from cnnbench.classifier import ImageClassifier
    from cnnbench.data import ImageDataModule

FIRST = 40  # test images shown, in the set's order
MISTAKES = 20  # and the wrong ones that the network is surest of
COMPARED = 1024  # test images evaluated on the CPU too, where the run was on another device


def draw_pictures(
    trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule, recall: Tensor, folder: Path
) -> None:
    """Write predictions.png, mistakes.png, per_class.png and, of a network with convolutions, kernels.png.

    Args:
        classifier: right after the test set was evaluated with it.
        recall: of the test set, a value a class.
        folder: for the files; they go to TensorBoard too.
    """
    from PIL import Image

    from cnnbench.figures import kernel_sheet, per_class_sheet, prediction_sheet

    drawn = {
        "predictions": prediction_sheet(
            _predicted(classifier, data, np.arange(min(FIRST, data.count("test")))), data.classes, "First test images"
        )
    }
    wrong = np.flatnonzero(classifier.test_predictions.numpy() != data.test_labels())
    if len(wrong):
        found = _predicted(classifier, data, wrong)
        order = np.argsort(-found.confidence, kind="stable")[:MISTAKES]
        surest = type(found)(*(array[order] for array in vars(found).values()))
        title = f"The surest of {len(wrong):,} mistakes on {data.count('test'):,} test images"
        drawn["mistakes"] = prediction_sheet(surest, data.classes, title)
    drawn["per_class"] = per_class_sheet(recall.tolist(), data.classes, "Recall by class on the test set")
    first = next((module for module in classifier.network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None:
        drawn["kernels"] = kernel_sheet(first.weight.detach().float().cpu().numpy())
    folder.mkdir(parents=True, exist_ok=True)
    writer: Any = getattr(trainer.logger, "experiment", None)
    for name, image in drawn.items():
        Image.fromarray(image).save(folder / f"{name}.png", compress_level=1)
        if hasattr(writer, "add_image"):
            writer.add_image(f"test/{name}", image, trainer.global_step, dataformats="HWC")


def _predicted(classifier: ImageClassifier, data: ImageDataModule, rows: np.ndarray) -> Any:
    """Predictions of the test images in ``rows``."""
    from cnnbench.figures.predictions import Predicted

    confidences, predictions = [], []
    for part in np.array_split(rows, max(-(-len(rows) // data.eval_batch_size), 1)):
        probabilities = _logits(classifier, data.test_batch(part).to(classifier.device)).softmax(dim=1).cpu()
        best = probabilities.max(dim=1)
        confidences.append(best.values.numpy())
        predictions.append(best.indices.numpy())
    raw = data.prepared.arrays["test_images"][rows]
    return Predicted(raw, data.test_labels()[rows], np.concatenate(predictions), np.concatenate(confidences))


def _logits(classifier: ImageClassifier, images: Tensor) -> Tensor:
    classifier.eval()
    with torch.no_grad():
        return classifier.network(images).float()


def agreement(
    classifier: ImageClassifier, data: ImageDataModule, device: torch.device
) -> dict[str, float | int] | None:
    """How far the same evaluation on the CPU differs: the largest difference of a logit, and predictions that differ.

    Args:
        device: that the run was on; where it is the CPU there is nothing to compare, and None is returned.
    """
    if device.type == "cpu":
        return None
    images = data.test_batch(np.arange(min(COMPARED, data.count("test"))))
    there = _logits(classifier.to(device), images.to(device)).cpu()
    here = _logits(classifier.to("cpu"), images)
    return {
        "images": len(images),
        "largest_logit_difference": float((here - there).abs().max()),
        "different_predictions": int((here.argmax(dim=1) != there.argmax(dim=1)).sum()),
    }
