"""From a folder of photographs as people have them to a classifier that runs elsewhere, in two commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers import cnnbench
from photographs import CLASSES, make_photographs
from PIL import Image, ImageOps

from cnnbench.cli.main import main

TRAIN = ["data=image_folder", "data.path=photos", "data.image_size=32", "model=lenet_bn", "model.filters=[16,32]",
         "trainer.max_epochs=12", "trainer.accelerator=cpu", "threads=1", "logger=none", "hydra.run.dir=run"]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "photos"
    make_photographs(folder, count=40)
    return folder


@pytest.fixture
def here(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of the photographs, and a cache of its own."""
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_photographs_are_as_mixed_as_they_should_be(photos: Path) -> None:
    pictures = [Image.open(path) for path in photos.rglob("*.*")]
    assert {picture.mode for picture in pictures} == {"RGB", "L", "RGBA", "P"}
    assert {picture.format for picture in pictures} == {"JPEG", "PNG"}
    assert len({picture.size for picture in pictures}) > 100
    assert sum(picture.getexif().get(0x0112, 1) != 1 for picture in pictures) == 1
    assert not all(path.name.isascii() for path in photos.rglob("*"))


def test_two_commands_make_a_classifier_that_runs_without_cnnbench(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(TRAIN) == 0
    assert main(["export", "run"]) == 0
    assert "32 test images" in capsys.readouterr().out
    beside = json.loads(Path("run/export/model.json").read_text())
    assert beside["classes"] == list(CLASSES)
    session = onnxruntime.InferenceSession("run/export/model.onnx", providers=["CPUExecutionProvider"])
    make_photographs(Path("unseen"), count=10, seed=1)
    right = []
    for path in sorted(Path("unseen").rglob("*.*")):
        upright = ImageOps.exif_transpose(Image.open(path)).convert("RGB")  # what docs/howto/data.md tells people to do
        square = ImageOps.fit(upright, (32, 32), Image.Resampling.BILINEAR)
        probabilities = session.run(None, {"images": np.asarray(square)[None]})[0][0]
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        right.append(beside["classes"][probabilities.argmax()] == path.parent.name)
    record = json.loads(Path("run/result.json").read_text())
    assert np.mean(right) > 0.6 and record["metrics"]["test/accuracy"] > 0.6  # guessing is 0.25


def damage(folder: Path) -> tuple[Path, Path]:
    """A file that was cut, and one that is no image."""
    cut, text = folder / "dots" / "000.jpg", folder / "clouds" / "text.png"
    cut.write_bytes(cut.read_bytes()[:700])
    text.write_text("no image")
    return cut, text


def test_all_files_that_do_not_decode_are_named_at_once_before_anything_runs(here: Path) -> None:
    names = damage(here / "photos")
    printed = cnnbench(*TRAIN, cwd=here, check=2).stderr
    assert len(printed.splitlines()) == 1 and "data.source.skip_damaged=true" in printed
    assert all(printed.count(str(name)) == 1 for name in names) and not (here / "run").exists()


@pytest.mark.parametrize("few", [0, 2000])  # in processes of their own, and in this one
def test_they_are_left_out_if_asked_and_the_others_keep_their_classes(here, monkeypatch, few) -> None:
    from cnnbench.data.cache import prepare
    from cnnbench.data.sources import ImageFolder
    from cnnbench.utils.errors import RequestError

    names = damage(here / "photos")
    monkeypatch.setattr("cnnbench.data.decode.SERIAL", few)
    for number, path in enumerate(sorted((here / "photos").rglob("*.*"))):
        if path not in names:  # a colour that says which class the file is of
            Image.new("RGB", (50 + number % 3, 40), (60 * CLASSES.index(path.parent.name), 0, 0)).save(path, "PNG")
    lines: list[str] = []
    store = prepare(ImageFolder(skip_damaged=True), here / "photos", 8, here / "cache", lines.append)
    (note,) = (note for note in store.notes if "left out are" in note and "damaged" in note)
    assert all(str(name) in note for name in names)
    counts = {part: len(store.arrays[f"{part}_labels"]) for part in ("train", "test")}
    assert sum(counts.values()) == 4 * 40 + 2 - 1
    for part in counts:
        images, labels = store.arrays[f"{part}_images"], store.arrays[f"{part}_labels"]
        np.testing.assert_array_equal(images[:, 0, 0, 0], 60 * labels)
    with pytest.raises(RequestError, match="cannot be decoded"):  # what was left out once is not left out for good
        prepare(ImageFolder(), here / "photos", 8, here / "cache")
