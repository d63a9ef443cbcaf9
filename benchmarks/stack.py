"""Networks of one architecture computed as one (torch.func): parameters stacked, ``vmap`` over the networks."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap


class Stack:
    """Networks whose parameters, gradients and buffers become rows of one tensor a name.

    Each network stays usable by itself, and an optimizer of its own updates it: what is stacked is the forward and the
    backward pass. Dropout draws for all networks from torch's global generator, so not what each would draw alone. An
    autograd.Function without ``setup_context``, as the binary layers of ``xnor`` have, cannot be stacked.

    Args:
        networks: of one architecture, on one device, in training mode. Their tensors are replaced.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = list(networks)
        self.template = copy.deepcopy(networks[0]).to("meta")
        self.parameters = {name: self._stacked(name) for name, _ in networks[0].named_parameters()}
        self.buffers = {name: self._stacked(name) for name, _ in networks[0].named_buffers()}

    def _stacked(self, name: str) -> Tensor:
        """One tensor (networks, ...), of which the networks' tensors called ``name`` are views from here on."""
        owners, _, last = name.rpartition(".")
        rows = [getattr(network.get_submodule(owners), last) for network in self.networks]
        stacked = _stack([row.detach() for row in rows])
        if isinstance(rows[0], nn.Parameter):
            stacked.grad = torch.zeros_like(stacked)
            stacked.requires_grad_()
        for index, row in enumerate(rows):
            row.data = stacked.detach()[index]
            if stacked.grad is not None:
                row.grad = stacked.grad[index]
        return stacked

    def backward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Add each network's gradient for its own batch.

        Args:
            images: (networks, N, C, H, W).
            labels: (networks, N).

        Returns:
            Losses (networks,) and logits (networks, N, classes), detached.
        """

        def forward(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, labels: Tensor) -> tuple:
            logits = functional_call(self.template, (parameters, buffers), (images,))
            return nn.functional.cross_entropy(logits, labels), logits

        losses, logits = vmap(forward, randomness="different")(self.parameters, self.buffers, images, labels)
        losses.sum().backward()
        return losses.detach(), logits.detach()

    def zero_grad(self) -> None:
        """Forget the gradients, in place, for the networks hold views of them."""
        torch._foreach_zero_([value.grad for value in self.parameters.values() if value.grad is not None])


def _stack(rows: Sequence[Tensor]) -> Tensor:
    """Rows in one tensor, each laid out in memory as it was (channels_last where it is so)."""
    if rows[0].ndim != 4:
        return torch.stack(list(rows))
    return torch.stack([row.permute(0, 2, 3, 1) for row in rows]).permute(0, 1, 4, 2, 3)
