"""Augmentation and normalisation of whole batches, with a draw of its own for every sample.

Images are (N, H, W, C) in memory, which is what the cache holds and what torch calls channels_last, so that no copy is
made for the layout. The draws of a whole epoch are made at once, from a generator of (seed, epoch), and a batch uses
the rows of its positions: the same (seed, epoch, step) gives the same batch on any device, from any storage, and after
a resume.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.operations import Colour, Erase, Policy, ResizedCrop, Rotate, inside

Operation = ResizedCrop | Rotate | Policy | Colour | Erase
STREAMS = {"order": 0, "draws": 1}


def epoch_generator(seed: int, epoch: int, stream: str) -> torch.Generator:
    """A CPU generator that depends on nothing but (seed, epoch, stream), so that an epoch can be repeated alone."""
    state = np.random.SeedSequence([seed, epoch, STREAMS[stream]]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


class Mixing:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): mix each image and its label with a partner of its batch,
    in shares from Beta(a, a), drawn for every image, with a the value of ``mixup`` or of ``cutmix``; 0 is none of it,
    and with both every image is mixed by one or the other, at random."""

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
        """Normalised images (M, C, H, W) in channels_last memory and labels (M,), of which row ``partner`` (N,) is
        mixed into each of the first N with its ``draws`` (N, 6). Returns images (N, C, H, W) and float32 target
        probabilities (N, classes), whose greatest is of the label with the greater share."""
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


class Augment:
    """Random changes of training images, each off at its default, in this order: resized crop, crop with zero padding and
    flip, rotation, policy, colour, erasing and cutout; then, of normalised images, mixup and CutMix."""

    # no dataclass, which OmegaConf would take for a part of the configuration
    def __init__(
        self,
        crop_padding: int = 0,  # pixels of black added on each side before a crop of the original size at a random place
        flip: float = 0.0,  # probability of a horizontal flip
        cutout: int = 0,  # side in pixels of a black square at a random place, cut at the border (DeVries & Taylor 2017)
        *,
        resized_crop: float = 0.0,  # least share of the area that a random part has, which is resized to the whole
        rotate: float = 0.0,  # greatest angle in degrees
        brightness: float = 0.0,  # how far from 1 the factor may be, as of the next two
        contrast: float = 0.0,
        saturation: float = 0.0,
        policy: str = "none",  # or trivial, or rand, which has ``rand_operations`` of strength ``rand_magnitude``
        rand_operations: int = 2,
        rand_magnitude: int = 9,
        erase: float = 0.0,  # probability of a random box of black
        mixup: float = 0.0,  # the a of Beta(a, a), from which the shares of two images are drawn, as of the next
        cutmix: float = 0.0,
    ) -> None:
        self.crop_padding, self.flip, self.cutout = crop_padding, float(flip), cutout
        colour = (brightness, contrast, saturation)
        self.before: list[Operation] = [ResizedCrop(resized_crop)] if resized_crop else []  # the crop and the flip
        self.after: list[Operation] = [Rotate(rotate)] if rotate else []
        self.after += [Policy(policy, rand_operations, rand_magnitude)] if policy != "none" else []
        self.after += [Colour(*colour)] if any(colour) else []
        self.after += [Erase(erase)] if erase else []
        self.mixing = Mixing(mixup, cutmix) if mixup or cutmix else None

    def __bool__(self) -> bool:
        return bool(self.crop_padding or self.flip or self.cutout or self.before or self.after or self.mixing)

    def draw(self, count: int, image_size: int, generator: torch.Generator, batch_size: int = 1) -> Tensor:
        """Draws for ``count`` samples, float32 (count, 5 or more): columns crop row, crop column, flipped, cutout row,
        column, and those of each operation that is on; the last are those of mixing, within batches of this size."""
        shift = 2 * self.crop_padding + 1
        crop = torch.randint(shift, (2, count), generator=generator)
        flipped = torch.rand(1, count, generator=generator) < self.flip
        first = torch.cat([crop, flipped, torch.randint(image_size, (2, count), generator=generator)])
        more = [operation.draw(count, image_size, generator) for operation in self.before + self.after]
        more += [self.mixing.draw(count, image_size, generator, batch_size)] if self.mixing else []
        return torch.cat([first.T.float(), *more], dim=1)

    def __call__(self, images: Tensor, draws: Tensor, host: Tensor | None = None) -> Tensor:
        """Apply row i of ``draws`` to image i of square ``images`` (N, H, W, C), uint8 (or float, for crop, flip and
        cutout), of the same device; returns a tensor of the same shape and dtype. ``host`` are the draws on the CPU."""
        host = draws if host is None else host
        column = 5
        for operation in (*self.before, None, *self.after):
            if operation is None:
                images = self._crop_and_flip(images, draws[:, :3].long())
                continue
            columns = slice(column, column := column + operation.columns)
            images = operation(images, draws[:, columns], host[:, columns])
        if self.cutout:
            square = torch.full_like(draws[:, :2], self.cutout)
            boxes = torch.cat([draws[:, 3:5] - self.cutout // 2, square], dim=1)
            images = images.masked_fill(inside(boxes, images.shape[1]), 0)
        return images

    def _crop_and_flip(self, images: Tensor, draws: Tensor) -> Tensor:
        if not (self.crop_padding or self.flip):
            return images
        count, size, _, channels = images.shape
        if self.crop_padding:
            pad = self.crop_padding
            images = torch.nn.functional.pad(images, (0, 0, pad, pad, pad, pad))
        line = torch.arange(size, device=images.device)
        rows = draws[:, :1] + line
        columns = draws[:, 1:2] + torch.where(draws[:, 2:3] > 0, line.flip(0), line)
        # One gather does the crop and the flip: where each output pixel lies in the flattened, padded batch.
        side = images.shape[1]
        base = torch.arange(count, device=images.device)[:, None] * side
        where = ((base + rows) * side)[:, :, None] + columns[:, None, :]
        return images.reshape(-1, channels).index_select(0, where.reshape(-1)).view(count, size, size, channels)


class Normalize:
    """(pixel / 255 - mean) / std per channel, as one multiplication and one addition on a whole batch; ``mean`` and
    ``std`` have one value a channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = list(mean), list(std)
        self.scale = 1 / (255 * torch.tensor(std, dtype=torch.float32))
        self.shift = -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32)
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}  # by width: the constants of a whole row of pixels

    def to(self, device: torch.device | str) -> "Normalize":
        """Move the constants to ``device`` and return self."""
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)
        self._rows.clear()
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) in [0, 255] to a new float32 (N, C, H, W) in channels_last memory."""
        width, channels = images.shape[2:]
        if width not in self._rows:
            # a row at a time, for three numbers are too short a loop for a CPU: 1 us for 3x32x32 instead of 6
            times = width if channels > 1 else 1
            self._rows[width] = self.scale.repeat(times), self.shift.repeat(times)
        scale, shift = self._rows[width]
        pixels = images.to(torch.float32, copy=True).reshape(-1, len(scale))
        return pixels.mul_(scale).add_(shift).view(images.shape).permute(0, 3, 1, 2)
