"""Reading sets in their on-disk formats, and what is said where one is missing or damaged."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from cnnbench.data.sources import Digits, ImageFolder, Npz, Torchvision
from cnnbench.data.store import prepare
from cnnbench.errors import RequestError


def picture(path: Path, colour: tuple[int, ...] | int = (255, 0, 0), size: tuple[int, int] = (8, 8), mode: str = "RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/ and test/ with two classes: red cats and blue dogs."""
    root = tmp_path / "pictures"
    for split, count in (("train", 6), ("test", 3)):
        for name, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
            for number in range(count):
                picture(root / split / name / f"{number}.png", colour)
    return root


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    store = prepare(Digits(), None, None, tmp_path)
    assert store.image_size == 8 and store.channels == 1 and store.classes == [str(d) for d in range(10)]
    images = np.concatenate([store.arrays["train_images"], store.arrays["test_images"]])
    assert len(images) == 1797 and images.max() == 255 and images.dtype == np.uint8


def test_a_folder_with_train_and_test(folder: Path, tmp_path: Path) -> None:
    store = prepare(ImageFolder(), folder, None, tmp_path / "cache")
    assert store.classes == ["cat", "dog"] and len(store.arrays["train_labels"]) == 12
    for label, colour in ((0, (255, 0, 0)), (1, (0, 0, 255))):
        chosen = store.arrays["test_images"][store.arrays["test_labels"] == label]
        assert len(chosen) == 3 and (chosen == colour).all()


def test_one_tree_is_split_and_a_val_folder_is_kept(folder: Path, tmp_path: Path) -> None:
    tree = prepare(ImageFolder(test_share=0.5), folder / "train", None, tmp_path / "cache")
    assert (
        np.bincount(tree.arrays["test_labels"]).tolist() == [3, 3] == np.bincount(tree.arrays["train_labels"]).tolist()
    )
    shutil.copytree(folder / "test", folder / "val")
    assert len(prepare(ImageFolder(), folder, None, tmp_path / "cache").arrays["val_labels"]) == 6


def test_names_of_any_kind(tmp_path: Path) -> None:
    root = tmp_path / "très étrange"
    for name in ("猫", "a b;rm -rf", "$(x)", "<b>"):
        picture(root / name / "ünï 'code'.JPG")
        picture(root / name / "deep" / "er.png")
    (root / ".hidden").mkdir()
    (root / "猫" / "notes.txt").write_text("no image")
    store = prepare(ImageFolder(), root, None, tmp_path / "cache")
    assert set(store.classes) == {"猫", "a b;rm -rf", "$(x)", "<b>"}


