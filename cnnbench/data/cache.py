"""The prepared store: a set decoded once into uint8 arrays on disk, memory-mapped by every run after that.

    <cache>/<name>-<key>/train_images.npy     uint8 (N, H, W, C)
                         train_labels.npy     int64 (N,)
                         ...                  test_*, val_*
                         meta.json            classes, checksums; written last, so without it the store is not whole

The key is a hash of what the store was made from. A store is made in a folder of its own under a lock and renamed into
place; one that is incomplete or whose checksums differ is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.data.decode import CHUNK, decode_files, picture_size, resize_array
from cnnbench.data.imageset import ImageSet, Source, Split
from cnnbench.data.preparing import Preparing
from cnnbench.utils.errors import RequestError

FORMAT = 1
MOST_NAMED = 10  # damaged files in one message


@dataclass(frozen=True)
class Store:
    """A prepared set: arrays by name (``train_images`` ...), memory-mapped, and what is known about them."""

    arrays: dict[str, np.ndarray]
    classes: list[str]
    channels: int
    image_size: int
    fingerprint: str


_opened: dict[Path, Store] = {}


def prepare(
    source: Source,
    location: Path | None,
    image_size: int | None,
    cache: Path,
    report: Callable[[str], None] | None = None,
) -> Store:
    """Open the store for this source and size, making it first where it is not there or not whole.

    Args:
        source: what to read; location: where it lies.
        image_size: side to resize to, in pixels (the middle is cut out where the shape differs); None keeps it.
        cache: folder of all stores.
        report: gets a line now and then while a long preparation runs; None prints to standard error, where a terminal
            shows a live line.

    Raises:
        RequestError: the set is missing, damaged, or its images differ in size and ``image_size`` is None; or the cache
            cannot be written.
    """
    tell = report or (lambda line: print(line, file=sys.stderr, flush=True))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return _prepare(source, location, image_size, cache, tell, live=report is None and sys.stderr.isatty())
    except OSError as error:
        raise RequestError(
            f"the data cannot be prepared in data.cache={cache} ({error}); point data.cache (or the environment "
            "variable CNNBENCH_CACHE) at a folder that can be written and has room"
        ) from error


def _prepare(
    source: Source, location: Path | None, image_size: int | None, cache: Path, tell: Callable[[str], None], live: bool
) -> Store:
    with _lock(cache / f".{type(source).__name__}.lock", tell):  # finding out may mean downloading
        made_from = {"format": FORMAT, "image_size": image_size, **source.identity(location)}
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"{made_from['set'].lower()}-{key}"
    if folder in _opened:
        return _opened[folder]
    with _lock(cache / f".{folder.name}.lock", tell):
        store = _open(folder, tell)
        if store is None:
            _make(source.read(location), image_size, folder, tell, live)
            store = _open(folder, tell)
    if store is None:
        raise RequestError(f"the prepared data in {folder} does not read back as it was written; is the disk sound?")
    _opened[folder] = store
    return store


@contextmanager
def _lock(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` between processes; the system releases it if the process dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for another process that prepares the same data ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def prepared_images(cache: Path, fingerprint: str, split: str, most: int) -> np.ndarray | None:
    """The first ``most`` images of a split, uint8 (N, H, W, C), of the store that a record names by its fingerprint;
    None where it is not in ``cache``. Nothing is read from the source, or downloaded."""
    for path in cache.glob("*/meta.json"):
        with suppress(OSError, ValueError, KeyError):
            if json.loads(path.read_text())["fingerprint"] == fingerprint:
                images = np.load(path.with_name(f"{split}_images.npy"), mmap_mode="r", allow_pickle=False)
                return np.array(images[:most])
    return None


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _open(folder: Path, tell: Callable[[str], None]) -> Store | None:
    """The store in ``folder``, or None where it is missing; a damaged one is told, removed, and None too."""
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        arrays = {}
        for name, checksum in meta["checksums"].items():
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if _checksum(arrays[name]) != checksum:
                raise ValueError(f"{name}.npy has changed")
        return Store(arrays, meta["classes"], meta["channels"], meta["image_size"], meta["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        tell(f"the prepared data in {folder} is damaged ({error}); making it again")
        shutil.rmtree(folder)
        return None


def _make(images: ImageSet, image_size: int | None, folder: Path, tell: Callable[[str], None], live: bool) -> None:
    """Decode every split into a temporary folder beside ``folder`` and rename it into place."""
    for stale in folder.parent.glob(f".{folder.name}.*.part"):  # of processes that were killed; we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    name = folder.name.rsplit("-", 1)[0]
    try:
        size = image_size or _common_size(images)
        needed = sum(len(split.labels) for split in images.splits.values()) * size * size * images.channels
        if needed > (free := shutil.disk_usage(temporary).free):  # running out in a mapped file would kill the process
            raise OSError(f"the prepared {name} takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
        checksums: dict[str, int] = {}
        damaged: list[str] = []
        for part, split in images.splits.items():
            if len(split.labels) == 0:
                raise RequestError(f"the {part} split of {name} has no images")
            target = temporary / f"{part}_images.npy"
            shape = (size, size, images.channels)
            with Preparing(f"{name} {part}", len(split.labels), tell, live) as progress:
                rows = _fill(target, split, shape, image_size is not None, progress)
            damaged += rows.values()
            labels = split.labels.astype(np.int64)
            if rows and images.skip_damaged:
                labels = _leave_out(list(rows), target, labels)
                if len(labels) == 0:
                    raise RequestError(f"no image of the {part} split of {name} decodes")
            np.save(temporary / f"{part}_labels.npy", labels, allow_pickle=False)
            checksums[f"{part}_images"] = _checksum(np.load(target, mmap_mode="r", allow_pickle=False))
            checksums[f"{part}_labels"] = _checksum(labels)
        if damaged:
            _report(damaged, images.skip_damaged, tell)
        meta: dict[str, Any] = {
            "classes": images.classes,
            "channels": images.channels,
            "image_size": size,
            "checksums": checksums,
            "fingerprint": hashlib.sha256(json.dumps([images.classes, checksums]).encode()).hexdigest()[:16],
        }
        (temporary / "meta.json").write_text(json.dumps(meta))
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _common_size(images: ImageSet) -> int:
    """The side of the images: of arrays all are looked at, of files the first, which the others are held to later.

    Raises:
        RequestError: they are not square, or differ.
    """
    parts = [split.images for split in images.splits.values()]
    sizes = {part.shape[2:0:-1] for part in parts if isinstance(part, np.ndarray)} or {picture_size(parts[0][0])}
    if len(sizes) > 1 or len(set(next(iter(sizes)))) > 1:
        shown = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise RequestError(f"the images are {shown}, not squares of one size; set data.image_size, for example to 64")
    return next(iter(sizes))[0]


def _fill(
    target: Path, split: Split, shape: tuple[int, int, int], resize: bool, progress: Callable[[int], None]
) -> dict[int, str]:
    """Write every image of ``split``, decoded, resized and with the right number of channels, into ``target``; returns
    the rows that do not decode, with what is said of each."""
    size, _, channels = shape
    count = len(split.labels)
    if not isinstance(split.images, np.ndarray):
        return dict(decode_files(split.images, target, size, channels, resize, progress))
    array = np.lib.format.open_memmap(target, "w+", np.uint8, (count, *shape))
    same = split.images.shape[1:3] == (size, size)
    for start in range(0, count, CHUNK):
        part = split.images[start : start + CHUNK]
        if same:
            array[start : start + CHUNK] = part.reshape(len(part), *shape)
        else:
            resize_array(part, array[start : start + CHUNK])
            progress(start + len(part))
    array.flush()
    return {}


def _leave_out(rows: list[int], target: Path, labels: np.ndarray) -> np.ndarray:
    """Write ``target`` again without these rows; returns the labels without them."""
    np.save(target, np.delete(np.load(target, allow_pickle=False), rows, axis=0), allow_pickle=False)
    return np.delete(labels, rows)


def _report(damaged: Sequence[str], skipped: bool, tell: Callable[[str], None]) -> None:
    """Tell which files were left out; where they are not to be, raise RequestError with all of them in one line."""
    more = f" (and {len(damaged) - MOST_NAMED} more)" if len(damaged) > MOST_NAMED else ""
    text = "; ".join(damaged[:MOST_NAMED]) + more
    if not skipped:
        raise RequestError(f"{text}; repair or remove what is damaged, or leave it out: data.source.skip_damaged=true")
    tell(f"left out: {text}")
