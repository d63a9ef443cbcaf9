"""Which steps can be captured as a CUDA graph; that they train as ordinary ones do is tested in test_gpu.py."""

from __future__ import annotations

import pytest
import torch
from helpers import config

from cnnbench.config.groups import groups, read_yaml
from cnnbench.training import build
from cnnbench.training.cuda_graph import make_capturable, reason_not_capturable
from cnnbench.training.optimizers import build_optimizer
from cnnbench.training.schedulers import one_cycle


def optimizer(name: str = "adam") -> torch.optim.Optimizer:
    parts = build.build_optimization(config(f"optimizer={name}"))
    return build_optimizer(parts["optimizer"], [torch.nn.Parameter(torch.zeros(3))], 2)


OF_TORCH = [name for name in groups()["optimizer"] if "_target_: torch" in read_yaml("optimizer", name)] + ["switch"]


@pytest.mark.parametrize("name", OF_TORCH)
def test_every_optimizer_of_torch_can_be_captured(name: str) -> None:
    assert reason_not_capturable(optimizer(name), None, plain=True, accumulate=1) is None


def test_the_reason_against_is_told() -> None:
    assert "scaler" in str(reason_not_capturable(optimizer(), None, plain=False, accumulate=1))
    assert "accumulated" in str(reason_not_capturable(optimizer(), None, plain=True, accumulate=2))
    cycled = optimizer("momentum")
    assert "momentum" in str(reason_not_capturable(cycled, one_cycle(cycled, 10), plain=True, accumulate=1))
    plain = torch.optim.LBFGS([torch.nn.Parameter(torch.zeros(3))])
    assert "LBFGS" in str(reason_not_capturable(plain, None, plain=True, accumulate=1))


def test_a_capturable_optimizer_follows_its_schedule() -> None:
    made = optimizer("adam")
    make_capturable(made, torch.device("cpu"))
    held = made.param_groups[0]["lr"]
    schedule = torch.optim.lr_scheduler.ExponentialLR(made, 0.5)
    schedule.step()
    assert made.param_groups[0]["lr"] is held  # the tensor that a recorded step reads is changed in place
    assert held.item() == pytest.approx(0.0005)
