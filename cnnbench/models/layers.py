"""What the architectures share: layers by name, and checks of their arguments whose errors state the fix."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from cnnbench.utils.errors import RequestError, one_of

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "none": nn.Identity,
}  # fmt: skip
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels),
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
}
SMALL_IMAGE = 64  # pixels; up to here an ImageNet stem, which divides the side by four, leaves too little


def activation_layer(name: str) -> nn.Module:
    """A new activation module; raises RequestError for a name that is not in ACTIVATIONS."""
    return ACTIVATIONS[one_of("model.activation", name, ACTIVATIONS)]()


def dropout_layer(rate: float) -> nn.Module:
    """Dropout, or Identity where the rate is 0."""
    return nn.Dropout(rate) if rate else nn.Identity()


def fully_connected(
    features: int, hidden: Sequence[int], num_classes: int, activation: str, dropout: float
) -> nn.Sequential:
    """(Linear, activation[, Dropout]) for each of ``hidden``, then the linear layer that gives the logits."""
    layers: list[nn.Module] = []
    for width in widths("hidden", hidden):
        layers += [nn.Linear(features, width), activation_layer(activation)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes))


def small_stem(stem: str, image_size: int, weights: str | None) -> bool:
    """Whether the first layers keep the image's size; ``auto`` does so for small images, but not under given weights.
    Raises RequestError where ``stem`` is no stem."""
    one_of("model.stem", stem, ("auto", "small", "imagenet"))
    return stem == "small" or (stem == "auto" and image_size <= SMALL_IMAGE and weights is None)


def check_width(width: float) -> float:
    """``width``, a factor of the numbers of channels; raises RequestError where it is none."""
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width <= 4:
        raise RequestError(f"model.width must be a number above 0, at most 4, got {width!r}")
    return width


def stem_convolution(in_channels: int, filters: int, kernel: int, stride: int) -> nn.Conv2d:
    """A first convolution, without bias and padded to keep the side, initialised as torchvision's (He et al. 2015)."""
    convolution = nn.Conv2d(in_channels, filters, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def output_size(size: int, image_size: int, layer: str, window: int, stride: int, padding: int = 0) -> int:
    """Side of a layer's output for a square input of side ``size``; raises RequestError where none is left."""
    padded = size + 2 * padding
    if padded < window:
        wrong = f"{layer} has a window of {window}x{window} and only {padded}x{padded} reach it"
        remedy = "use a larger data.image_size, or smaller model.kernels, model.strides or model.pools"
        raise RequestError(f"images of {image_size}x{image_size} are too small for this network: {wrong}; {remedy}")
    return (padded - window) // stride + 1


def per_layer(name: str, value: Any, layers: int, valid: Callable[[Any], bool], expected: str) -> list[Any]:
    """One value a layer, from one for all of them or a list of them; raises RequestError where the list has another
    length, or a value is not ``valid``, in words ``expected``."""
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * layers
    if len(values) != layers:
        raise RequestError(f"model.{name} has {len(values)} values for {layers} layers; give {layers}, or one for all")
    for one in values:
        if not valid(one):
            raise RequestError(f"model.{name} must be {expected}, got {one!r}")
    return values


def whole_per_layer(layers: int, **given: tuple[int | Sequence[int], int]) -> list[list[int]]:
    """``per_layer`` of several, by their names: whole numbers, and the least that they may be."""
    kinds = {least: (partial(is_whole, least=least), f"whole numbers of at least {least}") for least in (0, 1)}
    return [per_layer(name, value, layers, *kinds[least]) for name, (value, least) in given.items()]


def is_whole(value: Any, least: int) -> bool:
    """Whether this is an integer, but no truth value, of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def widths(name: str, value: Sequence[int]) -> list[int]:
    """``value`` as a list of a width a layer; raises RequestError if it is none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RequestError(f"model.{name} must be a list of whole numbers, such as [32, 64], got {value!r}")
    return whole_per_layer(len(value), **{name: (value, 1)})[0]
