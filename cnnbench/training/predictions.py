"""What a trained classifier predicts for chosen images, and how far the same on the CPU differs."""

import numpy as np
import torch
from torch import Tensor

from cnnbench.data import ImageDataModule
from cnnbench.models.profile import eval_mode
from cnnbench.training.figures import Predictions
from cnnbench.training.module import ImageClassifier

COMPARED = 1024  # test images evaluated on the CPU too, where the run was on another device


def predict(classifier: ImageClassifier, data: ImageDataModule, split: str, rows: np.ndarray) -> Predictions:
    """Predictions of the images of ``split`` in ``rows``."""
    confidences, predictions = [], []
    for part in np.array_split(rows, max(-(-len(rows) // data.eval_batch_size), 1)):
        logits = _logits(classifier, data.batch(split, part).to(classifier.device))
        best = logits.softmax(dim=1).cpu().max(dim=1)
        confidences.append(best.values.numpy())
        predictions.append(best.indices.numpy())
    labels = data.labels(split)[rows]
    return Predictions(data.raw(split, rows), labels, np.concatenate(predictions), np.concatenate(confidences))


def agreement_with_cpu(
    classifier: ImageClassifier, data: ImageDataModule, device: torch.device
) -> dict[str, float | int] | None:
    """How far the evaluation on the CPU differs from that on ``device``, on which the run was; None for the CPU."""
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


def _logits(classifier: ImageClassifier, images: Tensor) -> Tensor:
    weight = next(classifier.network.parameters())
    with eval_mode(classifier.network):  # ``forward``, for so few images are not worth a compilation
        return classifier.network.forward(images.to(weight.dtype)).float()
