"""Parameter groups, the one optimizer that torch lacks (all others are named in their YAML), and what batch norm needs
for optimizers whose passes, or whose weights, are not simply those of training."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from cnnbench.models.fine_tune import classifier_of, layer_factors

Groups = list[dict[str, Any]]
Maker = Callable[..., Optimizer]


class SwitchOptimizer(Optimizer):
    """One optimizer for the first part of a run of ``total_steps`` optimizer steps, another for the rest, from the
    share ``switch_at``, in (0, 1), on (after Keskar & Socher 2017, "SWATS"); both are made from all parameters.
    ``param_groups`` and ``state`` are those of the active one. Each has a schedule of its own (``RunScheduler``)."""

    def __init__(self, params: Groups, total_steps: int, *, first: Maker, then: Maker, switch_at: float = 0.5) -> None:
        super().__init__(params, {})
        self.optimizers = tuple(make([dict(group) for group in self.param_groups]) for make in (first, then))
        self.steps, self.switch_step = 0, round(switch_at * total_steps)
        self._activate()

    @property
    def switched(self) -> bool:
        """Whether the second optimizer is active."""
        return self.steps >= self.switch_step

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = self.optimizers[self.switched].step(closure)
        if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            self.count_step()
        return loss

    def count_step(self) -> None:
        """Count a step. ``step`` does; whoever replays a CUDA graph of one has to, for a replay runs no Python."""
        self.steps += 1
        if self.steps == self.switch_step:
            self.optimizers[0].state.clear()  # nobody reads it again
            self._activate()

    def _activate(self) -> None:
        active = self.optimizers[self.switched]
        self.param_groups, self.state = active.param_groups, active.state

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "parts": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, state_dict["parts"], strict=True):
            optimizer.load_state_dict(state)
        self.steps = state_dict["steps"]
        self._activate()


def inner_optimizers(optimizer: Optimizer) -> tuple[Optimizer, ...]:
    """The two of a SwitchOptimizer, or the optimizer itself."""
    return optimizer.optimizers if isinstance(optimizer, SwitchOptimizer) else (optimizer,)


def set_training(optimizer: Optimizer, training: bool) -> bool:
    """Let optimizers that evaluate other weights than they take gradients at, as schedule-free ones do, put either into
    the network. Returns whether there is one: all others have no such methods."""
    averaging: list[Any] = [inner for inner in inner_optimizers(optimizer) if hasattr(inner, "train")]
    for inner in averaging:
        inner.train() if training else inner.eval()
    return bool(averaging)


def parameter_groups(
    network: nn.Module, decay_norm_and_bias: bool = True, backbone_lr_factor: float = 1.0, layer_decay: float = 1.0
) -> Groups:
    """The parameters of a network, in a group for each learning rate (the classifier's first, the others with
    ``lr_factor``), or twice as many, where biases and norm parameters are in groups without weight decay. Raises what
    ``classifier_of`` and ``layer_factors`` do."""
    factors = layer_factors(network, layer_decay) if layer_decay != 1 else {}
    by_factor: dict[float, list[nn.Parameter]] = {1.0: []}
    head = {id(p) for p in classifier_of(network).parameters()} if backbone_lr_factor != 1 else set()
    for name, parameter in network.named_parameters():
        factor = factors.get(name, 1.0) * (1.0 if id(parameter) in head else backbone_lr_factor)
        by_factor.setdefault(factor, []).append(parameter)
    groups: Groups = []
    for factor, parameters in by_factor.items():
        options = {"lr_factor": factor} if factor != 1 else {}
        decayed = [p for p in parameters if decay_norm_and_bias or p.ndim > 1]
        groups.append({"params": decayed, **options})
        if not decay_norm_and_bias:
            groups.append({"params": [p for p in parameters if p.ndim <= 1], **options, "weight_decay": 0.0})
    return groups


def build_optimizer(make: Maker, groups: Iterable[nn.Parameter] | Groups, total_steps: int) -> Optimizer:
    """Call ``make`` with the groups and what it takes of the run's length, and scale each rate by its ``lr_factor``."""
    optimizer = make(groups, **length_arguments(make, total_steps))
    for inner in inner_optimizers(optimizer):
        for group in inner.param_groups:
            group["lr"] *= group.get("lr_factor", 1)
    set_training(optimizer, True)
    return optimizer


def length_arguments(make: Callable[..., Any], length: int) -> dict[str, int]:
    """The arguments of ``make`` that are the length of the run: those that it has as ``auto``, and ``total_steps``
    where it takes that and has no value for it yet."""
    given: dict[str, Any] = getattr(make, "keywords", {})
    names = [name for name, value in given.items() if value == "auto"]
    if "total_steps" in inspect.signature(getattr(make, "func", make)).parameters and given.get("total_steps") is None:
        names.append("total_steps")
    return dict.fromkeys(names, length)


@contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Forward passes within leave batch norm's running statistics; each layer still normalises by its mode."""
    momenta = {module: module.momentum for module in network.modules() if isinstance(module, _BatchNorm)}
    for layer in momenta:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
