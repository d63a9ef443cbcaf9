"""Folders of images as people have them: names of splits, endings, litter, copies, and depths of grey."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import config
from PIL import Image

from cnnbench.data.cache import PreparedSet, prepare
from cnnbench.data.decode import UndecodableImage, decode_image
from cnnbench.data.sources import ImageFolder
from cnnbench.training.build import build_data
from cnnbench.training.preflight import notes_on
from cnnbench.utils.errors import RequestError

RNG = np.random.default_rng(0)


def pictures(folder: Path | str, count: int = 3, ending: str = "png") -> None:
    """So many images of noise, of which no two are alike."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(Path(folder) / f"{number}.{ending}")


def classes(folder: Path, *names: str, count: int = 3) -> None:
    for name in names or ("bus", "car"):
        pictures(folder / name, count)


def counts(prepared: PreparedSet) -> dict[str, int]:
    return {name[:-7]: len(labels) for name, labels in prepared.arrays.items() if name.endswith("_labels")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"


def opened(root: Path, **options) -> PreparedSet:
    source = {key: options.pop(key) for key in [*options] if key in ("splits", "skip_damaged", "channels")}
    return prepare(ImageFolder(**source), root, options.pop("size", 6), root.parent / "cache", **options)


@pytest.mark.parametrize(
    "names",
    [("Training", None, "Testing"), ("train", "valid", "TEST"), ("train", "validation", "evaluation"), ("Train", "dev", "test")],
)  # fmt: skip
def test_the_usual_names_of_splits_are_known_and_shown(root: Path, names: tuple) -> None:
    splits = [
        (split, name, n) for split, name, n in zip(("train", "val", "test"), names, (8, 4, 2), strict=True) if name
    ]
    for _, name, number in splits:
        classes(root / name, count=number // 2)
    prepared = opened(root)
    assert counts(prepared) == {split: number for split, _, number in splits} and prepared.classes == ["bus", "car"]
    assert all(f"{split} is {name} ({number})" in prepared.notes[0] for split, name, number in splits)


def test_a_class_with_the_name_of_a_split_is_asked_about_and_splits_decide(root: Path) -> None:
    classes(root, "train", "bus", "car")
    with pytest.raises(RequestError, match=r"train may be splits or classes, beside bus, car.*data\.splits"):
        opened(root)
    assert opened(root, splits={"train": "."}).classes == ["bus", "car", "train"]
    classes(root / "Testing", "bus", "car", "train", count=1)
    prepared = opened(root, splits={"train": ".", "test": "Testing"})
    assert prepared.classes == ["bus", "car", "train"] and counts(prepared) == {"train": 9, "test": 3}
    for wrong, reason in (
        ({"train": "gone"}, "gone is not a folder"),
        ({"tset": "."}, "did you mean 'test'"),
        ({"train": "Testing", "test": "./Testing"}, "one split alone"),
    ):
        with pytest.raises(RequestError, match=f"data.splits.*{reason}"):
            opened(root, splits=wrong)


def test_two_folders_for_one_split_are_asked_about(root: Path) -> None:
    for name in ("val", "valid", "train"):
        classes(root / name)
    with pytest.raises(RequestError, match="train and val and valid may be splits or classes, beside each other"):
        opened(root)


def test_other_folders_beside_train_and_test_are_no_classes(root: Path) -> None:
    classes(root / "train")
    classes(root / "test", count=1)
    pictures(root / "unlabelled")
    assert opened(root).classes == ["bus", "car"]


def test_a_test_folder_without_classes_is_explained(root: Path) -> None:
    classes(root / "train")
    pictures(root / "test")
    with pytest.raises(RequestError, match=r"test has images but no class folders.*data\.splits=\{train: train\}"):
        opened(root)
    assert counts(opened(root, splits={"train": "train"})) == {"train": 4, "test": 2}


def test_every_ending_of_a_raster_format_counts_and_others_are_counted(root: Path) -> None:
    classes(root)
    for ending in ("jfif", "jpe", "tga", "jp2"):
        pictures(root / "car", 1, ending)
    pictures(root / "van", 2, "jpe")
    os.mkfifo(root / "bus" / "pipe.png")
    for name in ("a.heic", "b.heic", "notes.txt", "x.eps", "y.pdf", "README"):
        (root / "bus" / name).write_bytes(b"x")
    prepared = opened(root)
    assert prepared.classes == ["bus", "car", "van"] and sum(counts(prepared).values()) == 3 + 7 + 2
    (left_out,) = [note for note in prepared.notes if "left out are" in note]
    assert all(part in left_out for part in ("2 .heic", "1 .txt", "1 .eps", "1 .pdf", "1 .png", "1 without an ending"))


def test_a_class_without_an_image_is_named(root: Path) -> None:
    classes(root)
    (root / "van").mkdir()
    (root / "van" / "a.heic").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"set/van has no image that can be read \(1 \.heic\).*pillow-heif"):
        opened(root)
    (root / "van" / "a.heic").rename(root / "van" / "a.png")
    with pytest.raises(RequestError, match="no image of class van is left in the train split"):
        opened(root, skip_damaged=True)


def test_the_size_is_that_of_the_first_image_that_can_be_read(root: Path) -> None:
    classes(root)
    first = min((root / "bus").iterdir())
    first.write_bytes(b"junk")
    with pytest.raises(RequestError, match=f"{first.name} cannot be decoded.*data.source.skip_damaged=true"):
        opened(root, size=None)
    for _ in range(2):  # from the cache it is said again
        prepared = opened(root, size=None, skip_damaged=True)
        assert any("left out is 1 damaged image" in note and first.name in note for note in prepared.notes)
    assert sum(counts(prepared).values()) == 5


def test_litter_is_left_out_at_any_depth(root: Path) -> None:
    classes(root)
    for place in ("bus/@eaDir/0.png", "car/deep/.thumbnails", "__MACOSX/bus", "@eaDir"):
        pictures(root / place)
    (root / "bus" / "._0.png").write_bytes(b"x")
    prepared = opened(root)
    assert prepared.classes == ["bus", "car"] and sum(counts(prepared).values()) == 6
    assert not any("left out" in note for note in prepared.notes)


def test_copies_across_splits_are_reported_dropped_or_refused(root: Path) -> None:
    classes(root / "train", count=4)
    classes(root / "test", count=1)
    shutil.copy(root / "train" / "bus" / "1.png", root / "test" / "bus" / "copy.png")
    Image.open(root / "train" / "car" / "2.png").save(root / "test" / "car" / "copy.bmp")  # of the same pixels
    kept = opened(root)
    (note,) = [note for note in kept.notes if "also in test" in note]
    assert note.startswith("2 of 8 images of train are also in test, such as ") and "copy." in note
    assert counts(kept) == {"train": 8, "test": 4} and "data.duplicates=drop" in note
    dropped = opened(root, duplicates="drop")
    assert counts(dropped) == {"train": 6, "test": 4} and "left out of train" in dropped.notes[-1]
    assert dropped.fingerprint != kept.fingerprint
    with pytest.raises(RequestError, match=r"2 of 8 images of train are also in test.*data\.duplicates=drop"):
        opened(root, duplicates="error")


def test_copies_within_train_are_reported_too_for_validation_may_be_drawn_from_it(root: Path) -> None:
    classes(root / "train", count=4)
    classes(root / "test", count=1)
    for copy in ("copy.png", "zcopy.png"):
        shutil.copy(root / "train" / "bus" / "1.png", root / "train" / "bus" / copy)
    (note,) = [note for note in opened(root).notes if "there twice" in note]
    assert note.startswith("2 of 10 images of train are there twice, such as ") and "copy.png" in note
    assert counts(opened(root, duplicates="drop"))["train"] == 8


@pytest.mark.parametrize(
    ("kind", "tops", "expected"),
    [
        (np.uint16, (4095, 300), (0, 4095)),
        (np.uint16, (256, 255), (0, 1023)),
        (np.uint16, (60000, 200), (0, 65535)),
        (np.uint16, (200, 100), (0, 255)),
        (np.int32, (100000, 10), (0, 100000)),
        (np.float32, (1.0, 0.2), (0, 1)),
        (np.float32, (65535.0, 0.5), (0, 65535)),
        (np.float32, (180.0, 20.0), (0, 255)),
        (np.float32, (1.2, 0.4), (0, 1.2)),  # a little above 1, of which 255 levels would leave two
    ],
)
def test_one_grey_scale_holds_for_the_whole_set(root: Path, kind: type, tops: tuple, expected: tuple) -> None:
    for name, top in zip(("a", "b"), tops, strict=True):
        for number in range(3):
            (root / name).mkdir(parents=True, exist_ok=True)
            ramp = np.linspace(0, top, 36).reshape(6, 6).astype(kind)
            Image.fromarray(np.roll(ramp, number)).save(root / name / f"{number}.tif")
    prepared = opened(root, channels=1)
    assert tuple(prepared.value_range) == pytest.approx(expected)  # type: ignore[arg-type]
    assert f"{expected[0]} is black, {expected[1]:g} is white" in "".join(prepared.notes)
    for label, top in enumerate(tops):
        images = prepared.arrays["train_images"][prepared.arrays["train_labels"] == label]
        assert (images.reshape(len(images), -1).max(1) == round(255 * top / expected[1])).all()
    given = opened(root, channels=1, value_range=(0, 2 * tops[0]))
    assert given.arrays["train_images"].max() in (127, 128) and given.value_range == [0, 2 * tops[0]]


def test_keys_of_a_configuration_reach_the_images_and_what_is_not_used_is_said(root: Path) -> None:
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                image = Image.fromarray(RNG.integers(0, 4096, (6, 6), dtype=np.uint16))
                image.save(root / split / name / f"{number}.tif")
    asked = [
        "data=image_folder",
        f"data.path={root}",
        f"data.cache={root.parent / 'cache'}",
        "data.value_range=[0,9000]",
    ]
    chosen = config(*asked, base=["data.source.channels=1"])
    data = build_data(chosen)
    assert data.prepared.value_range == [0, 9000] and data.prepared.arrays["train_images"].max() < 128
    assert "data.validation=0.1 (own uses them)" in "".join(notes_on(chosen, data))
    assert not list(notes_on(*((own := config(*asked, "data.validation=own", base=[])), build_data(own))))
    digits = config("data.value_range=[0,9000]")
    assert "changes nothing" in "".join(notes_on(digits, build_data(digits)))


def test_negative_values_are_scaled_from_the_lowest_to_the_highest(root: Path) -> None:
    for name, low in (("a", -1000.0), ("b", 0.0)):
        for number in range(2):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array([[low, 0], [500 + number, np.nan]], np.float32)).save(
                root / name / f"{number}.tif"
            )
    assert opened(root, size=2, channels=1).value_range == [-1000, 501]


