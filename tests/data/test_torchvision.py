"""Reading torchvision's sets from small files in their on-disk formats, and what is said where one is missing."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import os
import pickle
import socket
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from PIL import Image, ImageOps

from cnnbench.data.cache import PreparedSet, prepare
from cnnbench.data.sources import Torchvision
from cnnbench.data.torchvision_sets import classification_sets
from cnnbench.utils.errors import RequestError


def idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )
    gzip.open(f"{path}.gz", "wb").close()


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_mnist_from_its_idx_files(tmp_path: Path, name: str) -> None:
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = np.arange(count * 784).reshape(count, 28, 28)
        idx(tmp_path / name / "raw" / f"{prefix}-images-idx3-ubyte", images)
        idx(tmp_path / name / "raw" / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    store = prepare(Torchvision(name), tmp_path, None, tmp_path / "cache")
    assert store.arrays["train_images"].shape == (20, 28, 28, 1) and len(store.classes) == 10
    np.testing.assert_array_equal(store.arrays["test_images"][1, :, :, 0], (np.arange(784, 1568) % 256).reshape(28, 28))
    idx(tmp_path / name / "raw" / "train-images-idx3-ubyte", np.zeros((20, 28, 28)))  # other images, as many bytes
    assert prepare(Torchvision(name), tmp_path, None, tmp_path / "cache").arrays["train_images"].max() == 0


def test_a_name_that_is_no_classification_set_is_refused_with_the_nearest() -> None:
    for wrong, near in (("KMNISTT", "KMNIST"), ("SVNH", "SVHN"), ("kmnist", "KMNIST"), ("OxfordPet", "OxfordIIITPet")):
        with pytest.raises(
            RequestError, match=rf"data\.name='{wrong}' is no classification set.*did you mean '{near}'"
        ):
            Torchvision(wrong)
    for other in (
        "CocoDetection",
        "Kinetics",
        "Kitti",
        "VOCSegmentation",
        "FakeData",
        "ImageFolder",
        "Sintel",
        "CelebA",
    ):
        with pytest.raises(RequestError, match="is no classification set"):
            Torchvision(other)


KNOWN = (
    "CIFAR10 CIFAR100 Caltech101 Caltech256 Country211 DTD EMNIST EuroSAT FGVCAircraft FashionMNIST Flowers102 Food101 "
    "GTSRB ImageNet KMNIST MNIST OxfordIIITPet PCAM Places365 QMNIST SEMEION STL10 SUN397 SVHN StanfordCars USPS"
)


def test_the_classification_sets_are_found_by_their_arguments() -> None:
    assert {*KNOWN.split()} <= classification_sets().keys()


def same_as_torchvisions(
    store: PreparedSet, parts: dict[str, torchvision.datasets.VisionDataset], lowest: int = 0
) -> None:
    """Every pixel and label, which are asked of torchvision one by one."""
    for name, part in parts.items():
        images = store.arrays[f"{name}_images"]
        np.testing.assert_array_equal(images.squeeze(), np.stack([np.asarray(image) for image, _ in part]))
        assert store.arrays[f"{name}_labels"].tolist() == [int(label) - lowest for _, label in part]


@pytest.mark.parametrize(("name", "arguments"), [("KMNIST", {}), ("EMNIST", {"split": "letters"})])
def test_relatives_of_mnist_have_torchvisions_pixels(tmp_path: Path, name: str, arguments: dict) -> None:
    prefixes = {"KMNIST": ("train", "t10k"), "EMNIST": ("emnist-letters-train", "emnist-letters-test")}[name]
    lowest = int(name == "EMNIST")  # whose letters are numbered from one
    for prefix, count in zip(prefixes, (52, 26), strict=True):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28))
        idx(tmp_path / name / "raw" / f"{prefix}-images-idx3-ubyte", images)
        idx(tmp_path / name / "raw" / f"{prefix}-labels-idx1-ubyte", lowest + np.arange(count) % (26 if lowest else 10))
    store = prepare(Torchvision(name, arguments), tmp_path, None, tmp_path / "cache")
    make = getattr(torchvision.datasets, name)
    parts = {split: make(str(tmp_path), train=split == "train", **arguments) for split in ("train", "test")}
    same_as_torchvisions(store, parts, lowest)
    assert store.classes == ([*"abcdefghijklmnopqrstuvwxyz"] if lowest else parts["train"].classes)


def test_svhn_and_stl10_have_torchvisions_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("svhn", "stl10"):  # the md5 sums are of the whole files
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    random, stl10 = np.random.default_rng(0), tmp_path / "stl10_binary"
    stl10.mkdir()
    for split, count in (("train", 20), ("test", 10)):
        labels = 1 + np.arange(count) % 10  # ten stands for the digit zero
        images = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": labels[:, None]})
        random.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(stl10 / f"{split}_X.bin")
        labels.astype(np.uint8).tofile(stl10 / f"{split}_y.bin")
    (stl10 / "class_names.txt").write_text("\n".join("abcdefghij"))
    for name, classes in (("SVHN", "0123456789"), ("STL10", "abcdefghij")):
        make = getattr(torchvision.datasets, name)
        store = prepare(Torchvision(name), tmp_path, None, tmp_path / "cache")
        same_as_torchvisions(store, {split: make(str(tmp_path), split=split) for split in ("train", "test")})
        assert store.classes == [*classes]


def picture(path: Path, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """An image file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_sets_of_files_keep_their_names_and_their_validation_split(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        names = [f"{name}/{split}{number}.png" for name in ("banded", "woven") for number in range(2)]
        for name in names:
            picture(tmp_path / "dtd" / "dtd" / "images" / name)
        (tmp_path / "dtd" / "dtd" / "labels").mkdir(exist_ok=True)
        (tmp_path / "dtd" / "dtd" / "labels" / f"{split}2.txt").write_text("\n".join(names))
    store = prepare(Torchvision("DTD", {"partition": 2}), tmp_path, None, tmp_path / "cache")
    splits = ("train", "val", "test")
    same_as_torchvisions(store, {one: torchvision.datasets.DTD(str(tmp_path), one, partition=2) for one in splits})
    assert store.classes == ["banded", "woven"]
    assert store.arrays["val_files"].tolist()[0] == b"dtd/dtd/images/banded/val0.png"


def test_images_of_several_sizes_that_torchvision_decodes_are_resized(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "gtsrb" / "GTSRB" / "Training" / f"{number % 2:05}" / f"{number}.ppm", (8 + number, 9))
        picture(tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / f"t{number}.ppm", (9, 8 + number))
    rows = "\n".join(f"t{number}.ppm;{number % 2}" for number in range(4))
    (tmp_path / "gtsrb" / "GT-final_test.csv").write_text(f"Filename;ClassId\n{rows}\n")
    with pytest.raises(RequestError, match=r"data\.image_size"):
        prepare(Torchvision("GTSRB"), tmp_path, None, tmp_path / "cache")
    store = prepare(Torchvision("GTSRB"), tmp_path, 8, tmp_path / "cache")
    for split in ("train", "test"):
        part = torchvision.datasets.GTSRB(str(tmp_path), split)
        expected = [np.asarray(ImageOps.fit(image, (8, 8), Image.Resampling.BILINEAR)) for image, _ in part]
        np.testing.assert_array_equal(store.arrays[f"{split}_images"], expected)


def test_a_set_that_torchvision_does_not_split_gives_a_fifth_of_each_class_to_the_test(tmp_path: Path) -> None:
    for name, count in (("Forest", 10), ("River", 5)):
        for number in range(count):
            picture(tmp_path / "eurosat" / "2750" / name / f"{name}_{number}.png")
    store = prepare(Torchvision("EuroSAT"), tmp_path, None, tmp_path / "cache")
    assert [np.bincount(store.arrays[f"{split}_labels"]).tolist() for split in ("train", "test")] == [[8, 4], [2, 1]]
    assert store.notes == ["EuroSAT has no test split: test is a share of 0.2 of each class in train"]


def test_arguments_that_a_set_does_not_take_are_refused(tmp_path: Path) -> None:
    wrong = {
        ("EMNIST", ""): r"missing 1 required .*'split'",
        ("EMNIST", "letter"): r"Unknown value 'letter' for argument split\. Valid values are \{.*letters",
        ("SVHN", "extra"): "split",
        ("KMNIST", "a"): "unexpected keyword argument 'split'",
    }
    for (name, value), text in wrong.items():
        with pytest.raises(RequestError, match=rf"data\.source\.arguments.*{text}"):
            prepare(Torchvision(name, {"split": value} if value else {}), tmp_path, None, tmp_path / "cache")


@pytest.mark.parametrize(("name", "folder_", "classes"), [("CIFAR10", "cifar-10-batches-py", 10), ("CIFAR100", "cifar-100-python", 100)])  # fmt: skip
def test_cifar_from_its_pickles_whose_checksums_are_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder_: str, classes: int
) -> None:
    kind = getattr(torchvision.datasets, name)
    label_key, meta_key = ("labels", "label_names") if classes == 10 else ("fine_labels", "fine_label_names")
    (tmp_path / folder_).mkdir()

    def write(file: str, content: dict) -> list[str]:
        (tmp_path / folder_ / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((tmp_path / folder_ / file).read_bytes()).hexdigest()]

    data = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    lists = {
        listed: [write(file, {"data": data, label_key: [0, 1, 2, classes - 1]}) for file, _ in getattr(kind, listed)]
        for listed in ("train_list", "test_list")
    }
    for listed, files in lists.items():
        monkeypatch.setattr(kind, listed, files)
    meta = write(kind.meta["filename"], {meta_key: [f"class {i}" for i in range(classes)]})
    monkeypatch.setattr(kind, "meta", {"filename": meta[0], "key": meta_key, "md5": meta[1]})
    store = prepare(Torchvision(name), tmp_path, None, tmp_path / "cache")
    assert len(store.classes) == classes and store.arrays["train_images"].shape[1:] == (32, 32, 3)
    np.testing.assert_array_equal(store.arrays["test_images"][2], data[2].reshape(3, 32, 32).transpose(1, 2, 0))
    with (tmp_path / folder_ / lists["train_list"][0][0]).open("ab") as file:
        file.write(b"more")  # a changed pickle is not opened
    with pytest.raises(RequestError, match="incomplete or damaged"):
        prepare(Torchvision(name), tmp_path, None, tmp_path / "cache")


