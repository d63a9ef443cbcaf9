"""Any classification set of torchvision.datasets by its name there. What it takes its constructor's signature says."""

import inspect
import operator
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from cnnbench.data.decode import open_image, raster_only
from cnnbench.data.folder import refuse_pipes
from cnnbench.data.imageset import EncodedImage, ImageSet, Split, given_root
from cnnbench.utils.errors import RequestError, did_you_mean, one_line

TEST_SHARE = 0.2  # of each class, of sets that torchvision does not split
SPLITS = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}
# They have the arguments, but boxes, texts or pairs, or test what was not in train
OTHERS = ["CelebA", "Cityscapes", "Kitti", "LFWPairs", "LFWPeople", "SBU", "VOCDetection", "VOCSegmentation",
          "WIDERFace"]  # fmt: skip


class Torchvision:
    """The class ``dataset`` of torchvision.datasets, which downloads it and checks its md5 sums.

    Args:
        arguments: more of its arguments, such as ``{split: letters}`` of EMNIST.
    """

    SETS: ClassVar[dict[str, tuple[str, int, int, int]]] = {  # folder, channels, image size, classes
        "MNIST": ("MNIST/raw", 1, 28, 10),
        "FashionMNIST": ("FashionMNIST/raw", 1, 28, 10),
        "CIFAR10": ("cifar-10-batches-py", 3, 32, 10),
        "CIFAR100": ("cifar-100-python", 3, 32, 100),
    }

    def __init__(self, dataset: str, arguments: Mapping[str, Any] | None = None) -> None:
        self.dataset, self.arguments = dataset, dict(arguments or {})
        known = self.SETS.get(dataset)
        self.shape = dict(zip(("channels", "image_size", "classes"), known[1:], strict=True)) if known else {}
        if not known and dataset not in (sets := classification_sets()):  # which imports torch
            near = did_you_mean({name.lower(): name for name in sets}.get(str(dataset).lower(), dataset), sets)
            raise RequestError(f"data.name={dataset!r} is no classification set of torchvision.datasets{near}")

    def may_download(self, location: Path) -> bool:
        """Whether ``location`` does not have the set, as far as is known."""
        folder = location / self.SETS.get(self.dataset, ("",))[0]
        return self.dataset not in self.SETS or not folder.is_dir() or not any(folder.iterdir())

    def identity(self, location: Path | None) -> dict[str, Any]:
        location = given_root(location)
        if self.dataset not in self.SETS:  # where its files are is not known
            return {"set": self.dataset, "arguments": self.arguments, "root": str(location.resolve())}
        folder = location / self.SETS[self.dataset][0]
        if self.may_download(location):
            self._download(location)
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".gz")
        states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return {"set": self.dataset, "files": states}

    def read(self, location: Path | None) -> ImageSet:
        assert location is not None
        refuse_pipes(location / self.SETS.get(self.dataset, ("",))[0])
        try:
            parts = self._open(location, download=False)
        except Exception as error:
            if isinstance(error, TypeError) or (self.arguments and isinstance(error, ValueError)):
                wrong = f"{self.dataset} does not take data.source.arguments={self.arguments or 'null'}"
                raise RequestError(f"{wrong} ({one_line(error)})") from error
            if self.dataset in self.SETS:
                wrong = f"{self.dataset} in {location / self.SETS[self.dataset][0]} is incomplete or damaged"
                remedy = "delete that folder to download it again, or point data.root (or CNNBENCH_DATA) at a good copy"
                raise RequestError(f"{wrong} ({one_line(error)}); {remedy}") from error
            parts = self._download(location)
        try:
            with raster_only():
                read = {name: _read_part(part, name) for name, part in parts.items()}
        except Exception as error:
            arguments = f"does not take data.source.arguments={self.arguments}"
            wrong = arguments if isinstance(error, TypeError) else f"in {location} has an image that is damaged"
            raise RequestError(f"{self.dataset} {wrong} ({one_line(error)})") from error
        splits = {name: split for name, split in read.items() if split is not None}
        if "train" not in splits:
            raise RequestError(f"{self.dataset} is no classification set: an image has no class number")
        notes = []
        if "test" not in splits:
            instead = "its val" if "val" in splits else f"a share of {TEST_SHARE} of each class in train"
            notes = [f"{self.dataset} has no test split: test is {instead}"]
            splits |= (
                {"test": splits.pop("val")} if "val" in splits else splits.pop("train").with_test_split(TEST_SHARE)
            )
        numbers = np.concatenate([split.labels for split in splits.values()])
        for split in splits.values():
            split.labels = split.labels - numbers.min()  # EMNIST's letters are numbered from one
        first = splits["train"].images[0]
        if isinstance(first, np.ndarray):
            channels = (*first.shape[2:], 1)[0]
        else:
            with open_image(first) as image:
                channels = len(_mode(image))
        folder = location if isinstance(first, Path) else None
        return ImageSet(splits, _class_names(parts["train"], numbers), channels, folder, notes=notes)

    def _open(self, location: Path, download: bool) -> dict[str, Any]:
        """torchvision's dataset of each split."""
        import torchvision.datasets

        make, takes = getattr(torchvision.datasets, self.dataset), classification_sets()[self.dataset]
        given = {**self.arguments, **({"download": download} if "download" in takes else {})}
        given |= {"loader": Path} if "loader" in takes else {}  # files, which are decoded here
        if "train" in takes:
            return {name: make(str(location), train=name == "train", **given) for name in ("train", "test")}
        if "split" not in takes:
            return {"train": make(str(location), **given)}
        own = {name: next((one for one in names if self._has_split(make, one)), None) for name, names in SPLITS.items()}
        return {name: make(str(location), split=split, **given) for name, split in own.items() if split is not None}

    def _has_split(self, make: Any, name: str) -> bool:
        """Whether it has a split of this name, which it says before it looks for files."""
        with tempfile.TemporaryDirectory() as empty, suppress(RuntimeError, OSError):
            try:
                make(empty, split=name, **self.arguments)
            except ValueError as error:
                if "argument split" not in str(error):
                    raise
                return False
        return True

    def _download(self, location: Path) -> dict[str, Any]:
        """Open it, getting what is missing."""
        folder = location / self.SETS.get(self.dataset, (f"{self.dataset}/raw",))[0]
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            return self._open(location, download=True)
        except Exception as error:
            for path in missing:
                with suppress(OSError):  # it is not there, or has files in it
                    path.rmdir()
            where = folder if self.dataset in self.SETS else location
            remedy = ("connect once to download it, or point data.root (or the environment variable CNNBENCH_DATA) at "
                      "the folder that holds it, or use data=digits, which needs no download")  # fmt: skip
            wrong = f"{self.dataset} is not in {where} and could not be downloaded ({one_line(error)})"
            raise RequestError(f"{wrong}; {remedy}") from error


