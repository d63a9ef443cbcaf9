"""The two forms of a row of eq2425, each against a plain evaluation of the weights that it left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config
from sklearn.metrics import recall_score
from torch.nn import functional

from cnnbench.training import build
from cnnbench.training import train as training

IMAGES = {"train": 120, "test": 40}


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images as CIFAR's, of ten classes that have a brightness each."""
    random, arrays = np.random.default_rng(0), {}
    for split, count in IMAGES.items():
        labels = np.arange(count) % 10
        noise = random.integers(0, 40, (count, 32, 32, 3))
        arrays |= {f"{split}_images": (20 * labels[:, None, None, None] + noise).astype(np.uint8)}
        arrays |= {f"{split}_labels": labels}
    path = tmp_path_factory.mktemp("set") / "tiny.npz"
    np.savez(path, **arrays)
    return path


# in the published form without dropout, which would be drawn anew
@pytest.mark.parametrize("form, row", [("published", "default"), ("corrected", "4d_dropout")])
def test_a_form_measures_what_it_says(form: str, row: str, tiny_set: Path, tmp_path: Path) -> None:
    given = [
        "data=npz",
        f"data.path={tiny_set}",
        "data.batch_size=16",
        "trainer.max_epochs=3",
        "trainer.accelerator=cpu",
    ]
    cfg = config(f"experiment=eq2425/{row}", f"study.form={form}", *given, "optimizer.lr=0.05", base=[])
    record = training.train(cfg, tmp_path)
    assert record["status"] == "completed", record["error"]
    is_published = form == "published"
    assert record["data"]["train"] == (120 if is_published else 108)
    assert ("val/batch_recall" in record["metrics"]) == is_published

    data = build.build_data(cfg)
    network = build.build_network(cfg, data).eval()
    weights = "last" if is_published else "best"
    state = torch.load(tmp_path / "checkpoints" / f"{weights}.ckpt", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    logits, labels = [], []
    with torch.no_grad():
        for batches in data.test_dataloader():
            for images, truth in batches:
                logits.append(network(images))
                labels.append(truth)
    outputs, truth = torch.cat(logits), torch.cat(labels)
    recall = recall_score(truth, outputs.argmax(dim=1), average="macro", zero_division=0)
    loss = functional.cross_entropy(outputs.softmax(dim=1) if is_published else outputs, truth)
    assert record["metrics"]["test/recall"] == pytest.approx(recall)
    assert record["metrics"]["test/loss"] == pytest.approx(loss.item(), rel=1e-5)
    if is_published:  # its "validation" images are the test set
        assert record["metrics"]["val/recall"] == record["metrics"]["test/recall"]
    else:  # selected on images of the train set
        accuracy = record["history"]["val/accuracy"]
        assert record["best"]["val/accuracy"] == max(accuracy) and record["data"]["val"] == 12
