"""Learning rates against their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config

from cnnbench.training.build import build_optimization
from cnnbench.training.optimizers import build_optimizer
from cnnbench.training.schedulers import build_scheduler, cosine_restarts, one_cycle
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError


def one_cycle_of(length: int, step: int) -> float:
    """The rate of torch's OneCycleLR after so many steps, as a share of the peak."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, length, pct_start=0.3)
    for _ in range(step):
        optimizer.step()
        schedule.step()
    return schedule.get_last_lr()[0]


@pytest.mark.parametrize(
    ("asked", "formula"),
    [
        (("scheduler=none",), lambda e: 1.0),
        (("scheduler=exp", "scheduler.gamma=0.5"), lambda e: 0.5**e),
        (("scheduler=step", "scheduler.step_size=2", "scheduler.gamma=0.1"), lambda e: 0.1 ** (e // 2)),
        (("scheduler=cosine",), lambda e: (1 + math.cos(math.pi * e / 4)) / 2),
        # one that advances by steps has advanced at the end of the epoch
        (("scheduler=cosine", "scheduler.interval=step"), lambda e: (1 + math.cos(math.pi * (e + 1) / 4)) / 2),
        (("scheduler=onecycle", "scheduler.interval=epoch"), lambda e: one_cycle_of(4, e)),
        (("scheduler=poly", "scheduler.power=0.5"), lambda e: (1 - e / 4) ** 0.5),
        (
            ("scheduler=cosine_restarts", "scheduler.interval=epoch", "scheduler.cycles=2", "scheduler.growth=1"),
            lambda e: (1, 0.5, 1, 0.5)[e],
        ),
        (
            ("scheduler=wsd", "scheduler.warmup=0", "scheduler.decay=0.5"),
            lambda e: 1 - math.sqrt(max(e - 1, 0) / 2),
        ),
        (("scheduler=cosine", "scheduler.warmup=0.5"), lambda e: (6 / 10, 1, 1, 0.5)[e]),
        (("scheduler=exp", "scheduler.warmup=0.4", "scheduler.gamma=0.5"), lambda e: (6 / 8, 1, 1, 0.5)[e]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_rate_of_each_epoch(tmp_path: Path, asked: tuple[str, ...], formula) -> None:
    record = train(config(*asked, "trainer.max_epochs=4", "optimizer.lr=0.01"), tmp_path)
    expected = [0.01 * formula(epoch) for epoch in range(4)]  # with which the epoch ended, not that of the next one
    np.testing.assert_allclose(record["history"]["lr"], expected, rtol=1e-6, atol=1e-12)


def test_one_cycle_peaks_at_each_groups_own_rate_and_turns_the_momentum_round() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.01}], momentum=0.9
    )
    schedule = one_cycle(optimizer, total_steps=100, pct_start=0.3)
    rates, momenta = [], []
    for _ in range(100):
        rates.append([group["lr"] for group in optimizer.param_groups])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        schedule.step()
    peak = np.argmax([rate[0] for rate in rates])
    assert peak == 29
    np.testing.assert_allclose(np.max(rates, axis=0), [0.1, 0.01])
    assert momenta[peak] == pytest.approx(0.85) and max(momenta) == pytest.approx(0.95)


def rates(asked: tuple[str, ...], steps: int, epochs: int = 1, resumed_at: int = 0) -> list[float]:
    """The rate of each optimizer step, with the schedule and the optimizer saved and built anew after some."""
    cfg = config("optimizer=momentum", "optimizer.lr=0.3", f"trainer.max_epochs={epochs}", *asked)
    parts = build_optimization(cfg)
    length = steps if parts["interval"] == "step" else epochs

    def build() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = build_optimizer(parts["optimizer"], [torch.nn.Parameter(torch.zeros(1))], steps)
        schedule = build_scheduler(parts["scheduler"], optimizer, length, parts["warmup"], steps // length)
        assert schedule is not None
        return optimizer, schedule

    (optimizer, schedule), found = build(), []
    for step in range(1, steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        getattr(schedule, "warm_up", lambda: None)()
        if step % (steps // length) == 0:
            schedule.step()
        if step == resumed_at:
            saved, (optimizer, schedule) = (optimizer.state_dict(), schedule.state_dict()), build()
            optimizer.load_state_dict(saved[0])
            schedule.load_state_dict(saved[1])
    return found


def sequential(steps: int, first: int, make) -> list[float]:
    """Likewise torch's LinearLR and another schedule, one after the other."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.3)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / first, total_iters=first - 1)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, make(optimizer)], [first])
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("resumed_at", [0, 3, 12, 25])
@pytest.mark.parametrize(
    ("asked", "make"),
    [
        (("scheduler=cosine",), lambda made: torch.optim.lr_scheduler.CosineAnnealingLR(made, 30)),
        (("scheduler=poly",), lambda made: torch.optim.lr_scheduler.PolynomialLR(made, 30, 0.9)),
        (("scheduler=step", "scheduler.step_size=7"), lambda made: torch.optim.lr_scheduler.StepLR(made, 7, 0.7)),
        (("scheduler=none",), lambda made: torch.optim.lr_scheduler.ConstantLR(made, 1.0)),
        (("scheduler=wsd", "scheduler.shape=linear"),
         lambda made: torch.optim.lr_scheduler.LambdaLR(made, lambda k: 1 - max(k - 24, 0) / 6)),
        (("scheduler=cosine_restarts", "scheduler.cycles=4"),
         lambda made: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(made, 2, 2)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_warm_up_is_torchs_in_sequence_with_what_is_left_also_when_resumed(asked, make, resumed_at: int) -> None:
    found = rates((*asked, "scheduler.interval=step", "scheduler.warmup=0.25"), 40, resumed_at=resumed_at)
    np.testing.assert_allclose(found, sequential(40, 10, make), rtol=1e-9, atol=1e-12)
    assert found == rates((*asked, "scheduler.interval=step", "scheduler.warmup=0.25"), 40)


def test_cycles_that_do_not_divide_the_run_end_with_it() -> None:
    found = rates(("scheduler=cosine_restarts", "scheduler.interval=step", "scheduler.eta_min=0.1"), 10)  # 1, 3 and 6
    parts = [0, 0, 1 / 3, 2 / 3, *(step / 6 for step in range(6))]
    np.testing.assert_allclose(found, [0.1 + 0.2 * (1 + math.cos(math.pi * part)) / 2 for part in parts], rtol=1e-12)


@pytest.mark.parametrize(("steps", "cycles", "growth"), [(3, 5, 1), (2, 3, 1), (2, 2, 5)])
def test_more_cycles_than_there_is_room_for_are_refused(steps: int, cycles: int, growth: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    with pytest.raises(RequestError, match=f"{cycles} cycles do not fit into {steps} intervals"):
        cosine_restarts(optimizer, steps, cycles, growth)


def test_a_schedule_by_epochs_waits_for_the_epoch_in_which_the_warm_up_ends() -> None:
    found = rates(("scheduler=cosine", "scheduler.warmup=0.3"), 40, epochs=8)  # 12 steps; an epoch is 5
    rising = [0.3 * step / 12 for step in range(1, 13)]
    falling = [0.3 * (1 + math.cos(math.pi * epoch / 5)) / 2 for epoch in range(5) for _ in range(5)]
    np.testing.assert_allclose(found, [*rising, 0.3, 0.3, 0.3, *falling], rtol=1e-9)


def test_every_group_and_both_of_a_switch_warm_up() -> None:
    parts = build_optimization(config("optimizer=switch", "scheduler=plateau", "scheduler.warmup=0.5"))
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_factor": factor} for factor in (1, 0.1)]
    optimizer = build_optimizer(parts["optimizer"], groups, 8)
    full = [[group["lr"] for group in part.param_groups] for part in optimizer.optimizers]
    schedule = build_scheduler(parts["scheduler"], optimizer, 2, parts["warmup"], 4)
    for step in range(1, 5):
        for part, expected in zip(optimizer.optimizers, full, strict=True):
            assert [group["lr"] for group in part.param_groups] == pytest.approx([lr * step / 4 for lr in expected])
        optimizer.step()
        schedule.warm_up()
    assert [[group["lr"] for group in part.param_groups] for part in optimizer.optimizers] == full
    schedule.step(5.0)  # the warm-up's own epoch does not count
    assert [plateau.num_bad_epochs for plateau in schedule.schedulers] == [0, 0]
    assert all(math.isinf(plateau.best) for plateau in schedule.schedulers)
    schedule.step(5.0)
    assert [plateau.best for plateau in schedule.schedulers] == [5.0, 5.0]