@cache
def classification_sets() -> dict[str, set[str]]:
    """The sets of torchvision by name, each with the names of its arguments."""
    import torchvision.datasets

    kinds = {name: kind for name, kind in vars(torchvision.datasets).items() if inspect.isclass(kind)}
    takes = {name: _arguments(kind) for name, kind in kinds.items() if name not in OTHERS}
    usual, any_of = {"root", "transform", "target_transform"}, {"train", "split", "download"}
    return {name: arguments for name, arguments in takes.items() if usual <= arguments and arguments & any_of}


def _arguments(kind: Any) -> set[str]:
    """Names of the arguments, with those of the class that it hands ``**kwargs`` to."""
    own = inspect.signature(kind).parameters
    return {*own, *(_arguments(kind.__base__) if "kwargs" in own else ())}


def _read_part(part: Any, name: str) -> Split | None:
    """Images and labels of one of torchvision's datasets; None where an image has no class number."""
    data, targets = (np.asarray(getattr(part, of, ())) for of in ("data", "targets"))
    if data.dtype == np.uint8 and data.shape[3:] in ((), (1,), (3,)) and targets.shape == data.shape[:1]:
        return Split(data, targets.astype(np.int64))
    images, numbers = list[Any](), list[int]()
    for row in range(len(part)):
        image, label = part[row]
        try:
            numbers.append(operator.index(label))
        except TypeError:
            return None
        path = getattr(image, "filename", "") if isinstance(image, Image.Image) else image
        images.append(Path(path) if path else image.convert(_mode(image)))
    if len({getattr(image, "size", image) for image in images}) == 1 < len(images):
        return Split(np.stack([np.asarray(image) for image in images]), np.array(numbers))
    for row, image in enumerate(images):
        if not isinstance(image, Path):  # PNG loses nothing
            image.save(content := BytesIO(), "PNG", compress_level=1)
            images[row] = EncodedImage(content.getvalue(), f"{name}[{row}]")
    return Split(images, np.array(numbers))


def _mode(image: Image.Image) -> str:
    return "L" if image.getbands() in (("L",), ("1",), ("I",)) else "RGB"


def _class_names(part: Any, numbers: np.ndarray) -> list[str]:
    """What torchvision calls the classes; numbers where it does not."""
    given = getattr(part, "classes", None) or getattr(part, "categories", None) or ()
    names = [", ".join(name) if isinstance(name, tuple) else str(name).split(" - ")[0] for name in given]
    if len(names) <= numbers.max():
        return [str(number) for number in range(numbers.min(), numbers.max() + 1)]
    names = [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names)]  # ImageNet's cranes
    return names[numbers.min() :]
