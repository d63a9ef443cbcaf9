"""Learning-rate schedules that torch does not have in the form needed; all others are named in their YAML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from cnnbench.training.optimizers import parts, steps_asked_for


def one_cycle(optimizer: Optimizer, total_steps: int, **options: Any) -> OneCycleLR:
    """torch's OneCycleLR with the optimizer's own learning rates, group by group, as the peaks.

    Args:
        optimizer: its momentum (or first beta) is cycled too where it has one.
        total_steps: optimizer steps of the whole run.
        options: of OneCycleLR (pct_start, div_factor, final_div_factor, anneal_strategy ...).

    Source: Smith & Topin 2017, "Super-convergence", section 3.
    """
    momentum = any("betas" in group or group.get("momentum", 0) for group in optimizer.param_groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, **{"cycle_momentum": momentum, **options})


class Together(LRScheduler):
    """A schedule for each part of an ``optim.Switch``, all advanced at once, whichever part is at work.

    Args:
        optimizer: the Switch.
        schedules: of its parts.
    """

    def __init__(self, optimizer: Optimizer, schedules: Sequence[LRScheduler]) -> None:
        # not LRScheduler's own: there is nothing here to schedule but what the schedules do
        self.optimizer, self.schedules = optimizer, list(schedules)
        self.base_lrs = [rate for schedule in schedules for rate in getattr(schedule, "base_lrs", [])]
        for part in parts(optimizer):
            part._opt_called = True  # type: ignore[attr-defined]  # else torch warns for the part that rests

    @property
    def cycle_momentum(self) -> bool:
        """Whether any of the schedules changes the momentum."""
        return any(getattr(schedule, "cycle_momentum", False) for schedule in self.schedules)

    def step(self, *args: Any) -> None:
        for schedule in self.schedules:
            schedule.step(*args)

    def get_last_lr(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"schedules": [schedule.state_dict() for schedule in self.schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for schedule, state in zip(self.schedules, state_dict["schedules"], strict=True):
            schedule.load_state_dict(state)


def watches_a_metric(scheduler: Any) -> bool:
    """Whether the schedule's ``step`` wants the objective's value."""
    return isinstance(getattr(scheduler, "schedules", [scheduler])[0], ReduceLROnPlateau)


def build_scheduler(make: Callable[..., LRScheduler], optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Call ``make`` with the optimizer (with each part of a Switch), and with ``total_steps`` where its signature asks
    for it and it is not set."""
    made = [make(part, **steps_asked_for(make, total_steps)) for part in parts(optimizer)]
    return made[0] if len(made) == 1 else Together(optimizer, made)
