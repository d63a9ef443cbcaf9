"""``predictions.npz`` holds what the network says, against a forward pass of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config
from PIL import Image

import cnnbench
from cnnbench.analysis.runs import read_run
from cnnbench.inference.load import load_run
from cnnbench.training import build
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError

ASKED = ("data.batch_size=24", "data.eval_batch_size=50", "model.norm=batch")


def test_predictions_are_those_of_the_weights_that_were_tested(tmp_path: Path) -> None:
    record = train(config(*ASKED, "optimizer.lr=0.05", "trainer.max_epochs=4"), tmp_path)
    run, data = load_run(tmp_path), build.build_data(config(*ASKED))
    for split in ("test", "val"):
        found = read_run(tmp_path).predictions(split)
        assert found is not None
        images = data.raw(split, np.arange(data.count(split)))
        expected = run.probabilities(images).numpy()
        rows = np.arange(len(images))
        np.testing.assert_array_equal(found["true"], data.labels(split))
        np.testing.assert_array_equal(found["predicted"], expected.argmax(axis=1))
        np.testing.assert_allclose(found["probability_true"], expected[rows, found["true"]], atol=1e-5)
        np.testing.assert_allclose(found["probability_predicted"], expected.max(axis=1), atol=1e-5)
        np.testing.assert_allclose(torch.tensor(found["logits"]).float().softmax(1), expected, atol=1e-2)
        stored = data.prepared.arrays["test_images" if split == "test" else "train_images"]
        np.testing.assert_array_equal(stored[found["row"]], images)
        accuracy = record["metrics"]["test/accuracy"] if split == "test" else record["best"]["val/accuracy"]
        assert (found["true"] == found["predicted"]).mean() == pytest.approx(accuracy)


def test_in_mixed_precision_validation_images_are_predicted_as_test_images_are(tmp_path: Path) -> None:
    train(config(*ASKED, "trainer.precision=bf16-mixed", "data.validation=test", "test_with=last"), tmp_path)
    found = {split: read_run(tmp_path).predictions(split) for split in ("test", "val")}
    np.testing.assert_array_equal(found["val"]["logits"], found["test"]["logits"])  # type: ignore[index]


def test_they_are_read_as_a_table_and_can_be_switched_off(tmp_path: Path) -> None:
    train(config(*ASKED), tmp_path / "with")
    kept = train(config(*ASKED, "keep_predictions=false", "seed=1"), tmp_path / "without")
    assert kept["status"] == "completed" and not (tmp_path / "without" / "predictions.npz").exists()
    table = cnnbench.load_results(tmp_path, predictions="test")
    assert len(table) == 359 and set(table["folder"]) == {str(tmp_path / "with")}
    assert (table["true"] == table["predicted"]).mean() == pytest.approx(table["test/accuracy"].iloc[0])
    with pytest.raises(RequestError, match="keep_predictions"):
        cnnbench.load_results(tmp_path / "without", predictions="test")
    (tmp_path / "with" / "predictions.npz").write_bytes(b"PK damaged")
    assert read_run(tmp_path / "with").predictions() is None


def test_predictions_of_image_files_name_them(tmp_path: Path) -> None:
    random, photos = np.random.default_rng(0), tmp_path / "photos"
    odd = os.fsdecode(b"caf\xe9 \xe6\xbc\xa2.png")  # not UTF-8 in its first half
    for name in ("cat", "dog"):
        (photos / name / "more").mkdir(parents=True)
        for number in range(12):
            file = photos / name / ("more" if number % 2 else "") / (f"{number}.png" if number else odd)
            Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file)
    cfg = config("data=image_folder", f"data.path={photos}", "data.folds=2", "data.fold=1")
    train(cfg, tmp_path / "run")
    data, run, seen = build.build_data(cfg), read_run(tmp_path / "run"), []
    for split in ("test", "val"):
        found = run.predictions(split)
        assert found is not None and found["file"].dtype.kind == "U"
        for image, name, label in zip(
            data.raw(split, np.arange(len(found["row"]))), found["file"], found["true"], strict=True
        ):
            path = photos / name.replace("caf\\xe9", os.fsdecode(b"caf\xe9"))
            np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
            assert name.startswith(run.classes[label])
        table = cnnbench.load_results(tmp_path / "run", predictions=split)
        assert table["file"].tolist() == found["file"].tolist()
        seen += found["file"].tolist()
    assert len({*seen}) == len(seen) == 4 + 10 and not any("\udce9" in name for name in seen)
    assert sorted(run.record["data"][key] for key in ("folds", "fold")) == [1, 2]
