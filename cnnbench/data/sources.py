"""Where images come from. A source says what it would read (``identity``) and reads it (``read``); decoding, resizing
and keeping the images is the cache's work. To add a dataset write one class here and one YAML in ``conf/data``."""

from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cnnbench.data.csv_file import Csv
from cnnbench.data.folder import ImageFolder
from cnnbench.data.hugging_face import HuggingFace
from cnnbench.data.imageset import ImageSet, Split, given_root, printable
from cnnbench.data.torchvision_sets import Torchvision
from cnnbench.utils.errors import RequestError, did_you_mean
from cnnbench.utils.npz_files import read_npz

__all__ = ["Csv", "Digits", "HuggingFace", "ImageFolder", "MedMnist", "Npz", "Torchvision"]


class Digits:
    """scikit-learn's 1,797 handwritten digits (8x8, 16 grey levels; UCI, Alpaydin & Kaynak 1998). Needs no network.

    A fifth of each class, fixed, is the test set.
    """

    shape: ClassVar = {"channels": 1, "image_size": 8, "classes": 10}

    def identity(self, location: Path | None) -> dict[str, Any]:
        return {"set": "digits", "test": 0.2}

    def read(self, location: Path | None) -> ImageSet:
        from sklearn.datasets import load_digits

        digits = load_digits()
        whole = Split(np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target)
        return ImageSet(whole.with_test_split(0.2), [str(digit) for digit in range(10)], channels=1)


class Npz:
    """One .npz file with the MedMNIST keys: train_images, train_labels, test_images, test_labels, and perhaps val_*.

    Images are uint8 (N, H, W) or (N, H, W, C); labels are whole numbers from 0, (N,) or (N, 1), and those that occur are
    the classes. Their names may be given as an array of strings under ``classes``. Pickled content is refused.
    """

    def identity(self, location: Path | None) -> dict[str, Any]:
        if location is None or not location.is_file():
            wanted = "an .npz with train_images and train_labels"
            raise RequestError(f"data.path={location} is not a file; it should be {wanted}")
        status = location.stat()
        return {"set": "npz", "file": str(location.resolve()), "stat": (status.st_size, status.st_mtime_ns)}

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        arrays = read_npz(location)
        missing = [key for key in ("train_images", "train_labels", "test_images", "test_labels") if key not in arrays]
        if missing:
            has = ", ".join(sorted(arrays)) or "nothing"
            raise RequestError(f"{location} lacks {', '.join(missing)}; it has {has}")
        splits, channels = {}, {}
        for name in [name for name in ("train", "val", "test") if f"{name}_images" in arrays]:
            at, images, labels = f"{location}: {name}", arrays[f"{name}_images"], arrays.get(f"{name}_labels")
            if labels is None or labels.shape[:1] != images.shape[:1]:
                has = "is missing" if labels is None else f"{(*labels.shape, 0)[0]} labels"
                raise RequestError(f"{at}_images has {(*images.shape, 0)[0]} images, {name}_labels {has}")
            if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
                right = "it should be uint8 (N, H, W) or (N, H, W, 1 or 3)"
                raise RequestError(f"{at}_images is {images.dtype} {images.shape}; {right}")
            is_whole = labels.dtype.kind in "iu" and labels.astype(np.int64).min(initial=0) >= 0
            if labels.size != len(labels) or not is_whole:
                right = "it should be one whole number from 0 for each image"
                raise RequestError(f"{at}_labels is {labels.dtype} {labels.shape}; {right}")
            splits[name] = Split(images, labels.reshape(-1).astype(np.int64))
            channels[name] = (*images.shape[3:], 1)[0]
        if len(set(channels.values())) > 1:
            shown = ", ".join(f"{count} in {name}" for name, count in channels.items())
            raise RequestError(f"{location} has images of different channels: {shown}")
        values = np.unique(np.concatenate([split.labels for split in splits.values()]))
        given = arrays.get("classes", values).ravel()
        if len(given) > 1_000_000:  # of which the names alone would take much memory
            raise RequestError(f"{location} has {len(given):,} classes")
        names = [printable(name) if isinstance(name, (str, bytes)) else str(name) for name in given.tolist()]
        if len({*names}) < len(names):
            raise RequestError(f"{location} has two classes of one name: {', '.join(sorted(names))}")
        if values.max(initial=0) >= len(names):  # the labels do not number the names
            if len(names) != len(values):
                raise RequestError(f"{location} has labels up to {values[-1]} but only {len(names)} class names")
            for split in splits.values():
                split.labels = np.searchsorted(values, split.labels)
        return ImageSet(splits, names, channels["train"])


class MedMnist(Npz):
    """The file of a MedMNIST set (Yang et al. 2023) that the package ``medmnist`` has downloaded; it knows the classes."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    def identity(self, location: Path | None) -> dict[str, Any]:
        location = given_root(location)
        if not (file := location / f"{self.dataset}.npz").is_file():
            near = did_you_mean(self.dataset, [path.stem for path in location.glob("*.npz")])
            wrong = f"data.name={self.dataset}: {file} is not there{near}"
            raise RequestError(f"{wrong} (data.root is the folder of the files)")
        return {**super().identity(file), "set": self.dataset}

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        images = super().read(location / f"{self.dataset}.npz")
        with suppress(ImportError, KeyError):
            from medmnist import INFO

            names = INFO[self.dataset.partition("_")[0]]["label"]  # of pathmnist_64 too
            images.classes = [names.get(number, number) for number in images.classes]
        return images
