"""A run does what a plain PyTorch loop does, to the bit, and its record says so."""

from __future__ import annotations

import ctypes
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import config, installed
from lightning.pytorch import seed_everything
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cnnbench.config.groups import groups
from cnnbench.data.augment import epoch_generator
from cnnbench.training import build
from cnnbench.training import train as training
from cnnbench.training.optimizers import build_optimizer
from cnnbench.training.recording import describe_end
from cnnbench.training.schedulers import build_scheduler
from cnnbench.utils.environment import available_cores
from cnnbench.utils.record import read_record

OPTIMIZERS = [name for name in groups()["optimizer"] if name not in ("sam", "schedulefree") and installed(name)]
SCHEDULERS = groups()["scheduler"]


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    record = training.train(config(*overrides), folder)
    assert record["status"] == "completed", record["error"]
    return record


def plain_loop(cfg: dict[str, Any], schedule: Any = None) -> tuple[torch.nn.Module, list[float]]:
    """What a person would write: no Lightning, no chunks; returns the network and the mean loss of each epoch.

    ``schedule`` makes the schedule from the optimizer and the steps of the run, in place of the configuration's.
    """
    torch.set_num_threads(cfg["threads"] or available_cores())
    seed_everything(cfg["seed"], verbose=False)
    data = build.build_data(cfg)
    options = cfg["trainer"]
    dtype = torch.float64 if options["precision"] == "64-true" else torch.float32
    network = build.build_network(cfg, data).to(dtype)
    arrays, rows = data.prepared.arrays, data.rows["train"]
    mean, std = (torch.tensor(v)[:, None, None] for v in data.statistics())
    images = torch.from_numpy(arrays["train_images"][rows]).permute(0, 3, 1, 2).float()
    images = (images * (1 / (255 * std)) + (-mean / std)).to(dtype)
    labels = torch.from_numpy(arrays["train_labels"][rows])
    parts = build.build_optimization(cfg)
    size, accumulate = cfg["data"]["batch_size"], options["accumulate_grad_batches"]
    per_epoch = math.ceil(math.ceil(len(labels) / size) / accumulate)
    optimizer = build_optimizer(parts["optimizer"], network.parameters(), per_epoch * cfg["trainer"]["max_epochs"])
    make = parts["scheduler"]
    scheduler = schedule and schedule(optimizer, per_epoch * cfg["trainer"]["max_epochs"])
    if scheduler is None:
        epochs = cfg["trainer"]["max_epochs"]
        length = per_epoch * epochs if parts["interval"] == "step" else epochs
        scheduler = build_scheduler(make, optimizer, length, parts["warmup"], per_epoch * epochs // length)
    warm_up = getattr(scheduler, "warm_up", lambda: None)
    losses = []
    for epoch in range(cfg["trainer"]["max_epochs"]):
        network.train()
        order = torch.randperm(len(labels), generator=epoch_generator(cfg["seed"], epoch, "order"))
        total_loss = 0.0
        batches = order.split(size)
        for group in (batches[start : start + accumulate] for start in range(0, len(batches), accumulate)):
            for batch in group:
                loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
                (loss / len(group)).backward()
                total_loss += loss.item() * len(batch)
            if options["gradient_clip_val"] is not None:
                torch.nn.utils.clip_grad_value_(network.parameters(), options["gradient_clip_val"])
            optimizer.step()
            optimizer.zero_grad()
            warm_up()
            if scheduler is not None and parts["interval"] == "step":
                scheduler.step()
        losses.append(total_loss / len(labels))
        if scheduler is not None and parts["interval"] == "epoch":
            # the plateau rule watches the training loss here, which this loop has at hand
            scheduler.step(losses[-1]) if cfg["scheduler"]["_target_"].endswith("Plateau") else scheduler.step()
    return network, losses


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [(o, "cosine") for o in OPTIMIZERS] + [("adam", s) for s in SCHEDULERS],
)
def test_a_run_equals_a_plain_loop_to_the_bit(tmp_path: Path, optimizer: str, scheduler: str) -> None:
    asked = (f"optimizer={optimizer}", f"scheduler={scheduler}", "objective=train/loss", "trainer.max_epochs=3")
    if scheduler == "plateau":
        asked += ("scheduler.patience=0", "scheduler.threshold=0.9")
    record = run(tmp_path, *asked)
    network, losses = plain_loop(config(*asked))
    mine = weights(tmp_path)
    for name, value in network.state_dict().items():
        assert torch.equal(mine[f"network.{name}"], value), name
    np.testing.assert_allclose(record["history"]["train/loss"], losses, rtol=1e-6)


