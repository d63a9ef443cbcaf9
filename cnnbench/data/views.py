"""Test-time augmentation: the probabilities of an image's classes, averaged over views of the image.

Views are made of a whole batch, on its device. They are torchvision's ``hflip``, and ``five_crop`` of the image with black
around it, so that each crop is as large as the image.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

VIEWS = {"none": "", "flip": "an image and its mirror", "five_crop": "five crops of an image"}  # in words
PADDING = 8  # of five_crop: one pixel on each side for so many of the image's side, 4 for 32


def views(images: Tensor, kind: str, black: Tensor) -> list[Tensor]:
    """The views of square ``images`` (N, C, S, S), each of that shape; of five_crop the corners and then the centre.
    ``black`` (C,) is what a black pixel is after normalisation."""
    if kind == "flip":
        return [images, images.flip(3)]
    if kind != "five_crop":
        return [images]
    side = images.shape[-1]
    margin = max(side // PADDING, 1)
    around = 1 - pad(torch.ones_like(images[:1, :1]), [margin] * 4)
    padded = pad(images, [margin] * 4) + around * black.to(images).view(-1, 1, 1)
    ends = 0, 2 * margin
    corners = [padded[:, :, top : top + side, left : left + side] for top in ends for left in ends]
    return [*corners, images]


def over_views(network: Callable[[Tensor], Tensor], images: Tensor, kind: str, black: Tensor) -> Tensor:
    """Logits (N, classes) whose softmax is the mean of the probabilities of all views; of ``none`` the network's own.

    >>> images = torch.tensor([[[[0.0, 0.0], [3.0, 0.0]]]])
    >>> over_views(lambda images: images[:, 0, 1], images, "flip", torch.zeros(1)).softmax(dim=1)
    tensor([[0.5000, 0.5000]])
    """
    if kind == "none":
        return network(images)
    return mean_over_views(torch.stack([network(view) for view in views(images, kind, black)]))


def mean_over_views(logits: Tensor) -> Tensor:
    """Logits (N, classes), float32, whose softmax is the mean of those of ``logits`` (views, N, classes)."""
    return logits.float().log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
