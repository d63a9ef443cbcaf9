"""Views of test images, against torchvision's functions, and what averages over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config
from torchvision.transforms import functional

from cnnbench.analysis.report import write
from cnnbench.analysis.runs import read_run
from cnnbench.config.compose import fingerprint
from cnnbench.data.augment import Normalize
from cnnbench.data.views import over_views, views
from cnnbench.inference.load import load_run
from cnnbench.sweep.run_summary import ending
from cnnbench.training import build
from cnnbench.training.train import train


def by_torchvision(image: torch.Tensor, kind: str) -> list[torch.Tensor]:
    """The views of one uint8 image (C, S, S)."""
    if kind == "flip":
        return [image, functional.hflip(image)]
    side = image.shape[-1]
    return [*functional.five_crop(functional.pad(image, side // 8), [side, side])]


@pytest.mark.parametrize("kind", ["flip", "five_crop"])
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 17)])
def test_views_are_those_of_torchvision(kind: str, channels: int, side: int) -> None:
    raw = torch.randint(256, (4, side, side, channels), dtype=torch.uint8, generator=torch.manual_seed(0))
    normalize = Normalize([0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.25][:channels])
    found = views(normalize(raw), kind, normalize.shift)
    for number, image in enumerate(raw):
        expected = by_torchvision(image.permute(2, 0, 1), kind)
        assert len(found) == len(expected)
        for view, own in zip(found, expected, strict=True):
            assert torch.equal(view[number], normalize(own.permute(1, 2, 0)[None])[0])


def test_the_softmax_is_the_mean_of_the_probabilities() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    images, black = torch.randn(5, 1, 8, 8), torch.tensor([-1.0])
    for kind in ("none", "flip", "five_crop"):
        expected = torch.stack([network(view).softmax(dim=1) for view in views(images, kind, black)]).mean(dim=0)
        torch.testing.assert_close(over_views(network, images, kind, black).softmax(dim=1), expected)


@pytest.mark.parametrize("kind", ["flip", "five_crop"])
def test_metrics_predictions_and_a_loaded_run_follow_it_and_validation_does_not(kind: str, tmp_path: Path) -> None:
    asked = config(f"test_time_augmentation={kind}", "optimizer.lr=0.02", "metrics=[brier]", "data.eval_batch_size=50")
    record, run, data = train(asked, tmp_path), load_run(tmp_path), build.build_data(asked)
    labels, images = data.labels("test"), np.asarray(data.raw("test", np.arange(data.count("test"))))
    each = []
    for image in torch.from_numpy(images).permute(0, 3, 1, 2):
        own = torch.stack(by_torchvision(image, kind)).permute(0, 2, 3, 1)
        with torch.no_grad():
            each.append(run.network(run.normalize(own)).softmax(dim=1).mean(dim=0))
    expected = torch.stack(each)
    torch.testing.assert_close(run.probabilities(images), expected)
    truth, found = torch.from_numpy(labels), read_run(tmp_path).predictions("test")
    metrics, rows = record["metrics"], torch.arange(len(labels))
    assert found is not None
    np.testing.assert_allclose(found["probability_true"], expected[rows, truth], atol=1e-5)
    assert metrics["test/accuracy"] == pytest.approx((expected.argmax(dim=1) == truth).float().mean().item())
    assert metrics["test/loss"] == pytest.approx(-expected[rows, truth].log().mean().item(), rel=1e-4)
    brier = (expected - torch.nn.functional.one_hot(truth, 10)).square().sum(dim=1).mean()
    assert metrics["test/brier"] == pytest.approx(brier.item(), rel=1e-4)
    assert np.trace(record["confusion_matrix"]["test"]) == (expected.argmax(dim=1) == truth).sum()
    assert record["protocol"]["test_time_augmentation"] == kind and f"({kind})" in ending(record, tmp_path)
    assert f"averaged over views of each image in 1 of 1 runs ({kind})" in write.build([tmp_path]).text
    with torch.no_grad():  # of validation images as they are
        own = run.network(data.batch("val", np.arange(data.count("val")))).argmax(dim=1).numpy()
    assert (own == data.labels("val")).mean() == pytest.approx(record["best"]["val/accuracy"])


def test_it_changes_the_fingerprint_and_its_absence_does_not() -> None:
    plain = config()
    without = {key: value for key, value in plain.items() if key != "test_time_augmentation"}
    assert fingerprint(plain) == fingerprint(without) != fingerprint(config("test_time_augmentation=flip"))
