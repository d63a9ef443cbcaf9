"""Learning-rate schedules that torch does not have in the form needed; all others are named in their YAML."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from cnnbench.training.optimizers import inner_optimizers, length_arguments
from cnnbench.utils.errors import RequestError

LONGER = "use scheduler.interval=step or"  # for a schedule that has too few intervals


def one_cycle(optimizer: Optimizer, total_steps: int, **options: Any) -> OneCycleLR:
    """torch's OneCycleLR with the optimizer's own learning rates, group by group, as the peaks, and with its momentum
    (or first beta) cycled where it has one (Smith & Topin 2017, "Super-convergence", section 3)."""
    if total_steps < 3:
        raise RequestError(f"a cycle of {total_steps} intervals does not rise and fall; {LONGER} more epochs")
    momentum = any("betas" in group or group.get("momentum", 0) for group in optimizer.param_groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, **{"cycle_momentum": momentum, **options})


def warmup_stable_decay(optimizer: Optimizer, total_steps: int, decay: float = 0.2, shape: str = "sqrt") -> LambdaLR:
    """A constant rate that falls to zero in the last share ``decay`` (Hu et al. 2024): by 1 - x (``linear``) or 1 -
    sqrt(x), where x is how far that share is over (both in Hägele et al. 2024). The warm-up is ``RunScheduler``'s."""
    length = decay * total_steps
    if length <= 1:
        wrong = f"scheduler.decay={decay} of {total_steps} intervals is not more than one"
        raise RequestError(f"{wrong}, so that the rate would not fall; {LONGER} more epochs")

    def factor(step: int) -> float:
        over = min(max(step - (total_steps - length), 0.0) / length, 1.0)
        return 1 - (math.sqrt(over) if shape == "sqrt" else over)

    return LambdaLR(optimizer, factor)


def cosine_restarts(
    optimizer: Optimizer, total_steps: int, cycles: int = 3, growth: int = 2, eta_min: float = 0.0
) -> LambdaLR:
    """Half cosines from the optimizer's rates to ``eta_min``, each ``growth`` times as long as the one before, of which
    the last ends with the run (Loshchilov & Hutter 2017, equation 5); torch's own has cycles of whole multiples alone."""
    lengths = [growth**cycle for cycle in range(cycles)]
    ends = [round(total_steps * sum(lengths[: cycle + 1]) / sum(lengths)) for cycle in range(cycles)]
    if len({0, *ends}) <= cycles:  # one of them would be empty
        raise RequestError(f"{cycles} cycles do not fit into {total_steps} intervals; {LONGER} fewer cycles")

    def factor(rate: float, step: int) -> float:
        cycle = min(bisect_right(ends, step), cycles - 1)
        first = ends[cycle - 1] if cycle else 0
        part = min((step - first) / (ends[cycle] - first), 1.0)
        return (eta_min + (rate - eta_min) * (1 + math.cos(math.pi * part)) / 2) / rate

    return LambdaLR(optimizer, [partial(factor, float(group["lr"])) for group in optimizer.param_groups])


class RunScheduler(LRScheduler):
    """The schedules of a run, one for each optimizer of a SwitchOptimizer, which advance at once, whichever is active;
    and a linear warm-up before them (Goyal et al. 2017, section 2.2): step n of the first ``steps`` has n / steps of
    the rates that they begin with. They wait until it is over, for ``waits`` whole intervals."""

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], steps: int = 0, waits: int = 0) -> None:
        # not LRScheduler's own, for the schedulers do all
        self.optimizer, self.schedulers, self.steps, self.waits = optimizer, list(schedulers), steps, waits
        self.cycle_momentum = any(getattr(scheduler, "cycle_momentum", False) for scheduler in schedulers)
        self.step_number = self.intervals = 0
        self.rates = [[float(group["lr"]) for group in of.param_groups] for of in inner_optimizers(optimizer)]
        self.warm_up()

    def warm_up(self) -> None:
        """Set the rates of the next optimizer step; call it after each."""
        if self.step_number >= self.steps:
            return
        self.step_number += 1
        for inner, rates in zip(inner_optimizers(self.optimizer), self.rates, strict=True):
            for group, rate in zip(inner.param_groups, rates, strict=True):
                value = rate * (self.step_number / self.steps)
                captured = isinstance(group["lr"], Tensor)  # which reads this tensor
                group["lr"] = group["lr"].fill_(value) if captured else value

    def step(self, *args: Any) -> None:
        self.intervals += 1
        for scheduler in self.schedulers if self.intervals > self.waits else ():
            scheduler.step(*args)

    def get_last_lr(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        schedules = [scheduler.state_dict() for scheduler in self.schedulers]
        return {"schedules": schedules, "step_number": self.step_number, "intervals": self.intervals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for scheduler, state in zip(self.schedulers, state_dict["schedules"], strict=True):
            scheduler.load_state_dict(state)
        self.step_number, self.intervals = state_dict.get("step_number", 0), state_dict.get("intervals", 0)


def watches_a_metric(scheduler: Any) -> bool:
    """Whether the schedule's ``step`` wants the objective's value."""
    return any(isinstance(one, ReduceLROnPlateau) for one in getattr(scheduler, "schedulers", [scheduler]))


def build_scheduler(
    make: Callable[..., LRScheduler] | None, optimizer: Optimizer, length: int, warmup: float = 0.0, unit: int = 1
) -> LRScheduler | None:
    """Call ``make``, if there is one, with the optimizer (with each of a SwitchOptimizer), and where it takes that with
    the run's ``length``, in steps or epochs of ``unit`` optimizer steps, less the share ``warmup`` of a warm-up."""
    steps = round(warmup * length * unit)
    waits = -(-steps // unit)
    arguments = length_arguments(make, max(length - waits, 1)) if make else {}
    schedulers = [make(inner, **arguments) for inner in inner_optimizers(optimizer)] if make else []
    if steps or len(schedulers) > 1:
        return RunScheduler(optimizer, schedulers, steps, waits)
    return next(iter(schedulers), None)