@pytest.mark.parametrize(
    "asked",
    [
        ("trainer.accumulate_grad_batches=4",),  # five batches, so the second group is of one
        ("trainer.accumulate_grad_batches=4", "data.batch_size=27"),  # six, the last of them smaller: a group of two
        ("trainer.gradient_clip_val=0.001", "+trainer.gradient_clip_algorithm=value"),
        ("trainer.precision=64-true",),
    ],
    ids=" ".join,
)
def test_so_does_one_with_other_steps(tmp_path: Path, asked: tuple[str, ...]) -> None:
    asked = ("optimizer=sgd", "scheduler=exp", *asked)
    run(tmp_path, *asked)
    network, _ = plain_loop(config(*asked))
    mine = weights(tmp_path)
    for name, value in network.state_dict().items():
        assert mine[f"network.{name}"].dtype == value.dtype and torch.equal(mine[f"network.{name}"], value), name


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_one_cycle_is_torchs_with_its_momentum_step_by_step(tmp_path: Path, optimizer: str) -> None:
    cfg = config(f"optimizer={optimizer}", "scheduler=onecycle", "trainer.max_epochs=3", "steps_per_execution=3")
    momenta = []

    class Watched(torch.optim.lr_scheduler.OneCycleLR):
        def step(self, *args: Any) -> None:
            super().step(*args)
            group = self.optimizer.param_groups[0]
            momenta.append(group["momentum"] if "momentum" in group else group["betas"][0])

    network, _ = plain_loop(cfg, lambda made, steps: Watched(made, cfg["optimizer"]["lr"], total_steps=steps))
    assert training.train(cfg, tmp_path)["status"] == "completed"
    mine = weights(tmp_path)
    assert all(torch.equal(mine[f"network.{name}"], value) for name, value in network.state_dict().items())
    assert len(set(momenta)) > 10 and min(momenta) < 0.86 < 0.94 < max(momenta)


@pytest.mark.parametrize("model", ["resnet18", "mobilenet", "shufflenet", "xnor"])
def test_the_larger_networks_train(tmp_path: Path, model: str) -> None:
    asked = (f"model={model}", "data.limit_train=32", "trainer.max_epochs=1", "optimizer.lr=1e-3", "threads=1")
    record = run(tmp_path, *asked)
    network = build.build_network(config(*asked), build.build_data(config(*asked)))
    mine = weights(tmp_path)
    assert all(not torch.equal(mine[f"network.{name}"], value) for name, value in network.named_parameters())
    assert record["model"]["bits"] < 32 * record["model"]["parameters"] or model != "xnor"


COMBINATIONS = [
    ("optimizer=switch", "scheduler=onecycle", "model.norm=batch", "decay_norm_and_bias=false"),
    ("optimizer=momentum", "scheduler=plateau", "trainer.gradient_clip_val=0.5", "scheduler.warmup=0.3", "average=ema"),
    ("optimizer=rmsprop", "trainer.accumulate_grad_batches=3"),
    ("optimizer=adam", "augment=flip_crop", "augment.cutout=4", "model.dropout=0.2", "model.hidden=[16]"),
    ("optimizer=adamw", "scheduler=step", "decay_norm_and_bias=false", "model.norm=batch"),
    ("optimizer=adadelta", "scheduler=exp", "label_smoothing=0.1", "trainer.accumulate_grad_batches=2"),
    ("optimizer=adam", "trainer.precision=bf16-mixed"),
    ("optimizer=sgd", "trainer.precision=bf16-true"),
]


