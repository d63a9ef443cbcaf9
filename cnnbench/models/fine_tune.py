"""Fine-tuning: which layer is the classifier, and a backbone that stays as it is for some epochs."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from cnnbench.utils.errors import RequestError


def classifier_of(network: nn.Module) -> nn.Module:
    """The layer that gives the logits; all other layers are the backbone. Raises RequestError where the network has
    neither a method ``get_classifier`` (the name is timm's) that returns one layer nor a ``classifier_name``."""
    if hasattr(network, "classifier_name"):
        return network.get_submodule(str(network.classifier_name))
    found = network.get_classifier() if hasattr(network, "get_classifier") else None  # type: ignore[operator]
    if not isinstance(found, nn.Module):
        wrong = f"{type(network).__name__} does not say which layer gives its logits, so it cannot be fine-tuned"
        raise RequestError(f"{wrong}: give it a method get_classifier() that returns that layer")
    return found


def layer_factors(network: nn.Module, decay: float) -> dict[str, float]:
    """``decay`` to the power of how many layers each parameter, by name, is before the last (Clark et al. 2020, "ELECTRA",
    section 3.1), layers being those of timm's ``group_matcher``; raises RequestError where the network has none."""
    if not hasattr(network, "group_matcher"):
        wrong = f"{type(network).__name__} has no group_matcher() that gives it"
        raise RequestError(f"fine_tune.layer_decay needs layers in an order, and {wrong}; networks of model=timm have")
    from timm.models import group_parameters

    layers = group_parameters(network, network.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    return {name: decay ** (max(layers.values()) - layer) for name, layer in layers.items()}


def freeze_backbone(network: nn.Module, frozen: bool) -> None:
    """Keep every parameter and batch-norm statistic but the classifier's as it is, or let them all learn.

    Call it at the start of each epoch: what the network was before plays no part. Frozen parameters have no gradients,
    so that no optimizer moves them, by weight decay or momentum either.
    """
    head = classifier_of(network)
    for parameter in {*network.parameters()} - {*head.parameters()}:
        parameter.requires_grad_(not frozen)
    for module in {*network.modules()} - {*head.modules()}:
        if isinstance(module, _NormBase):
            module.train(not frozen)
