"""Parameter groups, and the one optimizer that torch lacks; all others are named in their YAML."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cnnbench.models.fine_tune import classifier_of

Groups = list[dict[str, Any]]
Parameters = Iterable[nn.Parameter] | Groups
Maker = Callable[..., Optimizer]


class SwitchOptimizer(Optimizer):
    """One optimizer for the first part of a run, another for the rest (after Keskar & Socher 2017, "SWATS").

    ``param_groups`` and ``state`` are those of the active optimizer, so that they hold what the next step uses. Each of
    the two has a schedule of its own (``SwitchScheduler``), from its own learning rate and with its own momentum.

    Args:
        total_steps: optimizer steps of the whole run.
        first, then: make the two optimizers, both from all parameters.
        switch_at: share of the run, in (0, 1), after which ``then`` takes over.
    """

    def __init__(
        self, params: Parameters, total_steps: int, *, first: Maker, then: Maker, switch_at: float = 0.5
    ) -> None:
        super().__init__(params, {})
        groups = self.param_groups
        self.optimizers = tuple(make([dict(group) for group in groups]) for make in (first, then))
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
    """Let optimizers that evaluate other weights than they take gradients at, as schedule-free ones do, put either into the
    network. Returns whether there is one: all others have no such methods."""
    both = [inner for inner in inner_optimizers(optimizer) if hasattr(inner, "train")]
    for inner in both:
        (inner.train if training else inner.eval)()  # type: ignore[attr-defined]
    return bool(both)


def parameter_groups(network: nn.Module, decay_norm_and_bias: bool = True, backbone_lr_factor: float = 1.0) -> Groups:
    """The parameters of a network, in a group, two (the classifier and, with ``lr_factor``, all other layers), or twice as
    many, where biases and norm parameters are in groups without weight decay. Raises what ``classifier_of`` does."""
    groups: Groups = [{"params": list(network.parameters())}]
    if backbone_lr_factor != 1:
        head = list(classifier_of(network).parameters())
        others = [p for p in network.parameters() if all(p is not q for q in head)]
        groups = [{"params": head}, {"params": others, "lr_factor": backbone_lr_factor}]
    if decay_norm_and_bias:
        return groups
    split: Groups = []
    for group in groups:
        split.append({**group, "params": [p for p in group["params"] if p.ndim > 1]})
        split.append({**group, "params": [p for p in group["params"] if p.ndim <= 1], "weight_decay": 0.0})
    return split


def build_optimizer(make: Maker, groups: Parameters, total_steps: int) -> Optimizer:
    """Call ``make`` with the groups, and with ``total_steps`` where its signature asks for it; then scale the learning
    rate of each group by its ``lr_factor``."""
    optimizer = make(groups, **length_arguments(make, total_steps))
    for inner in inner_optimizers(optimizer):
        for group in inner.param_groups:
            group["lr"] *= group.get("lr_factor", 1)
    set_training(optimizer, True)
    return optimizer


def length_arguments(make: Callable[..., Any], length: int) -> dict[str, int]:
    """The arguments of ``make`` that are the length of the run: those that it has as ``auto``, and ``total_steps`` where
    it takes that and has no value for it yet."""
    given: dict[str, Any] = getattr(make, "keywords", {})
    names = [name for name, value in given.items() if value == "auto"]
    if "total_steps" in inspect.signature(make).parameters and given.get("total_steps") is None:
        names.append("total_steps")
    return dict.fromkeys(names, length)
