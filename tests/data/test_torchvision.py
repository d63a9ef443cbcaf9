"""Reading torchvision's sets from small files in their on-disk formats, and what is said where one is missing."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from cnnbench.data.cache import prepare
from cnnbench.data.sources import Torchvision
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


def test_a_set_that_torchvision_has_but_we_do_not_is_refused() -> None:
    with pytest.raises(RequestError, match=r"data\.source\.dataset='KMNIST'.*did you mean 'MNIST'"):
        Torchvision("KMNIST")


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
    assert not (tmp_path / "new").exists()


def test_the_real_mnist(real_data: Path) -> None:
    images = Torchvision("MNIST").read(real_data)
    assert images.splits["train"].images.shape == (60_000, 28, 28)
    assert np.bincount(images.splits["test"].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
