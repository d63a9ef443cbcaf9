"""Reading .npz files with the keys of MedMNIST, and what is said of those that are wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cnnbench.data.cache import prepare
from cnnbench.data.sources import MedMnist, Npz
from cnnbench.utils.errors import RequestError


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


def test_its_own_validation_split_is_kept(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", val_images=np.full((2, 5, 5, 3), 7, np.uint8), val_labels=np.array([2, 0]))
    store = prepare(Npz(), path, None, tmp_path / "cache")
    assert (store.arrays["val_images"] == 7).all() and store.arrays["val_labels"].tolist() == [2, 0]


def test_sizes_that_differ_between_the_splits_ask_for_one(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", test_images=np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(RequestError, match=r"5x5 and 8x8.*data\.image_size"):
        prepare(Npz(), path, None, tmp_path / "cache")
    assert prepare(Npz(), path, 6, tmp_path / "cache").arrays["test_images"].shape == (3, 6, 6, 3)


def test_labels_that_occur_are_the_classes_whatever_their_values(tmp_path: Path) -> None:
    labels = {"train_labels": np.array([202, 101, 1303] * 2), "test_labels": np.array([1303, 101, 202])}
    store = prepare(Npz(), npz(tmp_path / "a.npz", **labels), None, tmp_path / "cache")
    assert store.classes == ["101", "202", "1303"] and store.arrays["train_labels"].tolist() == [1, 0, 2] * 2
    from_one = {"train_labels": np.array([1, 2, 3] * 2), "test_labels": np.array([1, 2, 3])}
    named = npz(tmp_path / "b.npz", **from_one, classes=np.array([b"cat", b"dog", "käfer".encode()]))
    store = prepare(Npz(), named, None, tmp_path / "cache")
    assert store.classes == ["cat", "dog", "käfer"] and store.arrays["test_labels"].tolist() == [0, 1, 2]

    odd = prepare(Npz(), npz(tmp_path / "c.npz", classes=np.array(["a", "\ud800", "\udce9"])), None, tmp_path / "cache")
    assert odd.classes == ["a", "\ufffd", "\\xe9"]


def test_one_class_is_refused_and_a_class_of_the_test_set_alone_is_reported(tmp_path: Path) -> None:
    one = {"train_labels": np.zeros(6, int), "test_labels": np.zeros(3, int)}
    with pytest.raises(RequestError, match=r"one class only \(0\)"):
        prepare(Npz(), npz(tmp_path / "a.npz", **one), None, tmp_path / "cache")
    store = prepare(Npz(), npz(tmp_path / "b.npz", train_labels=np.array([0, 1] * 3)), None, tmp_path / "cache")
    assert store.classes == ["0", "1", "2"] and "no image of class 2 is in train" in store.notes[-1]
    named = npz(tmp_path / "c.npz", classes=np.array(["a", "b", "c", "never"]))
    assert "no image of class never is in train" in prepare(Npz(), named, None, tmp_path / "cache").notes[-1]


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
        ({"test_images": np.zeros((3, 5, 5), np.uint8)}, "channels: 3 in train, 1 in test"),
        ({"train_images": np.zeros((6, 5, 4, 3), np.uint8)}, "4x5"),
        (
            {"test_images": np.zeros((0, 5, 5, 3), np.uint8), "test_labels": np.array([], int)},
            "the test split of npz has no",
        ),
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


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"is not a file.*\.npz"):
        prepare(Npz(), tmp_path, None, tmp_path / "cache")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(RequestError, match=r"a\.npy cannot be read"):
        prepare(Npz(), tmp_path / "a.npy", None, tmp_path / "cache")


def test_a_single_number_is_no_array_of_images(tmp_path: Path) -> None:
    for labels in (np.int64(1), np.arange(2)):
        path = tmp_path / f"{np.ndim(labels)}.npz"
        parts = {"train_images": np.uint8(1), "train_labels": labels}
        np.savez(path, test_images=np.zeros((2, 4, 4), np.uint8), test_labels=np.arange(2), **parts)
        with pytest.raises(RequestError, match=f"{path.name}: train_images"):
            Npz().read(path)


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(tmp_path / "x.npz", classes=np.array(["a", "a"]), **arrays)
    with pytest.raises(RequestError, match="two classes of one name: a, a"):
        Npz().read(tmp_path / "x.npz")


def test_a_set_of_medmnist_is_found_by_its_name_and_has_the_packages_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    npz(tmp_path / "bloodmnist_64.npz", val_images=images, val_labels=np.array([[2], [0]]))
    monkeypatch.setitem(sys.modules, "medmnist", None)
    store = prepare(MedMnist("bloodmnist_64"), tmp_path, None, tmp_path / "cache")
    assert store.classes == ["0", "1", "2"] and store.arrays["val_labels"].tolist() == [2, 0]
    np.testing.assert_array_equal(store.arrays["val_images"], images)
    package = ModuleType("medmnist")
    package.INFO = {"bloodmnist": {"label": {"0": "basophil", "1": "eosinophil", "2": "erythroblast"}}}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "medmnist", package)
    assert MedMnist("bloodmnist_64").read(tmp_path).classes == ["basophil", "eosinophil", "erythroblast"]
    with pytest.raises(
        RequestError, match=r"data\.name=bloodmnist: .*bloodmnist\.npz is not there; did you mean 'bloodmnist_64'"
    ):
        MedMnist("bloodmnist").identity(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train_labels": np.array([2**63, 1, 2] * 2, np.uint64)}, r"train_labels is uint64 \(6,\)"),
        ({"classes": np.array(3)}, "labels up to 2 but only 1 class names"),
        ({"extra": np.array([{}], object)}, "plain arrays"),
    ],
)
def test_odd_arrays_are_refused_in_a_line(tmp_path: Path, change: dict, told: str) -> None:
    npz(tmp_path / "set.npz", **change)
    with pytest.raises(RequestError, match=told):
        MedMnist("set").read(tmp_path)


def test_sets_of_several_labels_an_image_and_of_volumes_are_refused(tmp_path: Path) -> None:
    npz(tmp_path / "chestmnist.npz", train_labels=np.zeros((6, 14), int), test_labels=np.zeros((3, 14), int))
    with pytest.raises(RequestError, match=r"train_labels is int64 \(6, 14\); it should be one whole number"):
        MedMnist("chestmnist").read(tmp_path)
    volumes = {f"{split}_images": np.zeros((n, 5, 5, 5), np.uint8) for split, n in (("train", 6), ("test", 3))}
    npz(tmp_path / "organmnist3d.npz", **volumes)
    with pytest.raises(RequestError, match=r"train_images is uint8 \(6, 5, 5, 5\)"):
        MedMnist("organmnist3d").read(tmp_path)
