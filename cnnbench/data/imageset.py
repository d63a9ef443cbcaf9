"""What a source of images is, what it gives, stratified splits and folds of that, and hashes of images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnnbench.utils.errors import RequestError

LONE_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # others stand for bytes


class EncodedImage(BytesIO):
    """An image file in memory, which is opened as a path is; ``str`` gives what a user knows it by."""

    def __init__(self, content: bytes, origin: str) -> None:
        super().__init__(content)
        self.origin = origin

    def __repr__(self) -> str:
        return self.origin


@dataclass
class Split:
    """One part of a set: ``images`` are uint8 arrays (N, H, W) or (N, H, W, C), or paths or EncodedImages; ``labels`` are (N,)."""

    images: np.ndarray | Sequence[Any]
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Split":
        """These rows, in this order."""
        images = self.images[rows] if isinstance(self.images, np.ndarray) else [self.images[row] for row in rows]
        return Split(images, self.labels[rows])

    def name(self, split: str, row: int) -> str:
        """What a user knows the image in this row by: its path, or where it is in ``split``."""
        return f"{split}[{row}]" if isinstance(self.images, np.ndarray) else str(self.images[row])

    def with_test_split(self, share: float) -> dict[str, "Split"]:
        """Train and test split of a set that has no test set: a fixed ``share`` of each class is for the test."""
        test, train = stratified(self.labels, share, seed=0)
        return {"train": self.take(train), "test": self.take(test)}


@dataclass
class ImageSet:
    """What a source reads: named splits (train, test and perhaps val) and the class names in the order of the labels."""

    splits: dict[str, Split]
    classes: list[str]
    channels: int
    folder: Path | None = None  # that names of files are relative to
    skip_damaged: bool = False  # whether files that do not decode are left out; otherwise they are an error
    notes: list[str] = field(default_factory=list)  # what a user should know of how it was read, a sentence each


class Source(Protocol):
    """A kind of dataset; ``location`` is the folder or file that holds it, where it needs one. ``identity`` is the key of
    the prepared set, which changes when what would be read does; it raises RequestError if the set is not there. ``read``
    reads everything but encoded image files, which the cache decodes."""

    def identity(self, location: Path | None) -> dict[str, Any]: ...

    def read(self, location: Path | None) -> ImageSet: ...


def given_root(location: Path | None) -> Path:
    """The folder of downloaded sets; raises RequestError where there is none."""
    if location is None:
        raise RequestError("data.root=null: give the folder of the downloaded sets")
    return location


def printable(name: str | bytes) -> str:
    """A name of a file, or one in bytes, as text that can be printed and written: bytes that are not UTF-8 as ``\\xe9``."""
    if isinstance(name, str):
        name = LONE_SURROGATES.sub("\N{REPLACEMENT CHARACTER}", name).encode(errors="surrogateescape")
    return name.decode(errors="backslashreplace")


def stratified(labels: np.ndarray, share: float | int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers so that every class gives the same share: the chosen rows and the others, each sorted, int64. A
    class with a single row keeps it among the others.

    Args:
        labels: class of each row, (N,).
        share: a fraction of every class (float in (0, 1)), or how many rows in all (int), shared out by class size.
        seed: of the choice of rows, so that a split stays the same when the training seed changes.
    """
    random = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    wanted = counts * share if isinstance(share, float) else counts * (share / counts.sum())
    take = np.floor(wanted).astype(int)
    # largest remainders bring the total to the requested one
    short = round(wanted.sum()) - take.sum()
    take[np.argsort(take - wanted, kind="stable")[:short]] += 1
    if isinstance(share, float):
        take = np.minimum(np.maximum(take, counts > 1), counts - 1)
    parts = [random.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, take, strict=True)]
    chosen = np.sort(np.concatenate(parts)).astype(np.int64)
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def check_folds(folds: int | None, fold: int | None, validation: float | str) -> None:
    """Raises RequestError where these keys do not go together."""
    if folds is None and fold is None and validation != "folds":
        return
    if folds is None:
        raise RequestError("data.fold needs data.folds, how many there are: data.folds=5 data.fold='range(5)'")
    if validation != "folds":
        both = f"data.folds={folds} or data.validation={validation}"
        raise RequestError(f"a fold is the validation split: leave out {both}")
    if fold is None or fold >= folds:
        wrong = f"with data.folds={folds}, got {'null' if fold is None else fold}"
        raise RequestError(f"data.fold must be from 0 to {folds - 1} {wrong}; all: data.fold='range({folds})'")


def fold_rows(
    labels: np.ndarray, classes: Sequence[str], folds: int, fold: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of one fold, and those of the others, in their order; each fold has as many images of a class as the others,
    or one more. Raises RequestError where a class has fewer rows than there are folds."""
    from sklearn.model_selection import StratifiedKFold

    present, counts = np.unique(labels, return_counts=True)
    if folds > (least := counts.min()):
        name = classes[present[counts.argmin()]]
        raise RequestError(f"data.folds={folds} is more than the {least} images of class {name} in the train set")
    others, held_out = [*StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)][fold or 0]
    return held_out, others


def load_array(folder: Path, name: str) -> np.ndarray:
    """An array of a prepared set, memory-mapped; raises OSError or ValueError."""
    if not (folder / f"{name}.npy").is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"{name}.npy is missing")
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def digests(images: np.ndarray) -> np.ndarray:
    """A hash of each image of (N, H, W, C), uint64 (N,)."""
    return np.frombuffer(b"".join(blake2b(image, digest_size=8).digest() for image in images), np.uint64)