def test_infinite_pixels_are_as_bright_or_dark_as_the_others_and_no_number_at_all_is_no_image(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([[np.inf, 200], [100, -np.inf]], np.float32)).save(root / "a.tif")
    pixels, _ = decode_image(root / "a.tif", 2, 1, resize=False)
    assert pixels[..., 0].tolist() == [[200, 200], [100, 100]]
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(root / "b.tif")
    with pytest.raises(UndecodableImage, match=r"b\.tif cannot be decoded as an image \(no pixel is a finite number\)"):
        decode_image(root / "b.tif", 2, 1, resize=False)


def test_programs_of_pillow_are_never_started_and_large_images_never_decoded(root: Path) -> None:
    classes(root)
    Image.new("RGB", (6, 6)).save(root / "bus" / "page.eps")
    shutil.move(root / "bus" / "page.eps", root / "bus" / "page.png")
    with pytest.raises(RequestError, match=r"page\.png cannot be decoded as an image \(cannot identify"):
        opened(root)
    (root / "bus" / "page.png").unlink()
    Image.new("1", (19000, 9500)).save(root / "bus" / "poster.png")
    with pytest.raises(RequestError, match=r"poster\.png has more than 179 million pixels; make a smaller copy"):
        opened(root)


def test_names_that_are_not_utf8_become_text(root: Path) -> None:
    classes(root, "bus")
    pictures(root / "car")
    os.rename(os.fsencode(root / "car"), os.fsencode(root) + b"/caf\xe9")
    prepared = opened(root)
    assert prepared.classes == ["bus", "caf\\xe9"]
    shutil.copytree(root, root.parent / "copies" / "train")
    shutil.copytree(root, root.parent / "copies" / "test")
    notes = opened(root.parent / "copies").notes
    "".join(notes).encode()  # also those that name files


def test_a_cache_that_cannot_be_written_is_used_where_the_set_is_in_it(root: Path, monkeypatch) -> None:
    classes(root)
    fingerprint = opened(root).fingerprint
    monkeypatch.setattr("cnnbench.data.cache._opened", {})
    monkeypatch.setattr("cnnbench.data.cache.os.access", lambda *_: False)  # tests may run as root

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cnnbench.data.cache.FileLock.acquire", refuse)
    assert opened(root).fingerprint == fingerprint


def test_a_prepared_set_is_for_those_who_may_read_the_cache_and_is_never_removed_unread(
    root: Path, monkeypatch
) -> None:
    classes(root)
    prepared = opened(root)
    folder = Path(prepared.arrays["train_images"].filename).parent
    assert folder.stat().st_mode == folder.parent.stat().st_mode
    monkeypatch.setattr("cnnbench.data.cache._opened", {})

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder / "meta.json"))

    monkeypatch.setattr("cnnbench.data.cache._read", refuse)
    with pytest.raises(RequestError, match=r"cannot be prepared.*Permission denied.*point data\.cache"):
        opened(root)
    assert (folder / "meta.json").exists()
