"""Learning-rate schedules that torch does not have in the form needed; all others are named in their YAML."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from cnnbench.training.optimizers import inner_optimizers, length_arguments


def one_cycle(optimizer: Optimizer, total_steps: int, **options: Any) -> OneCycleLR:
    """torch's OneCycleLR with the optimizer's own learning rates, group by group, as the peaks, and with its momentum (or
    first beta) cycled where it has one (Smith & Topin 2017, "Super-convergence", section 3)."""
    momentum = any("betas" in group or group.get("momentum", 0) for group in optimizer.param_groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, **{"cycle_momentum": momentum, **options})


class SwitchScheduler(LRScheduler):
    """A schedule for each optimizer of a SwitchOptimizer; all advance at once, whichever optimizer is active."""

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler]) -> None:
        # not LRScheduler's own, for the schedulers do all
        self.optimizer, self.schedulers = optimizer, list(schedulers)
        self.base_lrs = [rate for scheduler in schedulers for rate in getattr(scheduler, "base_lrs", [])]
        for inner in inner_optimizers(optimizer):
            inner._opt_called = True  # type: ignore[attr-defined]  # else torch warns for the one that rests

    @property
    def cycle_momentum(self) -> bool:
        """Whether any of the schedules changes the momentum."""
        return any(getattr(scheduler, "cycle_momentum", False) for scheduler in self.schedulers)

    def step(self, *args: Any) -> None:
        for scheduler in self.schedulers:
            scheduler.step(*args)

    def get_last_lr(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"schedules": [scheduler.state_dict() for scheduler in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for scheduler, state in zip(self.schedulers, state_dict["schedules"], strict=True):
            scheduler.load_state_dict(state)


def watches_a_metric(scheduler: Any) -> bool:
    """Whether the schedule's ``step`` wants the objective's value."""
    return isinstance(getattr(scheduler, "schedulers", [scheduler])[0], ReduceLROnPlateau)


def build_scheduler(make: Callable[..., LRScheduler], optimizer: Optimizer, length: int) -> LRScheduler:
    """Call ``make`` with the optimizer (with each of a SwitchOptimizer), and with the length of the run, in steps or epochs
    as the schedule advances, where it asks for that."""
    arguments = length_arguments(make, length)
    schedulers = [make(inner, **arguments) for inner in inner_optimizers(optimizer)]
    return schedulers[0] if len(schedulers) == 1 else SwitchScheduler(optimizer, schedulers)
