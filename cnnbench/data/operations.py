"""What torchvision does to one image, done to a whole batch with a draw of its own for every sample.

An operation makes its draws, float32 (N, ``columns``) on the CPU, for images of a ``size``, and applies row i of them
to image i of uint8 (N, H, W, C), square; ``draws`` are on the images' device, ``host`` the same on the CPU. Where
numbers are rounded, a pixel may be one level of 255 beside torchvision's, whose order of multiplications is another.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

TRIES = 10  # at a box that fits, as in torchvision
BINS = 31  # strengths of each operation, as in both papers
GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDED = ("brightness", "saturation", "contrast", "sharpness")
OPERATIONS = ("identity", *GEOMETRIC, *BLENDED, "posterize", "solarize", "autocontrast", "equalize")
# The greatest strengths: shear, rotation in degrees, factor of a colour, bits that are taken away.
RANGES = {"trivial": (0.99, 135.0, 0.99, 6), "rand": (0.3, 30.0, 0.9, 4)}


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Float32 draws from [low, high)."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def draw_boxes(count: int, size: int, area: tuple[float, float], log_ratio: float, generator: Generator) -> Tensor:
    """Boxes (count, 4), columns top, left, height, width, in pixels: the share of the ``area`` uniform, the ratio of the
    sides log-uniform within ``log_ratio`` of 0 (Szegedy et al. 2015; Zhong et al. 2017)."""
    shape = (count, TRIES)
    areas = size**2 * uniform(*area, shape, generator)
    ratios = uniform(-log_ratio, log_ratio, shape, generator).exp()
    sides = torch.stack([areas / ratios, areas * ratios]).sqrt().round()
    fits = ((sides >= 1) & (sides <= size)).all(dim=0)
    first = fits.int().argmax(dim=1, keepdim=True)
    sides = torch.where(fits.any(dim=1), sides.gather(2, first.expand(2, -1, -1))[..., 0], size).T
    places = (torch.rand(count, 2, generator=generator) * (size - sides + 1)).floor()
    return torch.cat([places.minimum(size - sides), sides], dim=1)


def inside(boxes: Tensor, size: int) -> Tensor:
    """Whether each pixel (N, H, W, 1) lies in its image's box (N, 4)."""
    line = torch.arange(size, device=boxes.device)
    top, left, height, width = boxes.T[..., None]
    rows, columns = (line >= top) & (line < top + height), (line >= left) & (line < left + width)
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def sample(images: Tensor, grid: Tensor, mode: str) -> Tensor:
    """The pixels of uint8 images at ``grid`` (N, H, W, 2), which is ``grid_sample``'s; black outside."""
    pixels = images.permute(0, 3, 1, 2).float()
    found = grid_sample(pixels, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return found.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def affine(images: Tensor, degrees: Tensor, shear: Tensor, shift: Tensor, mode: str) -> Tensor:
    """Rotate by ``degrees`` (N,) anticlockwise, shear by ``shear`` (2, N) from the top left corner, and move by ``shift``
    (2, N) pixels; of the pairs x comes first."""
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    (shear_x, shear_y), (x, y) = shear, shear - shift * 2 / images.shape[1]
    theta = torch.stack([cos, shear_x - sin, x, shear_y + sin, cos, y], dim=1).view(-1, 2, 3)
    grid = affine_grid(theta, [len(images), 1, *images.shape[1:3]], align_corners=False)
    return sample(images, grid, mode)


def faded(images: Tensor, quantity: str) -> Tensor:
    """The images (N, C, H, W) with none of ``quantity``: brightness, contrast, saturation or sharpness."""
    from torchvision.transforms.v2 import functional

    if quantity == "contrast":
        if images.shape[1] == 3:
            images = functional.rgb_to_grayscale(images)
        return images.sum(dim=(1, 2, 3), keepdim=True) / images[0].numel()  # of whole numbers: exact in any order
    return getattr(functional, f"adjust_{quantity}")(images, 0.0)


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``factor`` (N,) of uint8 images (N, C, H, W) and 1 - ``factor`` of ``other``."""
    mixed = images + (1 - factor.view(-1, 1, 1, 1)) * (other.float() - images)
    return mixed.clamp_(0, 255).to(torch.uint8)


class ResizedCrop:
    """A random part of the image, at least ``least`` of its area and of sides up to 4:3, resized to the whole."""

    columns = 4

    def __init__(self, least: float) -> None:
        self.least = least

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Top, left, height and width in pixels."""
        return draw_boxes(count, size, (self.least, 1.0), math.log(4 / 3), generator)

    def __call__(self, images: Tensor, draws: Tensor, host: Tensor) -> Tensor:
        """Bilinear; a part is never larger than the whole, so antialiasing would change nothing."""
        size = images.shape[1]
        first, sides = draws.T[:2, :, None], draws.T[2:, :, None]
        centres = (torch.arange(size, device=images.device) + 0.5) * sides / size - 0.5
        rows, columns = (2 * (centres.clamp(min=0).minimum(sides - 1) + first) + 1) / size - 1
        grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
        return sample(images, grid, "bilinear")


class Rotate:
    """Rotation by up to ``degrees`` either way, bilinear, black in the corners."""

    columns = 1

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """The angle in degrees, anticlockwise."""
        return uniform(-self.degrees, self.degrees, (count, 1), generator)

    def __call__(self, images: Tensor, draws: Tensor, host: Tensor) -> Tensor:
        """As ``torchvision.transforms.v2.functional.rotate``."""
        none = torch.zeros(2, len(images), device=images.device)
        return affine(images, draws[:, 0], none, none, "bilinear")


class Colour:
    """Brightness, contrast and saturation, in this order, each times a factor from 1 - strength to 1 + strength. Grey
    images have no saturation, and keep what they have."""

    columns = 3
    quantities = ("brightness", "contrast", "saturation")

    def __init__(self, *strengths: float) -> None:
        self.strengths = strengths

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """The three factors."""
        factors = [uniform(max(1 - s, 0), 1 + s, (count,), generator) for s in self.strengths]
        return torch.stack(factors, dim=1)

    def __call__(self, images: Tensor, draws: Tensor, host: Tensor) -> Tensor:
        """As ``adjust_brightness`` and its like of torchvision."""
        images = images.permute(0, 3, 1, 2)
        for quantity, strength, factor in zip(self.quantities, self.strengths, draws.T, strict=True):
            if strength and (quantity != "saturation" or images.shape[1] == 3):
                images = blend(images, faded(images, quantity), factor)
        return images.permute(0, 2, 3, 1).contiguous()


class Erase:
    """With ``probability``, a black box of 2 % to 33 % of the image (random erasing, Zhong et al. 2017)."""

    columns = 4

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
        """Top, left, height and width in pixels; no height where nothing is erased."""
        boxes = draw_boxes(count, size, (0.02, 0.33), math.log(10 / 3), generator)
        boxes[:, 2] *= torch.rand(count, generator=generator) < self.probability
        return boxes

    def __call__(self, images: Tensor, draws: Tensor, host: Tensor) -> Tensor:
        """As ``torchvision.transforms.v2.functional.erase``."""
        return images.masked_fill(inside(draws, images.shape[1]), 0)


class Policy:
    """``trivial``: one operation of a random strength (Müller & Hutter 2021, table 2). ``rand``: ``operations`` one
    after the other, each of strength ``magnitude`` of 0 to 30 (Cubuk et al. 2020, section 3).

    Operations are nearest-neighbour and black outside. Grey images keep what they have where saturation is drawn.
    Trivial shifts by up to 32 pixels as in the paper, whose images have 32, and in smaller images by up to their side.
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

    def draw(self, count: int, size: int, generator: Generator) -> Tensor:
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
