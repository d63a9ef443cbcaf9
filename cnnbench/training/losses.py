"""Losses that a network is trained with, as ``conf/loss`` names them: logits (N, classes) and class indices (N,) to a scalar.

Each is a mean over the images of a batch, so that accumulated batches and several devices come to what one batch does.
What is measured on validation and test is the cross-entropy whatever the loss, so that losses can be compared.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.config.settings import NEW_KEYS
from cnnbench.training.quirks import CrossEntropy
from cnnbench.utils.errors import RequestError

DEFAULT = NEW_KEYS["loss._target_"]  # what records had before there were others


def class_weights(counts: Sequence[int], beta: float) -> Tensor:
    """A weight a class, float32, by the effective number of its images, (1 - beta^n) / (1 - beta) (Cui et al. 2019, CVPR,
    equation 2): 1 over that, scaled to a mean of 1 over the images, where the paper has a mean of 1 over the classes, so
    that the loss and with it a good learning rate stay where they are without weights. 0 for a class without images.

    >>> class_weights([90, 10], beta=0.0).tolist()
    [1.0, 1.0]
    """
    images = torch.tensor(counts, dtype=torch.float64)
    effective = (1 - beta**images) / (1 - beta)
    weights = torch.where(images > 0, 1 / effective, 0.0)
    return (weights * images.sum() / (weights * images).sum()).float()


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy in which the images of a class count by its rarity, as ``class_weights`` has it."""

    def __init__(self, counts: Sequence[int], label_smoothing: float, beta: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", class_weights(counts, beta), persistent=False)  # no part of a checkpoint

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        weight: Any = self.weight
        summed = nn.functional.cross_entropy(
            logits, target, weight.to(logits.dtype), reduction="sum", label_smoothing=self.label_smoothing
        )
        return summed / len(target)


class BinaryCrossEntropy(nn.Module):
    """Each class against the rest: binary cross-entropy of the logits' sigmoids, summed over the classes. Smoothed labels
    are those of the cross-entropy: 1 - s + s / classes for the true class, s / classes for the others."""

    def __init__(self, counts: Sequence[int], label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        true = _one_hot(logits, target) * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        return nn.functional.binary_cross_entropy_with_logits(logits, true, reduction="sum") / len(target)


class FocalLoss(nn.Module):
    """The same with less weight on what is easy: -alpha_t (1 - p_t)^gamma log(p_t), summed over the classes (Lin et al.
    2017, equation 5); without ``alpha`` both sides count alike. Raises RequestError with smoothed labels."""

    def __init__(self, counts: Sequence[int], label_smoothing: float, gamma: float, alpha: float | None) -> None:
        super().__init__()
        if label_smoothing:
            raise RequestError("loss=focal has no smoothed labels; use label_smoothing=0, or loss=bce")
        self.gamma, self.alpha = gamma, -1.0 if alpha is None else alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        from torchvision.ops import sigmoid_focal_loss

        summed = sigmoid_focal_loss(logits, _one_hot(logits, target), self.alpha, self.gamma, reduction="sum")
        return summed / len(target)


def _one_hot(logits: Tensor, target: Tensor) -> Tensor:
    return torch.zeros_like(logits).scatter_(1, target[:, None], 1.0)  # one_hot would wait for the device


def build_loss(config: dict[str, Any], counts: Sequence[int]) -> nn.Module:
    """The loss of a configuration, for so many training images of each class; raises RequestError where it has no such
    labels or quirk."""
    from hydra.utils import instantiate

    node, smoothing = config.get("loss") or {"_target_": DEFAULT}, config["label_smoothing"]
    softmax = config["quirks"]["softmax_before_loss"]
    if node["_target_"] == DEFAULT:
        return CrossEntropy(smoothing, softmax)
    if softmax:
        raise RequestError("quirks.softmax_before_loss=true is a quirk of loss=cross_entropy alone")
    return instantiate(node, counts=list(counts), label_smoothing=smoothing, _convert_="all")
