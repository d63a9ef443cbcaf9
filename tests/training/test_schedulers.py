"""Learning rates against their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config

from cnnbench.training.schedulers import one_cycle
from cnnbench.training.train import train


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
        (("scheduler=cosine", "scheduler.interval=step"), lambda e: (1 + math.cos(math.pi * e / 4)) / 2),
        (("scheduler=onecycle", "scheduler.interval=epoch"), lambda e: one_cycle_of(4, e)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_rate_of_each_epoch(tmp_path: Path, asked: tuple[str, ...], formula) -> None:
    record = train(config(*asked, "trainer.max_epochs=4", "optimizer.lr=0.01"), tmp_path)
    # the history has the rate after an epoch's step, which is that of the next one
    expected = [0.01 * formula(epoch) for epoch in range(1, 5)]
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
