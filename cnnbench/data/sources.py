"""Where images come from. A source says what it would read (``identity``) and reads it (``read``).

To add a dataset write one class here and one YAML in ``conf/data``. ``read`` gives each split as a sequence of images
and their labels; decoding, resizing and keeping them is the store's work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from cnnbench.errors import RequestError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass
class Split:
    """One part of a set: ``images`` are uint8 arrays (N, H, W) or (N, H, W, C), or file paths; ``labels`` are (N,)."""

    images: np.ndarray | Sequence[Path]
    labels: np.ndarray


@dataclass
class ImageSet:
    """What a source reads: named splits (train, test and perhaps val) and the class names in the order of the labels."""

    splits: dict[str, Split]
    classes: list[str]
    channels: int
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """A kind of dataset; ``location`` is the folder or file that holds it, where it needs one."""

    def identity(self, location: Path | None) -> dict[str, Any]:
        """What the prepared store is keyed by: changes when what would be read changes. Raises RequestError if the set
        is not there."""
        ...

    def read(self, location: Path | None) -> ImageSet:
        """Read everything but encoded image files, which the store decodes."""
        ...


class Digits:
    """scikit-learn's 1,797 handwritten digits (8x8, 16 grey levels; UCI, Alpaydin & Kaynak 1998). Needs no network.

    A fifth of each class, fixed, is the test set.
    """

    def identity(self, location: Path | None) -> dict[str, Any]:
        return {"set": "digits", "test": 0.2}

    def read(self, location: Path | None) -> ImageSet:
        from sklearn.datasets import load_digits

        from cnnbench.data.split import stratified

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        test, train = stratified(digits.target, 0.2, seed=0)
        return ImageSet(
            {name: Split(images[rows], digits.target[rows]) for name, rows in (("train", train), ("test", test))},
            [str(digit) for digit in range(10)],
            channels=1,
        )


class Torchvision:
    """MNIST, FashionMNIST, CIFAR10 or CIFAR100 through torchvision, which downloads them and checks their md5 sums.

    Args:
        dataset: the name of the class in torchvision.datasets.
    """

    FOLDERS: ClassVar[dict[str, str]] = {
        "MNIST": "MNIST/raw",
        "FashionMNIST": "FashionMNIST/raw",
        "CIFAR10": "cifar-10-batches-py",
        "CIFAR100": "cifar-100-python",
    }

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    def identity(self, location: Path | None) -> dict[str, Any]:
        assert location is not None
        folder = location / self.FOLDERS[self.dataset]
        self._ensure(location, folder)
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".gz")
        return {"set": self.dataset, "files": [(path.name, path.stat().st_size) for path in files]}

    def _open(self, location: Path, train: bool, download: bool) -> Any:
        import torchvision.datasets

        return getattr(torchvision.datasets, self.dataset)(str(location), train=train, download=download)

    def _ensure(self, location: Path, folder: Path) -> None:
        """Download the set if it is not there; raises RequestError with the ways out if that fails too."""
        if folder.is_dir() and any(folder.iterdir()):
            return
        there = next(path for path in (location, *location.parents) if path.exists())
        try:
            self._open(location, train=True, download=True)
        except Exception as error:
            remove_empty_folders(location, there)
            raise RequestError(
                f"{self.dataset} is not in {folder} and could not be downloaded ({str(error).splitlines()[0]}); "
                "connect once to download it, or point data.root (or the environment variable CNNBENCH_DATA) at the "
                "folder that holds it, or use data=digits, which needs no download"
            ) from error

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        try:
            parts = {name: self._open(location, train=name == "train", download=False) for name in ("train", "test")}
        except Exception as error:
            folder = location / self.FOLDERS[self.dataset]
            raise RequestError(
                f"{self.dataset} in {folder} is incomplete or damaged ({str(error).splitlines()[0]}); delete that folder "
                "to download it again, or point data.root (or CNNBENCH_DATA) at a good copy"
            ) from error
        splits = {
            name: Split(np.asarray(part.data), np.asarray(part.targets, dtype=np.int64)) for name, part in parts.items()
        }
        channels = 1 if splits["train"].images.ndim == 3 else 3  # type: ignore[union-attr]
        return ImageSet(splits, [str(name).split(" - ")[0] for name in parts["train"].classes], channels)


def remove_empty_folders(folder: Path, keep: Path) -> None:
    """Remove what a failed download made: folders without a file, from ``folder`` up to below ``keep``."""
    for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    while folder != keep and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


class File(NamedTuple):
    """An image file, and what tells whether it has changed."""

    path: Path
    bytes: int
    modified: int  # nanoseconds


Listing = dict[str, dict[str, list[File]]]  # split, class, files


def list_images(folder: Path) -> Iterator[File]:
    """The image files below ``folder``, by their endings; hidden ones are left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from list_images(Path(entry.path))
            elif entry.name.lower().endswith(IMAGE_ENDINGS):
                status = entry.stat()
                yield File(Path(entry.path), status.st_size, status.st_mtime_ns)