def test_without_the_set_and_without_network_the_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_, **__) -> None:
        raise OSError("no route to host")

    def fail_silently(*_, **__) -> None:
        raise TimeoutError

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail_silently)
    with pytest.raises(RequestError) as error:
        prepare(Torchvision("MNIST"), tmp_path / "new" / "root", None, tmp_path / "cache")
    for part in (str(tmp_path / "new/root/MNIST/raw"), "no route to host", "CNNBENCH_DATA", "data.root", "data=digits"):
        assert part in str(error.value)
    with pytest.raises(RequestError, match=r"cifar-10-batches-py and could not be downloaded \(TimeoutError\)"):
        prepare(Torchvision("CIFAR10"), tmp_path / "new" / "root", None, tmp_path / "cache")
    with pytest.raises(RequestError, match=r"KMNIST is not in .*new/root and could not be downloaded .*data\.root"):
        prepare(Torchvision("KMNIST"), tmp_path / "new" / "root", None, tmp_path / "cache")
    assert not (tmp_path / "new").exists()


def test_the_real_mnist(real_data: Path) -> None:
    images = Torchvision("MNIST").read(real_data)
    assert images.splits["train"].images.shape == (60_000, 28, 28)
    assert np.bincount(images.splits["test"].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
HUGE = b"P6\n60000 60000\n255\n"


@pytest.mark.parametrize("content", [EPS, HUGE, b"no image"])
def test_an_image_that_torchvision_opens_starts_no_program_and_is_bounded(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    for number in range(4):
        picture(tmp_path / "gtsrb" / "GTSRB" / "Training" / f"{number % 2:05}" / f"{number}.ppm")
        picture(tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / f"t{number}.ppm")
    rows = "\n".join(f"t{number}.ppm;{number % 2}" for number in range(4))
    (tmp_path / "gtsrb" / "GT-final_test.csv").write_text(f"Filename;ClassId\n{rows}\n")
    (tmp_path / "gtsrb" / "GTSRB" / "Training" / "00000" / "0.ppm").write_bytes(content)
    known = [*Image.ID]
    with pytest.raises(RequestError, match=r"GTSRB in .* has an image that is damaged"):
        prepare(Torchvision("GTSRB"), tmp_path, 8, tmp_path / "cache")
    assert {*known} <= {*Image.ID}  # for others as before


def test_a_pipe_and_what_is_no_function_are_refused(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "eurosat" / "2750" / "ab"[number % 2] / f"{number}.png")
    for key in ("transform", "target_transform"):
        with pytest.raises(RequestError, match=r"EuroSAT does not take data\.source\.arguments=.*not callable"):
            prepare(Torchvision("EuroSAT", {key: "os.mkdir"}), tmp_path, 8, tmp_path / "cache")
    for path in (tmp_path / "eurosat" / "2750").glob("*/*"):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(RequestError, match=r"[ab]/[0-5]\.png is a pipe"):
        prepare(Torchvision("EuroSAT"), tmp_path, 8, tmp_path / "cache")


@pytest.mark.parametrize("kind", ["socket", "/dev/null", "pipe"])  # in this order: the first two let wrong code go on
def test_a_label_file_that_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    labels = tmp_path / "dtd" / "dtd" / "labels"
    for split in ("train", "val", "test"):
        names = [f"{name}/{split}{number}.png" for name in ("banded", "woven") for number in range(2)]
        for name in names:
            picture(tmp_path / "dtd" / "dtd" / "images" / name)
        labels.mkdir(exist_ok=True)
        (labels / f"{split}1.txt").write_text("\n".join(names))
    (tmp_path / ".other").mkdir()  # such as of gpg, in a home: no part of a set
    os.mkfifo(tmp_path / ".other" / "pipe")
    (tmp_path / "dtd" / "circle").symlink_to(tmp_path)
    (tmp_path / "dtd" / "gone").symlink_to(tmp_path / "nothing")
    assert prepare(Torchvision("DTD"), tmp_path, 8, tmp_path / "cache").classes == ["banded", "woven"]
    (path := labels / "train1.txt").unlink()
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(str(path))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(kind)
    with pytest.raises(RequestError, match=rf"{path} is a pipe, a socket or a device"):
        prepare(Torchvision("DTD"), tmp_path, 8, tmp_path / "other cache")


def test_sets_that_torchvision_unpickles_without_a_checksum_are_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "ran"),)

    for name, folder, kind in (("CIFAR10", "cifar-10-batches-py", torchvision.datasets.CIFAR10),
                               ("CIFAR100", "cifar-100-python", torchvision.datasets.CIFAR100)):  # fmt: skip
        (tmp_path / folder).mkdir()
        for file in [*(file for file, _ in kind.train_list + kind.test_list), kind.meta["filename"]]:
            (tmp_path / folder / file).write_bytes(pickle.dumps(Hostile()))
        with pytest.raises(RequestError, match="incomplete or damaged"):
            prepare(Torchvision(name), tmp_path, None, tmp_path / "cache")
    for name in ("LSUN", "PhotoTour", "DatasetFolder"):
        with pytest.raises(RequestError, match="is no classification set"):
            Torchvision(name)
    modules = {getattr(torchvision.datasets, name).__module__ for name in classification_sets()}
    unpickling = {name for name in modules if "pickle.load" in inspect.getsource(sys.modules[name])}
    assert unpickling == {"torchvision.datasets.cifar"}  # a new one has to be looked at
    assert not (tmp_path / "ran").exists()
