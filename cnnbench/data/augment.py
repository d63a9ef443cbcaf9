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

STREAMS = {"order": 0, "draws": 1}


def epoch_generator(seed: int, epoch: int, stream: str) -> torch.Generator:
    """A CPU generator that depends on nothing but (seed, epoch, stream), so that an epoch can be repeated alone."""
    state = np.random.SeedSequence([seed, epoch, STREAMS[stream]]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


class Augment:
    """Random crop with zero padding, horizontal flip and cutout, in this order, each off at its default.

    Args:
        crop_padding: pixels of black added on each side before a crop of the original size at a random place.
        flip: probability of a horizontal flip.
        cutout: side in pixels of the black square at a random place, cut at the border (DeVries & Taylor 2017).
    """

    def __init__(self, crop_padding: int = 0, flip: float = 0.0, cutout: int = 0) -> None:
        self.crop_padding, self.flip, self.cutout = crop_padding, float(flip), cutout

    def __bool__(self) -> bool:
        return bool(self.crop_padding or self.flip or self.cutout)

    def draw(self, count: int, image_size: int, generator: torch.Generator) -> Tensor:
        """Draws for ``count`` samples: int64 (count, 5), columns crop row, crop column, flipped, cutout row, column."""
        shift = 2 * self.crop_padding + 1
        return torch.stack(
            [
                torch.randint(shift, (count,), generator=generator),
                torch.randint(shift, (count,), generator=generator),
                (torch.rand(count, generator=generator) < self.flip).long(),
                torch.randint(image_size, (count,), generator=generator),
                torch.randint(image_size, (count,), generator=generator),
            ],
            dim=1,
        )

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Apply row i of ``draws`` (N, 5) to image i of square ``images`` (N, H, W, C), uint8 or float, of the same device;
        returns a new tensor of the same shape and dtype."""
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
        images = images.reshape(-1, channels).index_select(0, where.reshape(-1)).view(count, size, size, channels)
        if self.cutout:
            first = draws[:, 3:] - self.cutout // 2
            rows_cut, columns_cut = ((line >= f) & (line < f + self.cutout) for f in (first[:, :1], first[:, 1:]))
            images.masked_fill_((rows_cut[:, :, None] & columns_cut[:, None, :])[..., None], 0)
        return images


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
