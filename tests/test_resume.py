"""A run that was stopped or killed goes on to the same result, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL, config

from cnnbench.results.record import read_record
from cnnbench.train import train

# eight batches of 24, 24, ... and 16 in each of three epochs, in chunks of two optimizer steps
BASE = (*SMALL, "trainer.max_epochs=3", "data.batch_size=24", "data.limit_train=184", "steps_per_execution=2")


def fault(how: str, step: int, file: Path) -> list[str]:
    return [
        "+callbacks.fault._target_=faults.Fault", f"+callbacks.fault.how={how}",
        f"+callbacks.fault.step={step}", f"+callbacks.fault.file='{file}'",
    ]  # fmt: skip


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_same(one: Path, two: Path) -> None:
    """Weights (last and best), history, metrics and matrices of two runs, bit for bit."""
    first, second = read_record(one), read_record(two)
    assert first["status"] == second["status"] == "completed", (first["error"], second["error"])
    for key in ("history", "metrics", "best", "confusion_matrix", "per_class"):
        assert first[key] == second[key], key
    for name in ("last", "best"):
        mine, other = weights(one, name), weights(two, name)
        assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine), name
    assert first["model"]["sha256"] == second["model"]["sha256"]


def go(folder: Path, *overrides: str) -> dict[str, Any]:
    return train(config(*overrides, base=list(BASE)), folder)


COMBINATIONS = [
    # overrides, step of the stop
    (["optimizer=adam", "scheduler=cosine", "model.hidden=[16]", "model.dropout=0.3", "augment=flip_crop"], 5),
    (["optimizer=momentum", "scheduler=onecycle", "model.norm=batch"], 13),
    (["optimizer=rmsprop", "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.9"], 11),
    (["optimizer=adamw", "scheduler=step", "trainer.accumulate_grad_batches=3", "label_smoothing=0.1"], 2),
    (["optimizer=adadelta", "scheduler=exp", "trainer.gradient_clip_val=0.5", "augment.cutout=4"], 8),
    (["optimizer=sgd", "scheduler=none", "callbacks=early_stopping", "callbacks.early_stopping.patience=1",
      "optimizer.lr=1e-9", "trainer.max_epochs=6"], 10),
    (["optimizer=adam", "data.storage=stream", "data.workers=1", "model.hidden=[16]", "model.dropout=0.3"], 18),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "step"), COMBINATIONS, ids=lambda v: " ".join(v[:2]) if isinstance(v, list) else "")
def test_a_stopped_run_goes_on_to_the_same_result(tmp_path: Path, asked: list[str], step: int) -> None:
    whole = go(tmp_path / "whole", *asked)
    part = go(tmp_path / "part", *asked, *fault("term", step, tmp_path / "once"))
    assert part["status"] == "interrupted", part["error"]
    assert len(part["history"].get("epoch", [])) < len(whole["history"]["epoch"])
    again = go(tmp_path / "part", *asked, *fault("term", step, tmp_path / "once"))
    assert again["attempts"][0]["status"] == "interrupted"
    assert again["resumed"][0]["step"] >= step
    assert_same(tmp_path / "whole", tmp_path / "part")
