"""What a network sees and says, as sheets: images with predictions, mistakes, recall by class, kernels, confusions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.models.profile import eval_mode
from cnnbench.training.metrics import recall_per_class

if TYPE_CHECKING:
    from cnnbench.data import ImageDataModule
    from cnnbench.training.module import ImageClassifier

FIRST = 40  # test images shown, in the set's order
FIRST_OF_EPOCH = 10  # validation images shown after an epoch
MISTAKES = 20  # test images that are predicted wrong: those that the network is surest of
COLUMNS = 5  # of these: TensorBoard shows a picture small
COMPARED = 1024  # test images evaluated on the CPU too, where the run was on another device
Sheets = dict[str, np.ndarray]  # by name: uint8 (H, W, 3)


def epoch_sheets(classifier: ImageClassifier, data: ImageDataModule, epoch: int, pictures: bool) -> Sheets:
    """After an epoch: the validation confusions and, with ``pictures``, some predictions and the first kernels."""
    from cnnbench.training.figures import confusion_sheet, prediction_sheet

    drawn = {}
    after = f"validation set after epoch {epoch}"
    if "val" in classifier.confusion:
        drawn["confusion"] = confusion_sheet(
            classifier.confusion["val"].numpy(), data.classes, f"{after[0].upper()}{after[1:]}", counts=False
        )
    if pictures:
        if "val" in classifier.confusion:
            shown = _predicted(classifier, data, "val", np.arange(min(FIRST_OF_EPOCH, data.count("val"))))
            drawn["predictions"] = prediction_sheet(shown, data.classes, f"First images of the {after}", COLUMNS)
        drawn |= _kernels(classifier)
    return drawn


def final_sheets(classifier: ImageClassifier, data: ImageDataModule, matrix: Tensor) -> Sheets:
    """Of a finished run: the first test images, the surest mistakes, recall by class and the first kernels.

    Args:
        classifier: right after the test set was evaluated with it.
        matrix: confusions on the test set.
    """
    from cnnbench.training.figures import per_class_sheet, prediction_sheet

    first = _predicted(classifier, data, "test", np.arange(min(FIRST, data.count("test"))))
    drawn = {"predictions": prediction_sheet(first, data.classes, "First test images")}
    wrong = np.flatnonzero(classifier.test_predictions.numpy() != data.labels("test"))
    if len(wrong):
        found = _predicted(classifier, data, "test", wrong)
        order = np.argsort(-found.confidence, kind="stable")[:MISTAKES]
        surest = type(found)(*(array[order] for array in vars(found).values()))
        title = f"The surest of {len(wrong):,} mistakes on {data.count('test'):,} test images"
        drawn["mistakes"] = prediction_sheet(surest, data.classes, title, COLUMNS)
    drawn["per_class"] = per_class_sheet(
        recall_per_class(matrix).tolist(), data.classes, "Recall by class on the test set"
    )
    return drawn | _kernels(classifier)


def _kernels(classifier: ImageClassifier) -> Sheets:
    from cnnbench.training.figures import kernel_sheet

    first = next((module for module in classifier.network.modules() if isinstance(module, nn.Conv2d)), None)
    return {} if first is None else {"kernels": kernel_sheet(first.weight.detach().float().cpu().numpy())}


def _predicted(classifier: ImageClassifier, data: ImageDataModule, split: str, rows: np.ndarray) -> Any:
    """Predictions of the images of ``split`` in ``rows``."""
    from cnnbench.training.figures.predictions import Predicted

    confidences, predictions = [], []
    for part in np.array_split(rows, max(-(-len(rows) // data.eval_batch_size), 1)):
        probabilities = _logits(classifier, data.batch(split, part).to(classifier.device)).softmax(dim=1).cpu()
        best = probabilities.max(dim=1)
        confidences.append(best.values.numpy())
        predictions.append(best.indices.numpy())
    truth = data.labels(split)[rows]
    return Predicted(data.raw(split, rows), truth, np.concatenate(predictions), np.concatenate(confidences))


def _logits(classifier: ImageClassifier, images: Tensor) -> Tensor:
    weight = next(classifier.network.parameters())
    with eval_mode(classifier.network):  # ``forward``, for so few images are not worth a compilation
        return classifier.network.forward(images.to(weight.dtype)).float()


def agreement(
    classifier: ImageClassifier, data: ImageDataModule, device: torch.device
) -> dict[str, float | int] | None:
    """How far the same evaluation on the CPU differs: the largest difference of a logit, and predictions that differ.

    Args:
        device: that the run was on; where it is the CPU there is nothing to compare, and None is returned.
    """
    if device.type == "cpu":
        return None
    images = data.batch("test", np.arange(min(COMPARED, data.count("test"))))
    there = _logits(classifier.to(device), images.to(device)).cpu()
    here = _logits(classifier.to("cpu"), images)
    return {
        "images": len(images),
        "largest_logit_difference": float((here - there).abs().max()),
        "different_predictions": int((here.argmax(dim=1) != there.argmax(dim=1)).sum()),
    }
