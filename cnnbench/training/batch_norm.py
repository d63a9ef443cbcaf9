"""Batch norm's running statistics, where they are not simply those of the training batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn


@contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Forward passes within leave the running statistics as they are; each layer still normalises by its mode."""
    layers = [(module, module.momentum) for module in network.modules() if isinstance(module, _BatchNorm)]
    for layer, _ in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in layers:
            layer.momentum = momentum


def recompute_statistics(network: nn.Module, chunks: Iterable[Iterable[tuple[Tensor, Tensor]]]) -> None:
    """Take the running statistics anew, as plain means over these batches of (images, labels), for the weights as they are
    (torch's ``update_bn``); without a pass where the network has no batch norm."""
    weight = next(network.parameters())
    update_bn((images.to(weight) for batches in chunks for images, _ in batches), network)
