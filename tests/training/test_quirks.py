"""The quirks of published protocols do what their names say, and nothing when they are off."""

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
from cnnbench.training.metrics import EpochMeter, batch_recall
from cnnbench.training.quirks import CrossEntropy


def test_softmax_before_the_loss_is_a_softmax_too_many():
    logits, labels = 5 * torch.randn(7, 10), torch.arange(7)
    found = CrossEntropy(softmax_before_loss=True)(logits, labels)
    assert torch.equal(found, functional.cross_entropy(functional.softmax(logits, dim=1), labels))
    assert torch.equal(CrossEntropy()(logits, labels), functional.cross_entropy(logits, labels))
    sure = 1e3 * functional.one_hot(labels, 10).float()
    bound = np.log(1 + 9 / np.e)  # the loss of a network that is right and sure
    assert CrossEntropy(softmax_before_loss=True)(sure, labels).item() == pytest.approx(bound, abs=1e-6)


@pytest.mark.parametrize("classes, size, count", [(3, 4, 30), (10, 64, 1000), (100, 16, 50)])
def test_batch_recall_is_scikit_learns_batch_by_batch(classes, size, count):
    random = np.random.default_rng(classes)
    truth, guess = random.integers(0, classes, count), random.integers(0, classes, count)
    guess[::2] = truth[::2]
    expected = np.mean(
        [
            recall_score(truth[i : i + size], guess[i : i + size], average="macro", zero_division=0)
            for i in range(0, count, size)
        ]
    )
    assert batch_recall(torch.from_numpy(guess), torch.from_numpy(truth), classes, size) == pytest.approx(expected)


def test_a_meter_has_batch_recall_only_where_it_is_asked_for():
    for size in (None, 4):
        meter = EpochMeter(8, 3, torch.device("cpu"), size)
        meter.update(torch.randn(8, 3), torch.arange(8) % 3, torch.tensor(1.0))
        assert ("batch_recall" in meter.compute()[0]) == (size is not None)


def test_train_in_eval_mode_is_a_second_pass_with_the_weights_of_the_epoch(tmp_path: Path):
    cfg = config("quirks.train_in_eval_mode=true", "quirks.batch_recall=true", "model.dropout=0.5", "model.hidden=[16]")
    record = training.train(cfg, tmp_path)
    data = build.build_data(cfg)
    network = build.build_network(cfg, data).eval()
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    guesses, labels = [], []
    with torch.no_grad():
        for images, truth in next(iter(data.train_evaluation_loader())):
            guesses.append(network(images).argmax(dim=1))
            labels.append(truth)
    guess, truth = torch.cat(guesses), torch.cat(labels)
    assert record["metrics"]["train_eval/accuracy"] == pytest.approx((guess == truth).double().mean().item())
    assert record["metrics"]["train_eval/batch_recall"] == pytest.approx(
        batch_recall(guess, truth, 10, cfg["data"]["batch_size"])
    )
    assert len(record["history"]["train_eval/recall"]) == 2


def test_dropout_in_evaluation_leaves_dropout_on_and_nothing_else(tmp_path: Path):
    small = ["model=lenet_bn", "model.dropout=0.9", "trainer.max_epochs=1", "data.validation=test", "test_with=last"]
    modes = {}
    for on in (False, True):
        cfg = config(*small, "data.image_size=28", f"quirks.dropout_in_evaluation={str(on).lower()}")
        record = training.train(cfg, tmp_path / str(on))
        # the same images and weights twice: equal only where nothing is drawn
        modes[on] = record["metrics"]["val/loss"] == record["metrics"]["test/loss"]
    assert modes == {False: True, True: False}
