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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.data.sources import ImageSet, Source, Split
from cnnbench.errors import RequestError

FORMAT = 1
CHUNK = 512  # images decoded between two looks at the progress


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
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Store:
    """Open the store for this source and size, making it first where it is not there or not whole.

    Args:
        source: what to read; location: where it lies.
        image_size: side to resize to, in pixels (the middle is cut out where the shape differs); None keeps it.
        cache: folder of all stores.
        report: gets a line now and then while a long preparation runs.

    Raises:
        RequestError: the set is missing, damaged, or its images differ in size and ``image_size`` is None.
    """
    made_from = {"format": FORMAT, "image_size": image_size, **source.identity(location)}
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"{made_from['set'].lower()}-{key}"
    if folder in _opened:
        return _opened[folder]
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache / f".{folder.name}.lock"):
        store = _open(folder, report)
        if store is None:
            _make(source.read(location), image_size, folder, report)
            store = _open(folder, report)
    if store is None:
        raise RequestError(f"the prepared data in {folder} does not read back as it was written; is the disk sound?")
    _opened[folder] = store
    return store


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` between processes; the system releases it if the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(memoryview(np.ascontiguousarray(array)).cast("B"))


def _open(folder: Path, report: Callable[[str], None]) -> Store | None:
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
    except (OSError, ValueError, KeyError, EOFError) as error:
        report(f"the prepared data in {folder} is damaged ({error}); making it again")
        shutil.rmtree(folder)
        return None


def _make(images: ImageSet, image_size: int | None, folder: Path, report: Callable[[str], None]) -> None:
    """Decode every split into a temporary folder beside ``folder`` and rename it into place."""
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        size = image_size or _common_size(images)
        checksums: dict[str, int] = {}
        for name, split in images.splits.items():
            if len(split.labels) == 0:
                raise RequestError(f"the {name} split of {folder.name.rsplit('-', 1)[0]} is empty")
            array = np.lib.format.open_memmap(
                temporary / f"{name}_images.npy", "w+", np.uint8, (len(split.labels), size, size, images.channels)
            )
            _fill(array, split, f"preparing {folder.name.rsplit('-', 1)[0]} {name}", report)
            array.flush()
            np.save(temporary / f"{name}_labels.npy", split.labels.astype(np.int64), allow_pickle=False)
            checksums[f"{name}_images"] = _checksum(array)
            checksums[f"{name}_labels"] = _checksum(split.labels.astype(np.int64))
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
    """The side that all images share; raises RequestError, with the way out, where they differ or are not square."""
    from PIL import Image

    sizes: set[tuple[int, int]] = set()
    for split in images.splits.values():
        if isinstance(split.images, np.ndarray):
            sizes.add(split.images.shape[1:3])
        else:
            for path in split.images:
                with _decoding(path), Image.open(path) as image:
                    sizes.add(image.size)
                if len(sizes) > 1:
                    break
    if len(sizes) > 1 or len(set(next(iter(sizes)))) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:3])
        raise RequestError(f"the images are not all of one square size ({shown}); set data.image_size, for example to 64")
    return next(iter(sizes))[0]


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while an image is read into a RequestError that names the file."""
    try:
        yield
    except Exception as error:
        raise RequestError(f"{path} cannot be decoded as an image ({error})") from error


def _fill(array: np.ndarray, split: Split, title: str, report: Callable[[str], None]) -> None:
    """Write every image of ``split``, decoded, resized and with the right number of channels, into ``array``."""
    count, size, _, channels = array.shape
    if isinstance(split.images, np.ndarray) and split.images.shape[1:3] == (size, size):
        array[:] = split.images.reshape(count, size, size, -1)
        return

    def decode(rows: range) -> None:
        for row in rows:
            array[row] = _pixels(split.images[row], size, channels)

    # threads: decoding and resizing release the interpreter's lock
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        for done, _ in enumerate(pool.map(decode, parts), start=1):
            if len(parts) > 8 and (done % max(1, len(parts) // 10) == 0 or done == len(parts)):
                report(f"{title}: {min(done * CHUNK, count):,} of {count:,} images")


def _pixels(image: np.ndarray | Path, size: int, channels: int) -> np.ndarray:
    """One image as uint8 (size, size, channels): upright, the middle square, resized (bilinear, antialiased)."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    if isinstance(image, Path):
        with _decoding(image), Image.open(image) as file:
            picture = ImageOps.exif_transpose(file).convert(mode)
    else:
        picture = Image.fromarray(image.squeeze()).convert(mode)
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8).reshape(size, size, channels)
