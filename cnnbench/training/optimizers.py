"""Parameter groups, and the one optimizer that torch lacks; all others are named in their YAML."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cnnbench.models.fine_tune import classifier_of

Groups = list[dict[str, Any]]
Parameters = Iterable[nn.Parameter] | Groups


class SwitchOptimizer(Optimizer):
    """One optimizer for the first part of a run, another for the rest (after Keskar & Socher 2017, "SWATS").

    ``param_groups`` and ``state`` are those of the part at work, so that they hold what the next step uses. A schedule
    is made for each part (``schedulers.build_scheduler`` does), so that each follows it from its own learning rate and
    with its own momentum, as it would alone.

    Args:
        params: parameters, or groups of them; both parts get the same.
        total_steps: optimizer steps of the whole run.
        first, then: make the two parts from groups of parameters.
        switch_at: share of the run, in (0, 1), after which ``then`` takes over.
    """

    def __init__(
        self,
        params: Parameters,
        total_steps: int,
        *,
        first: Callable[[Groups], Optimizer],
        then: Callable[[Groups], Optimizer],
        switch_at: float = 0.5,
    ) -> None:
        given = list(params)
        groups: Groups = [g if isinstance(g, dict) else {"params": [g]} for g in given]
        if given and not isinstance(given[0], dict):
            groups = [{"params": given}]
        super().__init__([dict(group) for group in groups], {})
        self.parts = tuple(make([dict(group) for group in groups]) for make in (first, then))
        self.steps, self.switch_step = 0, round(switch_at * total_steps)
        self._take_up()

    @property
    def switched(self) -> bool:
        """Whether the second part is at work."""
        return self.steps >= self.switch_step

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step the part at work."""
        loss = self.parts[self.switched].step(closure)
        if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            self.count_step()
        return loss

    def count_step(self) -> None:
        """Count a step. ``step`` does; whoever replays a CUDA graph of one has to, for a replay runs no Python."""
        self.steps += 1
        if self.steps == self.switch_step:
            self.parts[0].state.clear()  # nobody reads it again
            self._take_up()

    def _take_up(self) -> None:
        part = self.parts[self.switched]
        self.param_groups, self.state = part.param_groups, part.state

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.steps = state_dict["steps"]
        self._take_up()


def parts(optimizer: Optimizer) -> tuple[Optimizer, ...]:
    """The parts of a Switch, or the optimizer itself."""
    return optimizer.parts if isinstance(optimizer, SwitchOptimizer) else (optimizer,)


def parameter_groups(network: nn.Module, decay_norm_and_bias: bool = True, backbone_lr_factor: float = 1.0) -> Groups:
    """The parameters of a network, in a group, two, or four.

    Args:
        decay_norm_and_bias: if false, biases and norm parameters are in groups without weight decay.
        backbone_lr_factor: if not 1, all layers but the classifier are in groups of their own, after it, whose
            ``lr_factor`` (of the learning rate) is this.

    Raises:
        RequestError: the factor is not 1 and the network does not say which layer is its classifier.
    """
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


def build_optimizer(make: Callable[..., Optimizer], groups: Parameters, total_steps: int) -> Optimizer:
    """Call ``make`` with the groups, and with ``total_steps`` where its signature asks for it; then scale the learning
    rate of each group by its ``lr_factor``."""
    optimizer = make(groups, **steps_asked_for(make, total_steps))
    for part in parts(optimizer):
        for group in part.param_groups:
            group["lr"] *= group.get("lr_factor", 1)
    return optimizer


def steps_asked_for(make: Callable[..., Any], total_steps: int) -> dict[str, int]:
    """``{"total_steps": total_steps}`` where ``make`` takes such an argument and has no value for it yet."""
    asked = "total_steps" in inspect.signature(make).parameters
    return {"total_steps": total_steps} if asked and getattr(make, "keywords", {}).get("total_steps") is None else {}
