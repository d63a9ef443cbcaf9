"""Fine-tuning: which layer is the classifier, and a backbone that stays as it is for some epochs."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from cnnbench.utils.errors import RequestError


def classifier_of(network: nn.Module) -> nn.Module:
    """The layer that gives the logits; all other layers are the backbone. Raises RequestError where the network has no
    method ``get_classifier`` (the name is timm's)."""
    if not hasattr(network, "get_classifier"):
        raise RequestError(
            f"{type(network).__name__} does not say which layer gives its logits, so it cannot be fine-tuned: "
            "give it a method get_classifier() that returns that layer"
        )
    return network.get_classifier()  # type: ignore[operator]


def freeze_backbone(network: nn.Module, frozen: bool) -> None:
    """Keep every parameter and batch-norm statistic but the classifier's as it is, or let them all learn.

    Call it at the start of each epoch: what the network was before plays no part. Frozen parameters have no gradients,
    so that no optimizer moves them, by weight decay or momentum either.
    """
    head = {id(part) for part in (*classifier_of(network).parameters(), *classifier_of(network).modules())}
    for parameter in network.parameters():
        if id(parameter) not in head:
            parameter.requires_grad_(not frozen)
    for module in network.modules():
        if isinstance(module, _NormBase) and id(module) not in head:
            module.train(not frozen)
