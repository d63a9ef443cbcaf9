"""Which steps can be captured as a CUDA graph; and on a GPU, that a captured step trains as an ordinary one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config, installed

from cnnbench.config.groups import groups, read_yaml
from cnnbench.training import build
from cnnbench.training import train as training
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


on_a_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU: a CUDA graph cannot be captured without one"
)


@on_a_gpu
@pytest.mark.parametrize("name", [name for name in groups()["optimizer"] if installed(name)])
def test_captured_steps_train_as_ordinary_ones(tmp_path: Path, name: str) -> None:
    losses = []
    for captured in ("true", "false"):
        cfg = config(f"optimizer={name}", "trainer.accelerator=gpu", "data.batch_size=24", f"cuda_graph={captured}")
        record = training.train(cfg, tmp_path / captured)
        assert record["status"] == "completed", record["error"]
        losses.append(record["history"]["train/loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


@on_a_gpu
@pytest.mark.parametrize("model", ["tiny_cnn", "three_layer_cnn model.norm=batch", "lenet model.dropout=0.3"])
def test_two_runs_on_a_gpu_agree_to_the_bit_if_asked(tmp_path: Path, model: str) -> None:
    asked = [f"model={model.split()[0]}", *model.split()[1:], "data.image_size=28", "trainer.deterministic=true"]
    cfg = config(*asked, "trainer.accelerator=gpu", "augment=flip_crop")
    records = [training.train(cfg, tmp_path / name) for name in ("one", "two")]
    assert [record["status"] for record in records] == ["completed"] * 2, [record["error"] for record in records]
    assert records[0]["model"]["sha256"] == records[1]["model"]["sha256"]
