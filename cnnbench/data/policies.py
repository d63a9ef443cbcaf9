"""TrivialAugmentWide and RandAugment: an operation of fourteen at random for every image, as torchvision has them."""

import torch
from torch import Tensor

from cnnbench.data.operations import affine, blend, faded

BINS = 31  # strengths of each operation, as in both papers
GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDED = ("brightness", "saturation", "contrast", "sharpness")
OPERATIONS = ("identity", *GEOMETRIC, *BLENDED, "posterize", "solarize", "autocontrast", "equalize")
# The greatest strengths: shear, rotation in degrees, factor of a colour, bits that are taken away.
RANGES = {"trivial": (0.99, 135.0, 0.99, 6), "rand": (0.3, 30.0, 0.9, 4)}


class Policy:
    """``trivial``: one operation of a random strength (Müller & Hutter 2021, table 2). ``rand``: ``operations`` one after
    the other, each of strength ``magnitude`` of 0 to 30 (Cubuk et al. 2020, section 3).

    Operations are nearest-neighbour and black outside. Grey images keep what they have where saturation is drawn. Trivial
    shifts by up to 32 pixels as in the paper, whose images have 32, and in smaller images by up to their side.
    """

    def __init__(self, name: str, operations: int = 1, magnitude: int = 0) -> None:
        self.name, self.rounds = name, operations if name == "rand" else 1
        self.magnitude = magnitude if name == "rand" else None
        self.columns = 2 * self.rounds

    def strengths(self, size: int) -> Tensor:
        """Float32 (14, 31): what torchvision calls the magnitude of each operation, by bin."""
        shear, rotate, colour, bits = RANGES[self.name]
        shift = min(32.0, size) if self.name == "trivial" else 150 / 331 * size
        rising = torch.linspace(0, 1, BINS)
        signed = [top * rising for top in (0, shear, shear, shift, shift, rotate, *4 * (colour,))]
        return torch.stack([*signed, 8 - (bits * rising).round(), 1 - rising, 0 * rising, 0 * rising])

    def draw(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """For each round the operation's number in ``OPERATIONS`` and its strength, with a sign where it has one."""
        shape = (count, self.rounds)
        numbers = torch.randint(len(OPERATIONS), shape, generator=generator)
        drawn = torch.randint(BINS, shape, generator=generator)
        bins = drawn if self.magnitude is None else torch.full(shape, self.magnitude)
        strengths = self.strengths(size)[numbers, bins]
        negative = torch.rand(shape, generator=generator) < 0.5
        strengths = torch.where(negative & (numbers <= len(GEOMETRIC + BLENDED)), -strengths, strengths)
        return torch.stack([numbers.float(), strengths], dim=2).flatten(1)

    def __call__(self, images: Tensor, draws: Tensor, host: Tensor) -> Tensor:
        """One round after the other; ``host`` says which images share an operation without waiting for the device."""
        for first in range(0, self.columns, 2):
            numbers = host[:, first].long()
            order = numbers.argsort(stable=True).to(images.device)
            counts = numbers.bincount(minlength=len(OPERATIONS)).tolist()
            done = _apply(images.index_select(0, order), draws[:, first + 1][order], counts)
            images = torch.empty_like(done).index_copy_(0, order, done)
        return images


def _apply(images: Tensor, strengths: Tensor, counts: list[int]) -> Tensor:
    """The operations on images in the order of their operations, of which ``counts`` says how many there are."""
    from torchvision.transforms.v2 import functional

    parts = dict(zip(OPERATIONS, images.split(counts), strict=True))
    strength = dict(zip(OPERATIONS, strengths.split(counts), strict=True))
    done = [parts["identity"]]
    start, stop = counts[0], sum(counts[: 1 + len(GEOMETRIC)])
    if stop > start:
        zero = strengths.new_zeros(stop - start)
        moves = []
        for number, name in enumerate(GEOMETRIC):  # a row each, 0 but for the images of this operation
            at = sum(counts[1 : 1 + number])
            moves.append(zero.clone())
            moves[-1][at : at + counts[1 + number]] = strength[name]
        shear, shift = torch.stack(moves[:2]), torch.stack(moves[2:4]).trunc()
        done.append(affine(images[start:stop], moves[4], shear, shift, "nearest"))
    for name in OPERATIONS[1 + len(GEOMETRIC) :]:
        if not len(parts[name]):
            continue
        part, of_each = parts[name].permute(0, 3, 1, 2), strength[name].view(-1, 1, 1, 1)
        if name == "posterize":
            part = part & (256 - 2 ** (8 - of_each)).to(torch.uint8)
        elif name == "solarize":
            part = torch.where(part >= 255 * of_each, 255 - part, part)
        elif name in BLENDED:
            part = blend(part, faded(part, name), 1 + of_each)
        else:
            part = getattr(functional, name)(part)
        done.append(part.permute(0, 2, 3, 1))
    return torch.cat(done)
