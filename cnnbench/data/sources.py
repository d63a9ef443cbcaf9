"""Where images come from. A source says what it would read (``identity``) and reads it (``read``); decoding, resizing
and keeping the images is the cache's work. To add a dataset write one class here and one YAML in ``conf/data``."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cnnbench.data.imageset import ImageSet, Split, one_line
from cnnbench.utils.errors import RequestError, one_of

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
FileState = tuple[str, int, int]  # path, bytes, and when it was modified in nanoseconds


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


class Torchvision:
    """MNIST, FashionMNIST, CIFAR10 or CIFAR100, the class ``dataset`` of torchvision.datasets, which downloads it and
    checks its md5 sums."""

    SETS: ClassVar[dict[str, tuple[str, int, int, int]]] = {  # folder, channels, image size, classes
        "MNIST": ("MNIST/raw", 1, 28, 10),
        "FashionMNIST": ("FashionMNIST/raw", 1, 28, 10),
        "CIFAR10": ("cifar-10-batches-py", 3, 32, 10),
        "CIFAR100": ("cifar-100-python", 3, 32, 100),
    }

    def __init__(self, dataset: str) -> None:
        self.dataset = one_of("data.source.dataset", dataset, self.SETS)
        self.folder, *shape = self.SETS[dataset]
        self.shape = dict(zip(("channels", "image_size", "classes"), shape, strict=True))

    def identity(self, location: Path | None) -> dict[str, Any]:
        assert location is not None
        folder = location / self.folder
        if not folder.is_dir() or not any(folder.iterdir()):
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            try:
                self._open(location, train=True, download=True)
            except Exception as error:
                for path in missing:
                    with suppress(OSError):  # it is not there, or has files in it
                        path.rmdir()
                raise RequestError(
                    f"{self.dataset} is not in {folder} and could not be downloaded ({one_line(error)}); connect once to "
                    "download it, or point data.root (or the environment variable CNNBENCH_DATA) at the folder that "
                    "holds it, or use data=digits, which needs no download"
                ) from error
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".gz")
        states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return {"set": self.dataset, "files": states}

    def _open(self, location: Path, train: bool, download: bool) -> Any:
        import torchvision.datasets

        return getattr(torchvision.datasets, self.dataset)(str(location), train=train, download=download)

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        try:
            parts = {name: self._open(location, train=name == "train", download=False) for name in ("train", "test")}
        except Exception as error:
            raise RequestError(
                f"{self.dataset} in {location / self.folder} is incomplete or damaged ({one_line(error)}); delete that folder "
                "to download it again, or point data.root (or CNNBENCH_DATA) at a good copy"
            ) from error
        splits = {
            name: Split(np.asarray(part.data), np.asarray(part.targets, dtype=np.int64)) for name, part in parts.items()
        }
        classes = [str(name).split(" - ")[0] for name in parts["train"].classes]
        return ImageSet(splits, classes, self.shape["channels"])


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
        status = location.stat()
        return {"set": "npz", "file": str(location.resolve()), "stat": (status.st_size, status.st_mtime_ns)}

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        try:
            with np.load(location, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except Exception as error:
            raise RequestError(f"{location} cannot be read as an .npz of plain arrays ({one_line(error)})") from error
        missing = [key for key in ("train_images", "train_labels", "test_images", "test_labels") if key not in arrays]
        if missing:
            raise RequestError(
                f"{location} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}"
            )
        splits, channels = {}, {}
        for name in [name for name in ("train", "val", "test") if f"{name}_images" in arrays]:
            images, labels = arrays[f"{name}_images"], arrays.get(f"{name}_labels")
            if labels is None or len(labels) != len(images):
                raise RequestError(
                    f"{location}: {name}_images has {len(images)} images, {name}_labels "
                    f"{'is missing' if labels is None else f'{len(labels)} labels'}"
                )
            if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
                raise RequestError(
                    f"{location}: {name}_images is {images.dtype} {images.shape}; it should be uint8 (N, H, W) "
                    "or (N, H, W, 1 or 3)"
                )
            if labels.size != len(labels) or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
                raise RequestError(
                    f"{location}: {name}_labels is {labels.dtype} {labels.shape}; it should be one whole number "
                    "from 0 for each image"
                )
            splits[name] = Split(images, labels.reshape(-1).astype(np.int64))
            channels[name] = (*images.shape[3:], 1)[0]
        count = max(int(split.labels.max(initial=0)) for split in splits.values()) + 1
        classes = [str(name) for name in arrays.get("classes", range(count))]
        if count > len(classes):
            raise RequestError(f"{location} has labels up to {count - 1} but only {len(classes)} class names")
        if len(set(channels.values())) > 1:
            shown = ", ".join(f"{count} in {name}" for name, count in channels.items())
            raise RequestError(f"{location} has images of different channels: {shown}")
        return ImageSet(splits, classes, channels["train"])


class ImageFolder:
    """Image files in a folder a class: below ``train/`` and ``test/`` (and perhaps ``val/``), or in one tree. Their order
    is fixed and mixes the classes.

    Args:
        channels: 3 for colour, 1 for grey.
        test_share: where there is no ``test/``, this share of each class, fixed, is the test set.
        skip_damaged: leave out the files that do not decode; otherwise they are an error.
    """

    def __init__(self, channels: int = 3, test_share: float = 0.2, skip_damaged: bool = False) -> None:
        self.channels, self.test_share, self.skip_damaged = channels, test_share, skip_damaged
        self.shape = {"channels": channels}

    def identity(self, location: Path | None) -> dict[str, Any]:
        own: dict[str, Any] = {"channels": self.channels, "test_share": self.test_share, "order": "mixed"}
        if self.skip_damaged:
            own["skip_damaged"] = True
        return {"set": "image_folder", **own, "files": self._list(location)}

    @staticmethod
    def _list(location: Path | None) -> dict[str, dict[str, list[FileState]]]:
        """Split name to class name to files, all sorted; one tree is the split named ``all``."""
        if location is None or not location.is_dir():
            raise RequestError(
                f"data.path={location} is not a folder; it should hold train/ and test/ with a folder a class"
            )
        location = location.resolve()
        folders = {name: location / name for name in ("train", "val", "test") if (location / name).is_dir()}
        if "train" not in folders:
            folders = {"all": location}
        splits = {name: _list_classes(folder) for name, folder in folders.items()}
        if "all" in splits and set(splits["all"]) <= {"test", "val"} and splits["all"]:
            raise RequestError(f"{location} has {' and '.join(splits['all'])} but no train/ with images")
        names = set(next(iter(splits.values())))
        for split, classes in splits.items():
            if extra := set(classes) - names:
                raise RequestError(f"{location / split} has classes that train/ has not: {', '.join(sorted(extra))}")
        if len(names) < 2:
            raise RequestError(
                f"{location} has {len(names)} folders with images; it should hold a folder a class, two or more"
            )
        return splits

    def read(self, location: Path | None) -> ImageSet:
        listed = self._list(location)
        classes = sorted(next(iter(listed.values())))
        splits = {}
        for name, by_class in listed.items():
            files = [by_class.get(label, []) for label in classes]
            paths = [Path(path) for of_class in files for path, _, _ in of_class]
            splits[name] = Split(paths, np.repeat(np.arange(len(classes)), [len(of_class) for of_class in files]))
        if "test" not in splits:
            splits |= splits.pop("all" if "all" in splits else "train").with_test_split(self.test_share)
        # Published sets mix their classes. In the order of the folders, without shuffling, a batch would be of one class.
        for name, split in splits.items():
            splits[name] = split.take(np.random.default_rng(0).permutation(len(split.labels)))
        return ImageSet(splits, classes, self.channels, self.skip_damaged)


def _list_classes(folder: Path) -> dict[str, list[FileState]]:
    """The image files below each folder in ``folder``, by the folder's name; folders without any are left out. Raises
    RequestError where something in there cannot be read, such as a link to nothing."""
    listed = {}
    try:
        for path in folder.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                states = [(entry.path, entry.stat()) for entry in image_files(path)]
                listed[path.name] = sorted((file, state.st_size, state.st_mtime_ns) for file, state in states)
    except OSError as error:
        raise RequestError(f"{error.filename or folder} cannot be read ({error.strerror})") from error
    return {name: listed[name] for name in sorted(listed) if listed[name]}


def image_files(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """The image files below ``folder``, by their endings; hidden ones are left out, links to nothing are not."""
    # not Path: for 60,000 files, making and sorting Paths takes longer than reading
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from image_files(entry.path)
            elif entry.name.lower().endswith(IMAGE_ENDINGS):
                yield entry
