"""Averaged weights against a plain loop with torch's own ``AveragedModel``; what evaluates finds the average."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import config
from lightning.pytorch import seed_everything
from same import differences, weights
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from cnnbench.data.augment import epoch_generator
from cnnbench.inference.load import load_run
from cnnbench.training import build
from cnnbench.training import train as training
from cnnbench.training.callbacks.average import EMA, WeightAveraging
from cnnbench.training.module import ImageClassifier
from cnnbench.training.optimizers import build_optimizer, parameter_groups
from cnnbench.utils.record import read_record

BASE = ["model=tiny_cnn", "model.norm=batch", "data.image_size=12", "data.limit_train=160", "trainer.max_epochs=4",
        "trainer.accelerator=cpu", "threads=1", "optimizer=momentum", "scheduler=none"]  # fmt: skip


def go(folder: Path, *overrides: str) -> dict[str, Any]:
    record = training.train(config(*overrides, base=BASE), folder)
    assert record["status"] == "completed", record["error"]
    return record


def ema(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The formula: at the n-th update after the first weights the decay is at most (1 + n) / (10 + n)."""

    def average(old: Tensor, new: Tensor, count: Tensor) -> Tensor:
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        return share * old + (1 - share) * new

    return average


def reference(cfg: dict[str, Any], average: Any, first: int) -> tuple[torch.nn.Module, torch.nn.Module, list[float]]:
    """A loop as torch's documentation has it. Returns the network, its average, and the latter's accuracy on the validation
    set after each epoch."""
    torch.set_num_threads(1)
    seed_everything(cfg["seed"], verbose=False)
    data = build.build_data(cfg)
    network = build.build_network(cfg, data)
    averaged = AveragedModel(network, avg_fn=average, use_buffers=True)
    images, labels = data.batch("train", np.arange(data.count("train"))), torch.from_numpy(data.labels("train"))
    held, truth = data.batch("val", np.arange(data.count("val"))), torch.from_numpy(data.labels("val"))
    optimizer = build_optimizer(build.build_optimization(cfg)["optimizer"], parameter_groups(network), 1)
    done, accuracies, batch = 0, [], cfg["data"]["batch_size"]
    for epoch in range(cfg["trainer"]["max_epochs"]):
        order = torch.randperm(len(labels), generator=epoch_generator(cfg["seed"], epoch, "order"))
        for x, y in DataLoader(TensorDataset(images[order], labels[order]), batch):
            network.train()
            torch.nn.functional.cross_entropy(network(x), y).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), cfg["trainer"]["gradient_clip_val"] or 1e9)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done > first:
                averaged.update_parameters(network)
        shown = averaged.module if done > first else network
        with torch.no_grad():
            accuracies.append((copy.deepcopy(shown).eval()(held).argmax(1) == truth).double().mean().item())
    return network, averaged.module, accuracies


