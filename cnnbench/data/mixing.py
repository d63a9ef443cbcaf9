"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image with a partner from its own batch."""

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.operations import inside


class Mixing:
    """Mix images and labels in shares from Beta(a, a), drawn for every image, with a the value of ``mixup`` or of
    ``cutmix``; 0 is none of it, and with both every image is mixed by one or the other, at random."""

    columns = 6

    def __init__(self, mixup: float, cutmix: float) -> None:
        self.mixup, self.cutmix = mixup, cutmix

    def draw(self, count: int, size: int, generator: torch.Generator, batch_size: int) -> Tensor:
        """Float32 (count, 6): the partner's position in the batch, the image's own share outside the box, and the box
        that is the partner's: top, left, height, width in pixels (of no height for mixup)."""
        batch = torch.arange(count) // batch_size
        order = (batch + torch.rand(count, generator=generator, dtype=torch.float64)).argsort()
        # torch draws from no Beta distribution with a generator
        numbers = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        cut = torch.from_numpy(numbers.random(count) < (0.5 if self.mixup and self.cutmix else bool(self.cutmix)))
        mixup, cutmix = (torch.from_numpy(numbers.beta(a or 1, a or 1, count)) for a in (self.mixup, self.cutmix))
        half = (size / 2 * (1 - cutmix).sqrt()).long() * cut
        centres = torch.randint(size, (2, count), generator=generator)
        first, end = (centres - half).clamp(min=0), (centres + half).clamp(max=size)
        outside = torch.where(cut, 1.0, mixup)
        return torch.stack([order - batch * batch_size, outside, *first, *(end - first)], dim=1).float()

    def __call__(
        self, images: Tensor, labels: Tensor, partner: Tensor, draws: Tensor, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Normalised images (M, C, H, W) in channels_last memory and labels (M,), of which row ``partner`` (N,) is mixed
        into each of the first N with its ``draws`` (N, 6). Returns images (N, C, H, W) and float32 target probabilities
        (N, classes), whose greatest is of the label with the greater share."""
        pixels, size, count = images.permute(0, 2, 3, 1), images.shape[2], len(draws)
        share = weight = draws[:, 1].view(-1, 1, 1, 1)
        if self.cutmix:
            weight = weight.masked_fill(inside(draws[:, 2:], size), 0)
            share = share * (1 - draws[:, 4] * draws[:, 5] / size**2).view(-1, 1, 1, 1)
        mixed = pixels.index_select(0, partner).lerp_(pixels[:count], weight)
        own, other = (  # one_hot would wait for the device
            torch.zeros(count, classes, device=labels.device).scatter_(1, of[:, None], 1.0)
            for of in (labels[:count], labels[partner])
        )
        return mixed.permute(0, 3, 1, 2), other.lerp(own, share.view(-1, 1))