class ImageFolder:
    """Image files in a folder a class: below ``train/`` and ``test/`` (and perhaps ``val/``), or in one tree.

    Args:
        channels: 3 for colour, 1 for grey.
        test_share: where there is no ``test/``, this share of each class, fixed, is the test set.
    """

    def __init__(self, channels: int = 3, test_share: float = 0.2) -> None:
        self.channels, self.test_share = channels, test_share
        self._found: Listing | None = None  # what ``identity`` saw, so that 60,000 files are listed once

    def identity(self, location: Path | None) -> dict[str, Any]:
        self._found = self._files(location)
        listing = [
            (split, name, file.path.name, file.bytes, file.modified)
            for split, classes in self._found.items()
            for name, files in classes.items()
            for file in files
        ]
        return {"set": "image_folder", "channels": self.channels, "test_share": self.test_share, "files": listing}

    def _files(self, location: Path | None) -> Listing:
        """Split name to class name to files, all sorted; one tree is the split named ``all``."""
        if location is None or not location.is_dir():
            raise RequestError(
                f"data.path={location} is not a folder; it should hold train/ and test/ with a folder a class"
            )
        splits = {name: location / name for name in ("train", "val", "test") if (location / name).is_dir()}
        if "train" not in splits:
            splits = {"all": location}
        found = {name: self._classes(folder) for name, folder in splits.items()}
        names = set(next(iter(found.values())))
        for split, classes in found.items():
            if extra := set(classes) - names:
                raise RequestError(f"{location / split} has classes that train/ has not: {', '.join(sorted(extra))}")
        if len(names) < 2:
            raise RequestError(
                f"{location} has {len(names)} folders with images; it should hold a folder a class, two or more"
            )
        return found

    @staticmethod
    def _classes(folder: Path) -> dict[str, list[File]]:
        classes = {}
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith(".") and (files := sorted(list_images(entry))):
                classes[entry.name] = files
        return classes

    def read(self, location: Path | None) -> ImageSet:
        from cnnbench.data.split import stratified

        found = self._found or self._files(location)
        classes = sorted(next(iter(found.values())))
        splits = {}
        for name, by_class in found.items():
            paths = [file.path for label in classes for file in by_class.get(label, [])]
            labels = np.repeat(np.arange(len(classes)), [len(by_class.get(label, [])) for label in classes])
            splits[name] = Split(paths, labels)
        whole = splits.pop("all", None) or (splits["train"] if "test" not in splits else None)
        if whole is not None:
            test, train = stratified(whole.labels, self.test_share, seed=0)
            for name, rows in (("train", train), ("test", test)):
                splits[name] = Split([whole.images[row] for row in rows], whole.labels[rows])
        return ImageSet(splits, classes, self.channels)


class Npz:
    """One .npz file with the MedMNIST keys: train_images, train_labels, test_images, test_labels, and perhaps val_*.

    Images are uint8 (N, H, W) or (N, H, W, C); labels are whole numbers from 0, (N,) or (N, 1). Class names may be
    given as an array of strings under ``classes``. Pickled content is refused.
    """

    def identity(self, location: Path | None) -> dict[str, Any]:
        if location is None or not location.is_file():
            raise RequestError(
                f"data.path={location} is not a file; it should be an .npz with train_images and train_labels"
            )
        return {
            "set": "npz",
            "file": str(location.resolve()),
            "stat": (location.stat().st_size, location.stat().st_mtime_ns),
        }

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        try:
            with np.load(location, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except Exception as error:
            raise RequestError(f"{location} cannot be read as an .npz of plain arrays ({error})") from error
        missing = [key for key in ("train_images", "train_labels", "test_images", "test_labels") if key not in arrays]
        if missing:
            raise RequestError(
                f"{location} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}"
            )
        splits = {}
        for name in ("train", "val", "test"):
            if f"{name}_images" in arrays:
                splits[name] = self._split(location, name, arrays[f"{name}_images"], arrays.get(f"{name}_labels"))
        count = max(int(split.labels.max(initial=0)) for split in splits.values()) + 1
        classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else [str(i) for i in range(count)]
        if count > len(classes):
            raise RequestError(f"{location} has labels up to {count - 1} but only {len(classes)} class names")
        images = splits["train"].images
        return ImageSet(splits, classes, channels=1 if images.ndim == 3 else images.shape[-1])  # type: ignore[union-attr]

    @staticmethod
    def _split(location: Path, name: str, images: np.ndarray, labels: np.ndarray | None) -> Split:
        if labels is None or len(labels) != len(images):
            raise RequestError(
                f"{location}: {name}_images has {len(images)} images, {name}_labels "
                f"{'is missing' if labels is None else f'{len(labels)} labels'}"
            )
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or (images.ndim == 4 and images.shape[-1] not in (1, 3))
        ):
            raise RequestError(
                f"{location}: {name}_images is {images.dtype} {images.shape}; it should be uint8 (N, H, W) "
                "or (N, H, W, 1 or 3)"
            )
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] != 1 or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
            raise RequestError(
                f"{location}: {name}_labels is {labels.dtype} {labels.shape}; it should be one whole number "
                "from 0 for each image"
            )
        return Split(images, labels[:, 0].astype(np.int64))
