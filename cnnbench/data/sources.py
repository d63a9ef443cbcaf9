"""Where images come from. A source says what it would read (``identity``) and reads it (``read``).

To add a dataset write one class here and one YAML in ``conf/data``. ``read`` gives each split as a sequence of images
and their labels; decoding, resizing and keeping them is the store's work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cnnbench.data.files import Classes, list_classes, remove_empty_folders
from cnnbench.data.imageset import ImageSet, Split, one_line
from cnnbench.data.npz import Npz
from cnnbench.utils.errors import RequestError, one_of

__all__ = ["Digits", "ImageFolder", "Npz", "Torchvision"]

Listing = dict[str, Classes]  # the classes of each split


class Digits:
    """scikit-learn's 1,797 handwritten digits (8x8, 16 grey levels; UCI, Alpaydin & Kaynak 1998). Needs no network.

    A fifth of each class, fixed, is the test set.
    """

    shape: ClassVar = {"channels": 1, "image_size": 8, "classes": 10}

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

    Raises:
        RequestError: there is no such dataset among these.
    """

    FOLDERS: ClassVar[dict[str, str]] = {
        "MNIST": "MNIST/raw",
        "FashionMNIST": "FashionMNIST/raw",
        "CIFAR10": "cifar-10-batches-py",
        "CIFAR100": "cifar-100-python",
    }

    def __init__(self, dataset: str) -> None:
        self.dataset = one_of("data.source.dataset", dataset, self.FOLDERS)

    @property
    def shape(self) -> dict[str, int]:
        """What its images are like, for ``cnnbench list``, which does not read them."""
        colour = self.dataset.startswith("CIFAR")
        classes = 100 if self.dataset == "CIFAR100" else 10
        return {"channels": 3 if colour else 1, "image_size": 32 if colour else 28, "classes": classes}

    def identity(self, location: Path | None) -> dict[str, Any]:
        assert location is not None
        folder = location / self.FOLDERS[self.dataset]
        self._ensure(location, folder)
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".gz")
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return {"set": self.dataset, "files": stats}

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
                f"{self.dataset} is not in {folder} and could not be downloaded ({one_line(error)}); "
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
                f"{self.dataset} in {folder} is incomplete or damaged ({one_line(error)}); delete that folder "
                "to download it again, or point data.root (or CNNBENCH_DATA) at a good copy"
            ) from error
        splits = {
            name: Split(np.asarray(part.data), np.asarray(part.targets, dtype=np.int64)) for name, part in parts.items()
        }
        channels = 1 if splits["train"].images.ndim == 3 else 3  # type: ignore[union-attr]
        return ImageSet(splits, [str(name).split(" - ")[0] for name in parts["train"].classes], channels)


class ImageFolder:
    """Image files in a folder a class: below ``train/`` and ``test/`` (and perhaps ``val/``), or in one tree.

    Their order is fixed and mixes the classes.

    Args:
        channels: 3 for colour, 1 for grey.
        test_share: where there is no ``test/``, this share of each class, fixed, is the test set.
        skip_damaged: leave out the files that do not decode; otherwise they are an error.

    Raises:
        RequestError: a value is out of range.
    """

    def __init__(self, channels: int = 3, test_share: float = 0.2, skip_damaged: bool = False) -> None:
        if channels not in (1, 3):
            raise RequestError(f"data.source.channels must be 1 (grey) or 3 (colour), got {channels!r}")
        if not isinstance(test_share, float) or not 0 < test_share < 1:
            raise RequestError(f"data.source.test_share must be a fraction between 0 and 1, got {test_share!r}")
        if not isinstance(skip_damaged, bool):
            raise RequestError(f"data.source.skip_damaged must be true or false, got {skip_damaged!r}")
        self.channels, self.test_share, self.skip_damaged = channels, test_share, skip_damaged
        self.shape = {"channels": channels}
        # What ``identity`` listed, so that ``read`` need not do it again.
        self._listed: tuple[Path | None, Listing] | None = None

    def identity(self, location: Path | None) -> dict[str, Any]:
        listing = self._list(location)
        self._listed = (location, listing)
        own: dict[str, Any] = {"channels": self.channels, "test_share": self.test_share, "order": "mixed"}
        if self.skip_damaged:
            own["skip_damaged"] = True
        return {"set": "image_folder", **own, "files": listing}

    def _list(self, location: Path | None) -> Listing:
        """Split name to class name to files, all sorted; one tree is the split named ``all``."""
        if location is None or not location.is_dir():
            raise RequestError(
                f"data.path={location} is not a folder; it should hold train/ and test/ with a folder a class"
            )
        location = location.resolve()
        splits = {name: location / name for name in ("train", "val", "test") if (location / name).is_dir()}
        if "train" not in splits:
            splits = {"all": location}
        found = {name: list_classes(folder) for name, folder in splits.items()}
        if "all" in found and set(found["all"]) <= {"test", "val"} and found["all"]:
            raise RequestError(f"{location} has {' and '.join(found['all'])} but no train/ with images")
        names = set(next(iter(found.values())))
        for split, classes in found.items():
            if extra := set(classes) - names:
                raise RequestError(f"{location / split} has classes that train/ has not: {', '.join(sorted(extra))}")
        if len(names) < 2:
            raise RequestError(
                f"{location} has {len(names)} folders with images; it should hold a folder a class, two or more"
            )
        return found

    def read(self, location: Path | None) -> ImageSet:
        from cnnbench.data.split import stratified

        seen, found = self._listed or (None, None)
        if found is None or seen != location:
            found = self._list(location)
        classes = sorted(next(iter(found.values())))
        splits = {}
        for name, by_class in found.items():
            paths = [Path(file.path) for label in classes for file in by_class.get(label, [])]
            labels = np.repeat(np.arange(len(classes)), [len(by_class.get(label, [])) for label in classes])
            splits[name] = Split(paths, labels)
        whole = splits.pop("all", None) or (splits["train"] if "test" not in splits else None)
        if whole is not None:
            test, train = stratified(whole.labels, self.test_share, seed=0)
            for name, rows in (("train", train), ("test", test)):
                splits[name] = Split([whole.images[row] for row in rows], whole.labels[rows])
        return ImageSet(
            {name: _mixed(split) for name, split in splits.items()}, classes, self.channels, self.skip_damaged
        )


def _mixed(split: Split) -> Split:
    """The same images in a fixed order that mixes the classes, as published sets have them: in the order of the folders,
    without shuffling, each batch would be of one class."""
    order = np.random.default_rng(0).permutation(len(split.labels))
    return Split([split.images[place] for place in order], split.labels[order])
