"""A network as it is evaluated, and what a prediction costs: floating-point operations and bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Every module in eval mode and no gradients; afterwards each module is in the mode that it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def flops_per_image(network: nn.Module, channels: int, image_size: int) -> int:
    """FLOPs of one image's forward pass in convolutions and matrix products, a multiplication and an addition counted
    as two, as torch's FlopCounterMode counts them (a binarised convolution as any other)."""
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(1, channels, image_size, image_size)
    with eval_mode(network), FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops()


def size_in_bits(network: nn.Module) -> int:
    """Bits of all parameters, as they are stored for predictions: a module that stores its parameters in fewer bits than
    they are trained with says so in a method ``bits``."""
    binary: list[Any] = [module for module in network.modules() if hasattr(module, "bits")]
    others = {*network.parameters()}.difference(*(module.parameters() for module in binary))
    return sum(module.bits() for module in binary) + sum(p.numel() * p.element_size() * 8 for p in others)