@pytest.mark.parametrize(
    ("asked", "average", "first"),
    [
        (("average=ema",), ema(0.999), 0),
        (("average=ema", "average.decay=0.5", "average.start=0.3", "trainer.gradient_clip_val=0.5"), ema(0.5), 6),
        (("average=swa", "steps_per_execution=3"), None, 15),  # of 20 steps
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_run_has_the_average_of_a_plain_loop(
    tmp_path: Path, asked: tuple[str, ...], average: Any, first: int
) -> None:
    record = go(tmp_path, *asked)
    network, averaged, accuracies = reference(config(*asked, base=BASE), average, first)
    assert record["history"]["val/accuracy"] == pytest.approx(accuracies)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    (own,) = (state for name, state in saved["callbacks"].items() if name in ("EMA", "SWA"))
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():  # batch norm counts its batches on, which nothing uses
            torch.testing.assert_close(saved["state_dict"][f"network.{name}"], value, rtol=1e-5, atol=1e-6)
            assert torch.equal(
                own["training"][f"network.{name}"], network.state_dict()[name]
            )  # training has not changed
    assert record["protocol"]["average"] == asked[0].partition("=")[2].upper()


def test_test_export_and_start_are_of_the_average(tmp_path: Path) -> None:
    asked = ["average=ema", "optimizer.lr=0.1"]
    record = go(tmp_path / "run", *asked)
    assert record["best"]["val/accuracy"] != go(tmp_path / "plain", "optimizer.lr=0.1")["best"]["val/accuracy"]
    data = build.build_data(config(*asked, base=BASE))
    network = load_run(tmp_path / "run").network
    for split, value in (("val", record["best"]["val/accuracy"]), ("test", record["metrics"]["test/accuracy"])):
        with torch.no_grad():
            predicted = network(data.batch(split, np.arange(data.count(split)))).argmax(1).numpy()
        assert (predicted == data.labels(split)).mean() == pytest.approx(value)
    last = go(tmp_path / "last", *asked, "test_with=last")
    with torch.no_grad():
        predicted = (
            load_run(tmp_path / "last", "last").network(data.batch("test", np.arange(data.count("test")))).argmax(1)
        )
    assert (predicted.numpy() == data.labels("test")).mean() == pytest.approx(last["metrics"]["test/accuracy"])
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    cfg = config(f"init_from={best}", base=BASE)
    started = build.build_network(cfg, build.build_data(cfg)).state_dict()
    assert all(
        torch.equal(value, weights(tmp_path / "run", "best")[f"network.{name}"]) for name, value in started.items()
    )


@pytest.mark.parametrize(
    ("asked", "step"),
    [
        (["average=ema", "optimizer=switch", "fine_tune=head_first", "fine_tune.frozen_epochs=1"], 4),  # in the first epoch
        (["average=swa", "average.start=0.5", "trainer.accumulate_grad_batches=2", "scheduler=plateau"], 4),  # not begun
        (["average=swa", "average.start=0.2", "model.hidden=[16]", "model.dropout=0.3"], 13),
        (["average=ema", "data.validation=none", "objective=train/loss", "trainer.precision=bf16-mixed"], 15),  # of the epoch
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_stopped_run_goes_on_to_the_same_average(tmp_path: Path, asked: list[str], step: int) -> None:
    fault = ["+callbacks.fault._target_=faults.Fault", "+callbacks.fault.how=term", f"+callbacks.fault.step={step}",
             f"+callbacks.fault.folder='{tmp_path}'"]  # fmt: skip
    go(tmp_path / "whole", *asked, "data.batch_size=24", "steps_per_execution=1")
    part = config(*asked, *fault, "data.batch_size=24", "steps_per_execution=2", base=BASE)
    assert training.train(part, tmp_path / "part")["status"] == "interrupted"
    go(tmp_path / "part", *asked, *fault, "data.batch_size=24", "steps_per_execution=3")
    assert not differences(tmp_path / "whole", tmp_path / "part")


@pytest.mark.parametrize("average", ["none", "ema"])
def test_an_update_a_step_and_none_where_nothing_is_averaged(
    tmp_path: Path, average: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    update = WeightAveraging.update
    monkeypatch.setattr(WeightAveraging, "update", lambda self: (counted.append(self.steps), update(self))[1])
    seen: list[bool] = []
    step = ImageClassifier.training_step
    monkeypatch.setattr(
        ImageClassifier,
        "training_step",
        lambda self, *given: (seen.append(self.average_weights is None), step(self, *given))[1],
    )
    go(tmp_path, f"average={average}", "data.batch_size=24", "steps_per_execution=3", "trainer.max_epochs=2")
    assert counted == (list(range(14)) if average == "ema" else [])
    assert len(seen) == 6 and set(seen) == {average == "none"}


def test_the_memory_of_the_network_stays_where_a_captured_step_has_it() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).to(
        memory_format=torch.channels_last
    )
    before = [(value.data_ptr(), value.stride()) for value in network.state_dict().values()]
    average = EMA(0.9)
    average.attach(network, 10)
    for _ in range(3):
        average.exchange(training=True)
        with torch.no_grad():
            network[0].weight.add_(1.0)
        average.update()
        average.exchange(training=False)
    assert before == [(value.data_ptr(), value.stride()) for value in network.state_dict().values()]


def test_the_report_says_which_weights_were_evaluated(tmp_path: Path) -> None:
    from cnnbench.analysis.report import write

    for name in ("ema", "none"):
        go(tmp_path / name, f"average={name}", "trainer.max_epochs=1")
        assert read_record(tmp_path / name)["choices"] == {}
    write.build([tmp_path]).write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Validation and test are of averaged weights in 1 of 2 runs (EMA)" in page
