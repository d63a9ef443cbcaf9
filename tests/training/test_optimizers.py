"""Parameter groups; and the switch of optimizers against two torch optimizers driven by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from helpers import config
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from cnnbench.models import MLP
from cnnbench.training.build import build_optimization
from cnnbench.training.cuda_graph import WARM_UP, CapturedStep
from cnnbench.training.optimizers import SwitchOptimizer, build_optimizer, parameter_groups
from cnnbench.training.schedulers import RunScheduler, build_scheduler
from cnnbench.utils.console import silence_libraries

STEPS, SWITCH = 20, 12
ADAM = {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}
MOMENTUM = {"lr": 0.03, "momentum": 0.7, "weight_decay": 0.05}
CYCLE = partial(OneCycleLR, pct_start=0.4)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def gradients(net: nn.Module, start: int, stop: int) -> Iterator[None]:
    """Leaves the gradients of a batch of its own in the network, once a step."""
    for step in range(start, stop):
        images = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        net(images).square().mean().backward()
        yield


def by_hand(schedule: str | None) -> nn.Module:
    net = network()
    groups = [{"params": [p for p in net.parameters() if p.ndim > 1]}, {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0}]  # fmt: skip
    first, then = Adam([dict(g) for g in groups], **ADAM, fused=True), SGD([dict(g) for g in groups], **MOMENTUM)
    schedules = []
    if schedule == "cosine":
        schedules = [CosineAnnealingLR(first, STEPS), CosineAnnealingLR(then, STEPS)]
    if schedule == "onecycle":
        schedules = [CYCLE(first, ADAM["lr"], STEPS), CYCLE(then, MOMENTUM["lr"], STEPS)]
    for step, _ in enumerate(gradients(net, 0, STEPS)):
        (first if step < SWITCH else then).step()
        net.zero_grad()
        for each in schedules:
            each.step()
    return net


def switch(net: nn.Module, schedule: str | None) -> tuple[SwitchOptimizer, RunScheduler | None]:
    make = partial(
        SwitchOptimizer, first=partial(Adam, **ADAM, fused=True), then=partial(SGD, **MOMENTUM), switch_at=0.6
    )
    optimizer = build_optimizer(make, parameter_groups(net, decay_norm_and_bias=False), STEPS)
    maker = {"cosine": partial(CosineAnnealingLR, T_max=STEPS), "onecycle": None}.get(schedule or "")
    if schedule == "onecycle":
        maker = build_optimization(config("scheduler=onecycle", "scheduler.pct_start=0.4"))["scheduler"]
    return optimizer, build_scheduler(maker, optimizer, STEPS) if maker else None  # type: ignore[return-value]


def go_on(net: nn.Module, optimizer: SwitchOptimizer, schedule: RunScheduler | None, start: int, stop: int) -> None:
    for _ in gradients(net, start, stop):
        optimizer.step()
        optimizer.zero_grad()
        if schedule:
            schedule.step()


@pytest.mark.parametrize("schedule", [None, "cosine", "onecycle"])
@pytest.mark.parametrize("interrupted", [None, 5, SWITCH, 16])
def test_a_switch_is_two_optimizers_one_after_the_other_also_when_resumed(
    schedule: str | None, interrupted: int | None, recwarn: pytest.WarningsRecorder
) -> None:
    silence_libraries()  # as a run does
    net = network()
    made = switch(net, schedule)
    go_on(net, *made, 0, interrupted or STEPS)
    if interrupted:
        saved = net.state_dict(), *(part.state_dict() for part in made if part)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
        made = switch(net, schedule)
        for part, state in zip((net, *made), saved, strict=False):
            part.load_state_dict(state)
        go_on(net, *made, interrupted, STEPS)
    assert not [str(w.message) for w in recwarn if "lr_scheduler" in str(w.message)]
    for mine, theirs in zip(net.parameters(), by_hand(schedule).parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_switch_shows_the_groups_and_the_rate_of_the_part_at_work() -> None:
    net = network()
    optimizer, _ = switch(net, None)
    assert optimizer.param_groups[0]["lr"] == ADAM["lr"] and not optimizer.switched
    go_on(net, optimizer, None, 0, SWITCH)
    assert optimizer.switched and [g["lr"] for g in optimizer.param_groups] == [MOMENTUM["lr"]] * 2
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.05, 0.0]
    assert not optimizer.optimizers[0].state  # what is not read again takes no memory


def test_another_pair_is_an_override() -> None:
    asked = ("optimizer=switch", "optimizer@optimizer.first=rmsprop", "optimizer@optimizer.then=sgd")
    make = build_optimization(config(*asked, "optimizer.then.lr=0.3"))["optimizer"]
    optimizer = build_optimizer(make, network().parameters(), 10)
    assert [type(part).__name__ for part in optimizer.optimizers] == ["RMSprop", "SGD"]  # type: ignore[attr-defined]
    assert optimizer.optimizers[1].param_groups[0]["lr"] == 0.3  # type: ignore[attr-defined]


def test_a_captured_switch_counts_replays_and_is_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, a graph that does nothing stands for the recorded step."""

    class Graph:
        def replay(self) -> None:
            pass

    optimizer, _ = switch(network(), None)
    recorded = []

    def capture(self: CapturedStep, images: torch.Tensor, labels: torch.Tensor) -> Graph:
        recorded.append((optimizer.steps, optimizer.switched))
        self.inputs = self.outputs = images, labels
        return Graph()

    def one_by_one(self: CapturedStep, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        optimizer.step()
        return images, labels

    monkeypatch.setattr(CapturedStep, "_capture", capture)
    monkeypatch.setattr(CapturedStep, "_warm_up", one_by_one)
    captured = CapturedStep(lambda images, labels: (images, labels), optimizer)
    for _ in range(STEPS):
        captured(torch.zeros(1), torch.zeros(1))
    assert optimizer.steps == STEPS
    assert recorded == [(WARM_UP, False), (SWITCH + WARM_UP, True)]


@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_every_parameter_is_in_one_group_with_its_rate_and_decay(decay: bool, factor: float) -> None:
    net = MLP(1, 3, 4, hidden=[8])
    make = partial(SGD, lr=2.0, weight_decay=0.5)
    groups = build_optimizer(make, parameter_groups(net, decay, factor), 1).param_groups
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(found) == 4
    for name, parameter in net.named_parameters():
        rate = 2.0 if name.startswith("head.2") else 2.0 * factor
        assert found[id(parameter)] == (rate, 0.0 if name.endswith("bias") and not decay else 0.5)
    assert groups[0]["lr"] == 2.0  # the rate that the history shows


def test_a_schedule_scales_the_rates_of_backbone_and_classifier_alike() -> None:
    for name in ("cosine", "onecycle", "exp", "step"):
        net = network()
        net.get_classifier = lambda net=net: net[2]
        optimizer = build_optimizer(partial(SGD, lr=0.5), parameter_groups(net, True, 0.1), 8)
        schedule = build_scheduler(build_optimization(config(f"scheduler={name}"))["scheduler"], optimizer, 8)
        rates = []
        for _ in range(2):
            optimizer.step()
            schedule.step()
            rates.append([group["lr"] for group in optimizer.param_groups])
        assert rates[0] != rates[1]
        assert [slow for _, slow in rates] == pytest.approx([fast / 10 for fast, _ in rates]), name


def test_an_optimizer_keeps_lists_of_its_yaml_as_lists() -> None:
    """NAdam, unlike Adam, keeps its betas as it got them; they go into checkpoints, which hold plain values alone."""
    wanted = config()
    wanted["optimizer"] = {"_target_": "torch.optim.NAdam", "_partial_": True, "lr": 0.01, "betas": [0.8, 0.9]}
    optimizer = build_optimization(wanted)["optimizer"](network().parameters())
    assert type(optimizer.state_dict()["param_groups"][0]["betas"]) is list