MODES = {
    "1": (1, 255), "L": (100, 100), "P": (0, 0), "RGB": ((9, 9, 9), 9), "RGBA": ((200, 200, 200, 0), 0), "LA": ((200, 255), 200),
    "I;16": (65535, 255), "CMYK": ((0, 0, 0, 0), 255),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_eight_bits(tmp_path: Path, mode: str, channels: int) -> None:
    colour, expected = MODES[mode]
    for name in ("a", "b"):
        for number in range(2):
            ending = "tif" if mode == "CMYK" else "png"
            picture(tmp_path / "set" / name / f"{number}.{ending}", colour, mode=mode)
    store = prepare(ImageFolder(channels), tmp_path / "set", None, tmp_path / "cache")
    assert store.arrays["train_images"].shape[-1] == channels
    assert (store.arrays["train_images"] == expected).all()


def test_photographs_are_turned_upright_and_cut_to_a_square(tmp_path: Path) -> None:
    picture_ = Image.new("RGB", (40, 20), (0, 0, 0))
    picture_.paste((255, 255, 255), (0, 0, 20, 20))  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise: white is the upper half
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            picture_.save(tmp_path / "set" / name / f"{number}.png", exif=exif)
    image = prepare(ImageFolder(), tmp_path / "set", 10, tmp_path / "cache").arrays["train_images"][0]
    assert image.shape == (10, 10, 3) and image[:4].min() > 250 and image[6:].max() < 5


def test_mixed_sizes_ask_for_one(folder: Path, tmp_path: Path) -> None:
    picture(folder / "train" / "dog" / "big.png", size=(9, 9))
    with pytest.raises(RequestError, match=r"big\.png is 9x9 where others are 8x8; set data\.image_size"):
        prepare(ImageFolder(), folder, None, tmp_path / "cache")
    assert prepare(ImageFolder(), folder, 4, tmp_path / "cache").image_size == 4


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_an_image_that_does_not_decode_is_named(folder: Path, tmp_path: Path, content: bytes | None) -> None:
    bad = folder / "train" / "dog" / "bad.png"
    bad.write_bytes((folder / "train" / "dog" / "0.png").read_bytes()[:50] if content is None else content)
    with pytest.raises(RequestError, match=r"bad\.png cannot be decoded"):
        prepare(ImageFolder(), folder, None, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_many_files_are_decoded_by_processes_with_the_same_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepare(ImageFolder(), folder, None, tmp_path / "one")
    monkeypatch.setattr("cnnbench.pictures.FEW", 1)
    several = prepare(ImageFolder(), folder, None, tmp_path / "several")
    assert several.fingerprint == one.fingerprint
    (folder / "test" / "dog" / "bad.png").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"bad\.png cannot be decoded"):
        prepare(ImageFolder(), folder, None, tmp_path / "several")


def test_folders_that_are_no_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a folder"):
        prepare(ImageFolder(), tmp_path / "nowhere", None, tmp_path / "cache")
    picture(tmp_path / "set" / "only" / "a.png")
    with pytest.raises(RequestError, match="two or more"):
        prepare(ImageFolder(), tmp_path / "set", None, tmp_path / "cache")


def npz(path: Path, **changes) -> Path:
    arrays = {
        "train_images": np.zeros((6, 5, 5, 3), np.uint8), "train_labels": np.array([[0], [1], [2]] * 2),
        "test_images": np.zeros((3, 5, 5, 3), np.uint8), "test_labels": np.array([[0], [1], [2]]),
    }  # fmt: skip
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_npz_with_the_keys_of_medmnist(tmp_path: Path) -> None:
    store = prepare(Npz(), npz(tmp_path / "a.npz"), None, tmp_path / "cache")
    assert store.classes == ["0", "1", "2"] and store.channels == 3 and store.arrays["train_labels"].shape == (6,)
    grey = npz(
        tmp_path / "b.npz", train_images=np.zeros((6, 5, 5), np.uint8), test_images=np.zeros((3, 5, 5), np.uint8)
    )
    assert prepare(Npz(), grey, 7, tmp_path / "cache").arrays["train_images"].shape == (6, 7, 7, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"test_images": None}, "lacks test_images"),
        ({"train_labels": np.array([0, 1])}, "6 images, train_labels 2 labels"),
        ({"train_images": np.zeros((6, 5, 5, 3))}, "float64"),
        ({"train_images": np.zeros((6, 5), np.uint8)}, r"\(6, 5\)"),
        ({"train_labels": np.array([-1] * 6)}, "from 0"),
        ({"train_labels": np.array([0.5] * 6)}, "float64"),
        ({"train_labels": np.array([{}] * 6, dtype=object)}, "plain arrays"),
        ({"classes": np.array(["only", "two"])}, "labels up to 2 but only 2 class names"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_npz_that_is_wrong_says_how(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        prepare(Npz(), npz(tmp_path / "a.npz", **changes), None, tmp_path / "cache")


def test_a_truncated_npz_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RequestError, match=r"a\.npz cannot be read"):
        prepare(Npz(), path, None, tmp_path / "cache")


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


def test_without_the_set_and_without_network_the_ways_out_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_, **__) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    with pytest.raises(RequestError) as error:
        prepare(Torchvision("MNIST"), tmp_path / "new" / "root", None, tmp_path / "cache")
    for part in (str(tmp_path / "new/root/MNIST/raw"), "no route to host", "CNNBENCH_DATA", "data.root", "data=digits"):
        assert part in str(error.value)
    assert not (tmp_path / "new").exists()


def test_the_real_mnist(real_data: Path) -> None:
    images = Torchvision("MNIST").read(real_data)
    assert images.splits["train"].images.shape == (60_000, 28, 28)
    assert np.bincount(images.splits["test"].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