@pytest.mark.parametrize("asked", COMBINATIONS, ids=" ".join)
def test_steps_per_execution_changes_nothing_but_the_speed(tmp_path: Path, asked: tuple[str, ...]) -> None:
    # 160 images in batches of 24: seven batches, the last one smaller
    records = [
        run(tmp_path / str(steps), *asked, "data.batch_size=24", f"steps_per_execution={steps}") for steps in (1, 3, 50)
    ]
    first = weights(tmp_path / "1")
    for steps, record in zip((1, 3, 50), records, strict=True):
        assert all(torch.equal(value, first[name]) for name, value in weights(tmp_path / str(steps)).items()), steps
        assert record["history"] == records[0]["history"], steps
        assert record["metrics"] == records[0]["metrics"], steps


def test_no_step_opens_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    class Library(ctypes.CDLL):
        def __init__(self, name: Any, *args: Any, **kwargs: Any) -> None:
            opened.append(name)
            super().__init__(name, *args, **kwargs)

    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as Lightning sets it when it is imported
    monkeypatch.setattr(ctypes, "CDLL", Library)
    counts = []
    for batch in (80, 10):
        opened.clear()
        run(tmp_path / str(batch), f"data.batch_size={batch}", "trainer.max_epochs=1")
        counts.append(len(opened))
        monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    assert counts[0] == counts[1]


def test_the_step_count_is_of_optimizer_steps(tmp_path: Path) -> None:
    record = run(tmp_path, "data.batch_size=24", "trainer.accumulate_grad_batches=2", "steps_per_execution=3")
    # seven batches in pairs are four steps, the last of a single batch
    assert record["history"]["step"] == [4, 8]
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 8


def test_two_runs_with_the_same_seed_are_equal_and_another_seed_differs(tmp_path: Path) -> None:
    asked = ("augment=flip_crop", "model.hidden=[16]", "model.dropout=0.3")
    one, two, other = (run(tmp_path / name, *asked, f"seed={seed}") for name, seed in (("1", 0), ("2", 0), ("3", 1)))
    assert one["history"] == two["history"] and one["metrics"] == two["metrics"]
    assert one["history"] != other["history"]
    assert one["data"] == other["data"]  # the splits do not move with the seed


