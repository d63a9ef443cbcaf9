"""The cache: each set decoded once into uint8 arrays on disk, which every run after that maps into memory.

    <cache>/<name>-<key>/train_images.npy     uint8 (N, H, W, C)
                         train_labels.npy     int64 (N,)
                         train_files.npy      bytes (N,), of image files alone: path below data.path, UTF-8
                         ...                  test_*, val_*
                         meta.json            classes, checksums; written last, so without it the set is not whole

The key is a hash of what the set was made from. A set is made in a folder of its own under a lock and renamed into
place; one that is incomplete or whose checksums differ is made again.
"""

import hashlib
import json
import os
import shutil
import zlib
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from cnnbench.data.decode import Range
from cnnbench.data.imageset import Source, load_array
from cnnbench.data.preparing import Report, make_set, print_line
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_json

FORMAT = 2
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError)  # what reading a damaged set raises


@dataclass(frozen=True)
class PreparedSet:
    """A set from the cache: arrays by name (``train_images`` ...), memory-mapped, and what is known about them."""

    arrays: dict[str, np.ndarray]
    classes: list[str]
    channels: int
    image_size: int
    fingerprint: str
    notes: list[str]  # what a user should know of the images
    value_range: Range | None  # black and white, where there is grey of more than 8 bits


_opened: dict[Path, PreparedSet] = {}


def prepare(
    source: Source, location: Path | None, image_size: int | None, cache: Path, report: Report = print_line, *,
    duplicates: str = "warn", value_range: Range | None = None,
) -> PreparedSet:  # fmt: skip
    """Open the set of this source and size, making it first where it is not in the cache or not whole.

    Args:
        location: the folder or file that holds the source, where it needs one.
        image_size: side to resize to, in pixels (the middle is cut out where the shape differs); None keeps it.
        cache: folder of all prepared sets.
        report: called with a line now and then while a long preparation runs; without one a terminal shows a bar.
        duplicates: warn, drop or error: what to do with images of train that are in test or val too, or of val in test.
        value_range: what is black and what is white where grey has more than 8 bits; None goes by all images.

    Raises:
        RequestError: the set is missing or damaged, its images differ in size, or the cache cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f".{type(source).__name__}.lock", report):  # finding out may mean downloading
            identity = source.identity(location)
        options = {"format": FORMAT, "image_size": image_size, "duplicates": duplicates, "value_range": value_range}
        key = hashlib.sha256(json.dumps({**options, **identity}, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache / f"{identity['set'].lower()}-{key}"
        if folder in _opened:
            return _opened[folder]
        with _lock(cache / f".{folder.name}.lock", report):
            prepared = _open(folder, report)
            if prepared is None:
                make_set(source.read(location), image_size, duplicates, value_range, folder, report)
                prepared = _open(folder, report)
    except OSError as error:
        remedy = "point data.cache (or CNNBENCH_CACHE) at a folder that can be written and has room"
        raise RequestError(f"the data cannot be prepared in data.cache={cache} ({error}); {remedy}") from error
    if prepared is None:
        raise RequestError(f"the prepared data in {folder} does not read back as it was written; is the disk sound?")
    _opened[folder] = prepared
    return prepared


def _lock(path: Path, report: Report) -> AbstractContextManager:
    """Hold an exclusive lock on ``path`` between processes; the system releases it if the process dies. In a folder where
    nobody can prepare anything there is none."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another process that prepares the same data ({path})")
        return lock.acquire()
    except OSError:
        if os.access(path.parent, os.W_OK):
            raise
        return nullcontext()


def find_prepared(cache: Path, fingerprint: str) -> PreparedSet | None:
    """The set that a record names by its fingerprint; None where it is not in ``cache``. Nothing is read from the source,
    or downloaded."""
    for path in cache.glob("*/meta.json"):
        with suppress(*DAMAGE):
            if read_json(path)["fingerprint"] == fingerprint:
                return _read(path.parent)
    return None


def _open(folder: Path, report: Report) -> PreparedSet | None:
    """The set in ``folder``, or None where it is missing; a damaged one is reported, removed, and None too."""
    if not folder.exists():
        return None
    try:
        return _read(folder)
    except PermissionError:  # it may be whole, and another person's
        raise
    except DAMAGE as error:
        report(f"the prepared data in {folder} is damaged ({error}); making it again")
        shutil.rmtree(folder)
        return None


def _read(folder: Path) -> PreparedSet:
    """The set in ``folder``, which may be anyone's; raises one of ``DAMAGE`` where it is none, or is damaged."""
    meta, arrays = read_json(folder / "meta.json"), {}
    for name, expected in meta.pop("checksums").items():
        arrays[name] = load_array(folder, name)
        if zlib.crc32(arrays[name].data) != expected:
            raise ValueError(f"{name}.npy has changed")
    side, classes = meta["image_size"], len(meta["classes"])
    for split in {name.partition("_")[0] for name in arrays} | {"train", "test"}:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        shape = (len(labels), side, side, meta["channels"])
        is_set = images.dtype == np.uint8 and images.shape == shape and len(labels) > 0
        if not is_set or not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"{split} is no set of images")
    arrays |= {path.stem: load_array(folder, path.stem) for path in folder.glob("*_files.npy")}
    return PreparedSet(arrays, **meta)
