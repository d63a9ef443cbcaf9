"""Losses that a network is trained with, as ``conf/loss`` names them: logits (N, classes) and class indices (N,), or of
mixed images probabilities (N, classes), float32, to a scalar.

Each is a mean over the images of a batch, so that several devices, and accumulated batches of one size, come to what one
batch does; of accumulated batches each counts the same, a smaller last one too.
What is measured on validation and test is the cross-entropy whatever the loss, so that losses can be compared.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cnnbench.config.settings import NEW_KEYS
from cnnbench.training.quirks import CrossEntropy, same_dtype
from cnnbench.utils.errors import RequestError

DEFAULT = NEW_KEYS["loss._target_"]  # what records had before there were others


def class_weights(counts: Sequence[int], beta: float) -> Tensor:
    """A weight a class, float32, by the effective number of its images, (1 - beta^n) / (1 - beta) (Cui et al. 2019,
    CVPR, equation 2): 1 over that, scaled to a mean of 1 over the images, where the paper has a mean of 1 over the
    classes, so that the loss and with it a good learning rate stay where they are without weights. 0 for a class
    without images.

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
        if target.ndim == 2:
            logits, target = same_dtype(logits, target)
        weight, smoothing = weight.to(logits.dtype), self.label_smoothing
        return cross_entropy(logits, target, weight, reduction="sum", label_smoothing=smoothing) / len(target)


class FocalLoss(nn.Module):
    """Each class against the rest, by the logits' sigmoids, with less weight on what is easy: -alpha_t (1 - p_t)^gamma
    log(p_t), summed over the classes (Lin et al. 2017, equation 5). Without ``alpha`` both sides count alike, and
    without ``gamma`` too it is the binary cross-entropy. Smoothed labels are those of the cross-entropy: s / classes,
    and 1 - s more for the true class; with ``gamma``, which is of labels 0 or 1, they raise RequestError."""

    def __init__(
        self, counts: Sequence[int], label_smoothing: float, gamma: float = 0.0, alpha: float | None = None
    ) -> None:
        super().__init__()
        if label_smoothing and gamma:
            raise RequestError("loss=focal has no smoothed labels; use label_smoothing=0, or loss=bce")
        self.label_smoothing, self.gamma, self.alpha = label_smoothing, gamma, -1.0 if alpha is None else alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        from torchvision.ops import sigmoid_focal_loss

        if target.ndim == 2:
            logits, true = same_dtype(logits, target)
        else:
            true = torch.zeros_like(logits).scatter_(1, target[:, None], 1.0)  # one_hot would wait for the device
        true = true * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        return sigmoid_focal_loss(logits, true, self.alpha, self.gamma, reduction="sum") / len(target)


def guessing_losses(loss: nn.Module, classes: int) -> tuple[float, float]:
    """What the same answer for every image costs where all classes are as frequent: at the least, and with logits of 0,
    which is about where an untrained network begins. Of cross-entropy both are ln(classes).

    >>> [round(cost, 4) for cost in guessing_losses(CrossEntropy(0.0, False), 10)]
    [2.3026, 2.3026]
    """
    if not isinstance(loss, FocalLoss):
        return math.log(classes), math.log(classes)
    from scipy.optimize import minimize_scalar

    def same_answer(logit: float) -> float:
        return float(loss(torch.full((1, classes), logit), torch.tensor([0])))

    return float(minimize_scalar(same_answer, bounds=(-20, 20)).fun), same_answer(0.0)


def build_loss(config: dict[str, Any], counts: Sequence[int]) -> nn.Module:
    """The loss, for so many training images of each class; raises RequestError where it has no such labels or quirk."""
    node, smoothing = config.get("loss") or {"_target_": DEFAULT}, config["label_smoothing"]
    softmax = config["quirks"]["softmax_before_loss"]
    is_default = node["_target_"] == DEFAULT
    if wrong := [key for key in node if key == "label_smoothing" or (is_default and key != "_target_")]:
        remedy = "label_smoothing is a key of its own, for all losses"
        raise RequestError(f"loss.{wrong[0]} is no key of this loss ({remedy})")
    if is_default:
        return CrossEntropy(smoothing, softmax)
    if softmax:
        raise RequestError("quirks.softmax_before_loss=true is a quirk of loss=cross_entropy alone")
    if node.get("gamma") and (config["augment"].get("mixup") or config["augment"].get("cutmix")):
        raise RequestError("loss=focal is of labels that are 0 or 1; with augment.mixup or augment.cutmix use loss=bce")
    return instantiate(node, counts=list(counts), label_smoothing=smoothing, _convert_="all")