def test_the_record_has_what_the_contract_says(tmp_path: Path) -> None:
    returned = run(tmp_path)
    record = read_record(tmp_path)
    assert record == json.loads((tmp_path / "result.json").read_text())
    for key in ["schema", "fingerprint", "overrides", "config", "seed", "metrics", "best", "history", "per_class", "confusion_matrix", "model", "time", "environment", "error"]:  # fmt: skip
        assert key in record, key
    assert record["status"] == "completed" and record["error"] is None and returned["metrics"] == record["metrics"]
    names = {f"{split}/{metric}" for split in ("train", "val", "test") for metric in ("loss", "accuracy", "recall")}
    assert set(record["metrics"]) == names
    assert {"epoch", "val/accuracy"} <= set(record["best"])
    assert len(record["history"]["epoch"]) == len(record["time"]["epoch_seconds"]) == 2
    assert set(record["confusion_matrix"]) == {"val", "test"}
    assert record["model"]["parameters"] == 16 * 10 + 4 * (16 * 9 + 1) + (4 * 3 * 3 * 10 + 10)
    # 2 x multiplications: 12x12 outputs of 16 filters of 9, 6x6 outputs of 4 filters of 144, 36 inputs to 10
    assert record["model"]["flops_per_image"] == 2 * (144 * 16 * 9 + 36 * 4 * 144 + 36 * 10)
    for path in ("metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "figures/confusion_test.png"):
        assert (tmp_path / path).stat().st_size > 0, path


def test_metrics_follow_from_the_confusion_matrix(tmp_path: Path) -> None:
    record = run(tmp_path)
    matrix = np.array(record["confusion_matrix"]["test"])
    truth = np.repeat(np.arange(10), matrix.sum(1))
    predicted = np.concatenate([np.repeat(np.arange(10), row) for row in matrix])
    assert record["metrics"]["test/accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert record["metrics"]["test/recall"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert matrix.sum() == record["data"]["test"] == 359


def test_the_test_set_sees_the_weights_that_the_record_says(tmp_path: Path) -> None:
    # a learning rate that ruins the weights after a good first epoch, so that best and last differ
    asked = ("optimizer=adam", "scheduler=exp", "scheduler.gamma=30", "trainer.max_epochs=4", "objective=val/loss")
    best, last = (run(tmp_path / which, *asked, f"test_with={which}") for which in ("best", "last"))
    assert best["best"]["epoch"] < 3
    assert best["protocol"]["weights"] == "best" and last["protocol"]["weights"] == "last"
    assert best["metrics"]["test/loss"] < last["metrics"]["test/loss"]
    values = best["history"]["val/loss"]
    assert best["best"]["val/loss"] == min(values) == values[best["best"]["epoch"]]


def test_validation_on_the_test_set_is_possible_and_said(tmp_path: Path) -> None:
    record = run(tmp_path, "data.validation=test", "test_with=last")
    assert record["data"]["validation"] == "test" and record["data"]["val"] == record["data"]["test"]
    assert record["metrics"]["val/accuracy"] == record["metrics"]["test/accuracy"]


def test_without_validation_the_train_loss_can_be_the_objective(tmp_path: Path) -> None:
    record = run(tmp_path, "data.validation=none", "objective=train/loss")
    assert "val/loss" not in record["metrics"] and "test/loss" in record["metrics"]


def test_compiling_keeps_the_names_in_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what torch.compile makes of a network is its own affair, and takes a minute of a compiler's time
    monkeypatch.setattr(torch, "compile", lambda call, *_, **__: call)
    run(tmp_path / "compiled", "compile=true")
    run(tmp_path / "plain")
    assert set(weights(tmp_path / "compiled")) == set(weights(tmp_path / "plain"))


def test_early_stopping_ends_the_run(tmp_path: Path) -> None:
    asked = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "optimizer.lr=1e-12")
    record = run(tmp_path, *asked, "callbacks.early_stopping.objective=val/f1", "trainer.max_epochs=30")
    assert len(record["history"]["epoch"]) == len(record["history"]["val/f1"]) == 3


def test_weight_decay_can_leave_out_biases_and_norms(tmp_path: Path) -> None:
    asked = ("optimizer=adamw", "optimizer.lr=1e-9", "optimizer.weight_decay=1e8", "model.norm=batch")
    everything = run(tmp_path / "all", *asked) and weights(tmp_path / "all")
    some = run(tmp_path / "some", *asked, "decay_norm_and_bias=false") and weights(tmp_path / "some")
    norm = next(name for name, value in some.items() if name.endswith("1.weight") and value.ndim == 1)
    assert some[norm].mean() > 0.99 > everything[norm].mean()


def test_a_run_that_diverges_has_a_record(tmp_path: Path) -> None:
    record = training.train(config("optimizer=sgd", "optimizer.lr=1e30"), tmp_path)
    assert record["status"] == "diverged"
    assert "epoch 1" in record["error"]["message"]
    assert read_record(tmp_path)["status"] == "diverged"


def test_a_run_that_raises_has_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(training, "fit", broken)
    record = training.train(config(), tmp_path)
    assert record["status"] == "failed"
    assert record["error"]["type"] == "RuntimeError" and "no memory left" in record["error"]["traceback"]
    assert read_record(tmp_path)["error"]["message"] == "no memory left"


def test_confusion_matrices_of_chosen_epochs_are_drawn(tmp_path: Path):
    run(tmp_path, "callbacks.figures.every_n_epochs=2", "callbacks.figures.at_epochs=[1]", "trainer.max_epochs=3")
    drawn = {path.name for path in (tmp_path / "figures").glob("confusion*")}
    assert drawn == {
        "confusion_val.png",
        "confusion_test.png",
        "confusion_val_epoch0001.png",
        "confusion_val_epoch0002.png",
    }


def test_the_loss_of_a_network_in_16_bits_is_measured_in_32(tmp_path: Path) -> None:
    record = training.train(
        config("trainer.precision=bf16-true", "trainer.max_epochs=1", "data.limit_train=40"), tmp_path
    )
    assert record["status"] == "completed" and record["config"]["trainer"]["precision"] == "bf16-true"
    for loss in (record["metrics"]["val/loss"], record["metrics"]["test/loss"]):
        assert torch.tensor(loss).bfloat16().item() != loss


def test_a_record_says_what_to_change_when_a_worker_has_died() -> None:
    end = describe_end(RuntimeError("DataLoader worker (pid 9) is killed by signal: Killed. "))
    assert end["status"] == "failed" and "data.workers=0 or data.storage=memory" in end["error"]["message"]
