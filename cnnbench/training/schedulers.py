"""Learning-rate schedules that torch does not have in the form needed; all others are named in their YAML."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

from cnnbench.training.optimizers import inner_optimizers, length_arguments
from cnnbench.utils.errors import RequestError


def one_cycle(optimizer: Optimizer, total_steps: int, **options: Any) -> OneCycleLR:
    """torch's OneCycleLR with the optimizer's own learning rates, group by group, as the peaks, and with its momentum (or
    first beta) cycled where it has one (Smith & Topin 2017, "Super-convergence", section 3)."""
    if total_steps < 3:
        raise RequestError(
            f"a cycle of {total_steps} intervals does not rise and fall; use scheduler.interval=step or more epochs"
        )
    momentum = any("betas" in group or group.get("momentum", 0) for group in optimizer.param_groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, **{"cycle_momentum": momentum, **options})


def warmup_stable_decay(optimizer: Optimizer, total_steps: int, decay: float = 0.2, shape: str = "sqrt") -> LambdaLR:
    """A constant rate that falls to zero in the last share ``decay`` (Hu et al. 2024): by 1 - x (``linear``) or 1 - sqrt(x),
    where x is how far that share is over (both in Hägele et al. 2024). The warm-up is ``WarmUp``'s."""
    length = decay * total_steps
    if length <= 1:
        raise RequestError(
            f"scheduler.decay={decay} of {total_steps} intervals is not more than one, so that the rate would not fall; use "
            "scheduler.interval=step or more epochs"
        )

    def factor(step: int) -> float:
        over = min(max(step - (total_steps - length), 0.0) / length, 1.0)
        return 1 - (math.sqrt(over) if shape == "sqrt" else over)

    return LambdaLR(optimizer, factor)


def cosine_restarts(
    optimizer: Optimizer, total_steps: int, cycles: int = 3, growth: int = 2, eta_min: float = 0.0
) -> LambdaLR:
    """Half cosines from the optimizer's rates to ``eta_min``, each ``growth`` times as long as the one before, of which the
    last ends with the run (Loshchilov & Hutter 2017, equation 5); torch's own has cycles of whole multiples alone."""
    lengths = [growth**cycle for cycle in range(cycles)]
    ends = [round(total_steps * sum(lengths[: cycle + 1]) / sum(lengths)) for cycle in range(cycles)]
    if ends[0] < 1:
        raise RequestError(
            f"{cycles} cycles do not fit into {total_steps} intervals; use scheduler.interval=step or fewer cycles"
        )

    def factor(rate: float, step: int) -> float:
        cycle = min(bisect_right(ends, step), cycles - 1)
        first = ends[cycle - 1] if cycle else 0
        part = min((step - first) / (ends[cycle] - first), 1.0)
        return (eta_min + (rate - eta_min) * (1 + math.cos(math.pi * part)) / 2) / rate

    return LambdaLR(optimizer, [partial(factor, float(group["lr"])) for group in optimizer.param_groups])


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


class WarmUp(SwitchScheduler):
    """A linear warm-up (Goyal et al. 2017, section 2.2) before any schedules: step n of the first ``steps`` has n / steps of
    the rates that these begin with. They wait until it is over, for whole intervals.

    Args:
        schedulers: none, or one for each optimizer.
        waits: intervals of theirs that the warm-up takes.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], steps: int, waits: int) -> None:
        super().__init__(optimizer, schedulers)
        self.steps, self.waits = steps, waits
        self.step_number = self.intervals = 0
        self.rates = [[float(group["lr"]) for group in groups] for groups in self._groups()]
        self.warm_up()

    def _groups(self) -> list[list[dict[str, Any]]]:
        """Of each optimizer; a loaded state replaces them."""
        return [inner.param_groups for inner in inner_optimizers(self.optimizer)]

    def warm_up(self) -> None:
        """Set the rates of the next optimizer step; call it after each."""
        if self.step_number >= self.steps:
            return
        self.step_number += 1
        for groups, rates in zip(self._groups(), self.rates, strict=True):
            for group, rate in zip(groups, rates, strict=True):
                value = rate * (self.step_number / self.steps)
                if isinstance(group["lr"], Tensor):  # that a captured step reads
                    group["lr"].fill_(value)
                else:
                    group["lr"] = value

    def step(self, *args: Any) -> None:
        self.intervals += 1
        if self.intervals > self.waits:
            super().step(*args)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "step_number": self.step_number, "intervals": self.intervals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.step_number, self.intervals = state_dict["step_number"], state_dict["intervals"]


def watches_a_metric(scheduler: Any) -> bool:
    """Whether the schedule's ``step`` wants the objective's value."""
    return any(isinstance(one, ReduceLROnPlateau) for one in getattr(scheduler, "schedulers", [scheduler]))


def build_scheduler(
    make: Callable[..., LRScheduler] | None,
    optimizer: Optimizer,
    length: int,
    warmup: float = 0.0,
    steps_per_interval: int = 1,
) -> LRScheduler | None:
    """Call ``make``, if there is one, with the optimizer (with each of a SwitchOptimizer), and with the length of the run, in
    steps or epochs as the schedule advances, where it asks for that.

    Args:
        warmup: share of the run with a linear warm-up, which the schedule waits for; its length is of what is left.
        steps_per_interval: optimizer steps in the unit of ``length``.
    """
    steps = round(warmup * length * steps_per_interval)
    waits = -(-steps // steps_per_interval)
    arguments = length_arguments(make, max(length - waits, 1)) if make else {}
    schedulers = [make(inner, **arguments) for inner in inner_optimizers(optimizer)] if make else []
    if steps:
        return WarmUp(optimizer, schedulers, steps, waits)
    return SwitchScheduler(optimizer, schedulers) if len(schedulers) > 1 else next(iter(schedulers), None)
