"""What the architectures share: activations and norms by name, and checks that say what would be right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from cnnbench.utils.errors import RequestError, one_of

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels),
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
}


def activation_layer(name: str) -> nn.Module:
    """A new activation module; raises RequestError for a name that is not in ACTIVATIONS."""
    return ACTIVATIONS[one_of("model.activation", name, ACTIVATIONS)]()


def norm_layer(name: str, channels: int) -> nn.Module:
    """A new norm over ``channels`` feature maps; raises RequestError for a name that is not in NORMS."""
    return NORMS[one_of("model.norm", name, NORMS)](channels)


def per_layer(name: str, value: int | Sequence[int], layers: int, least: int) -> list[int]:
    """One integer a layer from one number for all of them or a list of them.

    Raises:
        RequestError: the list has another length, or a number is no integer or under ``least``.
    """
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * layers
    if len(values) != layers:
        raise RequestError(f"model.{name} has {len(values)} values for {layers} layers; give {layers}, or one for all")
    for number in values:
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise RequestError(f"model.{name} must be whole numbers of at least {least}, got {number!r}")
    return values


def widths(name: str, value: Sequence[int]) -> list[int]:
    """``value`` as a list of a width a layer; raises RequestError if it is none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RequestError(f"model.{name} must be a list of whole numbers, such as [32, 64], got {value!r}")
    return per_layer(name, value, len(value), 1)


def flags(name: str, value: bool | Sequence[bool], layers: int) -> list[bool]:
    """One truth a layer from one for all of them or a list of them; raises RequestError as ``per_layer`` does."""
    given = [value] * layers if isinstance(value, bool) else value
    if not isinstance(given, Sequence) or not all(isinstance(one, bool) for one in given):
        raise RequestError(f"model.{name} must be true or false, or a list of these, got {value!r}")
    return [bool(one) for one in per_layer(name, [int(one) for one in given], layers, 0)]


def channel_groups(value: int | str | Sequence[int | str], layers: int) -> list[int]:
    """One number of groups a layer, 0 for ``separable``; raises RequestError as ``per_layer`` does."""
    values = [value] * layers if isinstance(value, (int, float, str)) else list(value)
    for text in values:
        if isinstance(text, str) and text != "separable":
            raise RequestError(f"model.groups must be whole numbers of at least 1 or separable, got {text!r}")
    given = per_layer("groups", [1 if isinstance(v, str) else v for v in values], layers, 1)
    return [0 if text == "separable" else number for text, number in zip(values, given, strict=True)]


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int, padding: int, groups: int, index: int
) -> nn.Module:
    """Convolution ``index`` of a network, of so many channel groups; depthwise and then 1x1 if ``groups`` is 0.

    Raises:
        RequestError: the groups do not divide the channels before and after.
    """
    if groups == 0:
        depthwise = nn.Conv2d(inputs, inputs, kernel, stride, padding, groups=inputs, bias=False)
        return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1))
    if inputs % groups or outputs % groups:
        raise RequestError(
            f"model.groups={groups} must divide the {inputs} channels before convolution {index} and the {outputs} "
            "after it; give a list with one for each convolution, such as [1, 2]"
        )
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)


def dropout_rate(name: str, value: float) -> float:
    """``value`` if it is a probability below one; raises RequestError if not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise RequestError(f"model.{name} must be in [0, 1), got {value!r}")
    return float(value)


def fully_connected(
    features: int, hidden: Sequence[int], num_classes: int, activation: str, dropout: float
) -> nn.Sequential:
    """(Linear, activation[, Dropout]) for each of ``hidden``, then the linear layer that gives the logits."""
    layers: list[nn.Module] = []
    rate = dropout_rate("dropout", dropout)
    for width in widths("hidden", hidden):
        layers += [nn.Linear(features, width), activation_layer(activation)]
        if rate:
            layers.append(nn.Dropout(rate))
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes))
