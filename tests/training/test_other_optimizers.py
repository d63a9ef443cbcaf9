"""Optimizers of other packages: the two that need more than a step, against plain loops; and what is refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import config, installed
from lightning.pytorch import seed_everything
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from cnnbench.data.augment import epoch_generator
from cnnbench.training import build, preflight
from cnnbench.training import train as training
from cnnbench.training.optimizers import keep_statistics
from cnnbench.utils.errors import RequestError

BASE = ["model=tiny_cnn", "model.norm=batch", "data.image_size=12", "data.limit_train=160", "trainer.max_epochs=3",
        "trainer.accelerator=cpu", "threads=1", "scheduler=none", "steps_per_execution=3"]  # fmt: skip
Step = Callable[[torch.nn.Module, torch.optim.Optimizer, Tensor, Tensor], None]


def run_and_reference(
    folder: Path, asked: list[str], make: Callable[[Any], torch.optim.Optimizer], step: Step, end: Callable[..., None]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The last weights of a run and of a plain loop, by name; ``end`` is what the loop does after each epoch."""
    cfg = config(*asked, base=BASE)
    record = training.train(cfg, folder)
    assert record["status"] == "completed", record["error"]
    seed_everything(cfg["seed"], verbose=False)
    data = build.build_data(cfg)
    network = build.build_network(cfg, data)
    optimizer = make(network.parameters())
    images, labels = data.batch("train", np.arange(data.count("train"))), torch.from_numpy(data.labels("train"))
    for epoch in range(3):
        network.train()
        order = torch.randperm(len(labels), generator=epoch_generator(cfg["seed"], epoch, "order"))
        for x, y in DataLoader(TensorDataset(images[order], labels[order]), cfg["data"]["batch_size"]):
            step(network, optimizer, x, y)
        end(network, optimizer, images)
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    own = {name.removeprefix("network."): value for name, value in saved.items()}
    return own, network.state_dict()


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    for name, value in two.items():
        if value.is_floating_point():
            torch.testing.assert_close(
                one[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.skipif(not installed("schedulefree"), reason="needs schedulefree")
def test_schedule_free_is_evaluated_at_its_average_with_statistics_of_its_own(tmp_path: Path) -> None:
    import schedulefree

    def make(parameters: Any) -> torch.optim.Optimizer:
        optimizer = schedulefree.AdamWScheduleFree(parameters, lr=0.0025)
        optimizer.train()
        return optimizer

    def step(network: torch.nn.Module, optimizer: Any, x: Tensor, y: Tensor) -> None:
        optimizer.train()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    def end(network: torch.nn.Module, optimizer: Any, images: Tensor) -> None:
        optimizer.eval()
        update_bn(images.split(512), network)

    asked = ["optimizer=schedulefree", "data.eval_batch_size=512"]
    same(*run_and_reference(tmp_path, asked, make, step, end))


@pytest.mark.skipif(not installed("sam"), reason="needs pytorch_optimizer")
def test_sam_takes_the_gradient_at_the_worst_weights_nearby(tmp_path: Path) -> None:
    def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        """Foret et al. 2021, algorithm 1: e = rho g / |g|, then the base's step from w by the gradient at w + e."""
        torch.nn.functional.cross_entropy(network(x), y).backward()
        gradients = [parameter.grad.clone() for parameter in network.parameters()]
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        before = [parameter.detach().clone() for parameter in network.parameters()]
        statistics = {name: value.clone() for name, value in network.named_buffers()}
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.add_(0.05 * gradient / norm)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        with torch.no_grad():
            for parameter, value in zip(network.parameters(), before, strict=True):
                parameter.copy_(value)
            for name, value in network.named_buffers():
                value.copy_(statistics[name])
        optimizer.step()
        optimizer.zero_grad()

    asked = ["optimizer=sam", "optimizer.base_optimizer.lr=0.05"]
    same(*run_and_reference(
        tmp_path, asked, lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9), step, lambda *_: None
    ))  # fmt: skip


def test_passes_that_keep_the_statistics_normalise_all_the_same() -> None:
    layer = torch.nn.BatchNorm1d(3)
    images = torch.randn(8, 3) * 5 + 2
    before = layer.running_mean.clone()
    with keep_statistics(layer):
        shown = layer(images)
    assert torch.equal(layer.running_mean, before) and layer.momentum == 0.1
    torch.testing.assert_close(shown.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    layer(images)
    assert not torch.equal(layer.running_mean, before)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("optimizer=sam trainer.accumulate_grad_batches=2", "accumulate_grad_batches=1"),
        ("optimizer=schedulefree average=ema", "use average=none"),
        ("optimizer=switch optimizer@optimizer.then=schedulefree", "cannot be one of its two"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: str, told: str) -> None:
    if not all(installed(name) for name in ("sam", "schedulefree")):
        pytest.skip("needs the extras")
    with pytest.raises(RequestError, match=told):
        preflight.check(config(*asked.split()))


def test_an_average_in_16_bits_is_refused() -> None:
    with pytest.raises(RequestError, match="bf16-mixed"):
        preflight.check(config("average=ema", "trainer.precision=bf16-true"))


@pytest.mark.parametrize("name", ["lion", "lamb", "muon", "schedulefree", "sam"])
def test_a_package_that_is_not_there_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config(f"optimizer={name}")
    package = wanted["optimizer"]["_target_"].partition(".")[0]
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(
        RequestError, match=rf"optimizer: {package} is not installed: pip install 'cnnbench\[{package}\]'"
    ):
        preflight.check(wanted)
