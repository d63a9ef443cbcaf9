"""The cache: each set decoded once into uint8 arrays on disk, which every run after that maps into memory.

    <cache>/<name>-<key>/train_images.npy     uint8 (N, H, W, C)
                         train_labels.npy     int64 (N,)
                         ...                  test_*, val_*
                         meta.json            classes, checksums; written last, so without it the set is not whole

The key is a hash of what the set was made from. A set is made in a folder of its own under a lock and renamed into
place; one that is incomplete or whose checksums differ is made again.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import AcquireReturnProxy, FileLock, Timeout
from tqdm import tqdm

from cnnbench.data.decode import decode_files, image_dimensions, resize_array
from cnnbench.data.imageset import ImageSet, Source
from cnnbench.utils.console import escape
from cnnbench.utils.errors import RequestError

FORMAT = 1
MAX_NAMED = 10  # damaged files in one message
BAR_SECONDS = 0.5  # after which a progress bar appears on a terminal
LINE_SECONDS = 5.0  # between two lines on progress elsewhere

Report = Callable[[str], None]


@dataclass(frozen=True)
class PreparedSet:
    """A set from the cache: arrays by name (``train_images`` ...), memory-mapped, and what is known about them."""

    arrays: dict[str, np.ndarray]
    classes: list[str]
    channels: int
    image_size: int
    fingerprint: str


_opened: dict[Path, PreparedSet] = {}


def prepare(
    source: Source, location: Path | None, image_size: int | None, cache: Path, report: Report | None = None
) -> PreparedSet:
    """Open the set of this source and size, making it first where it is not in the cache or not whole.

    Args:
        source: what to read; location: the folder or file that holds it, where it needs one.
        image_size: side to resize to, in pixels (the middle is cut out where the shape differs); None keeps it.
        cache: folder of all prepared sets.
        report: called with a line now and then while a long preparation runs; None prints to standard error, where a
            terminal shows a progress bar.

    Raises:
        RequestError: the set is missing, damaged, or its images differ in size and ``image_size`` is None; or the cache
            cannot be written.
    """
    bar = report is None and sys.stderr.isatty()
    report = report or (lambda line: print(escape(line), file=sys.stderr, flush=True))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f".{type(source).__name__}.lock", report):  # finding out may mean downloading
            made_from = {"format": FORMAT, "image_size": image_size, **source.identity(location)}
        key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache / f"{made_from['set'].lower()}-{key}"
        if folder in _opened:
            return _opened[folder]
        with _lock(cache / f".{folder.name}.lock", report):
            prepared = _open(folder, report)
            if prepared is None:
                _make(source.read(location), image_size, folder, report, bar)
                prepared = _open(folder, report)
    except OSError as error:
        raise RequestError(
            f"the data cannot be prepared in data.cache={cache} ({error}); point data.cache (or the environment "
            "variable CNNBENCH_CACHE) at a folder that can be written and has room"
        ) from error
    if prepared is None:
        raise RequestError(f"the prepared data in {folder} does not read back as it was written; is the disk sound?")
    _opened[folder] = prepared
    return prepared


def _lock(path: Path, report: Report) -> AcquireReturnProxy:
    """Hold an exclusive lock on ``path`` between processes; the system releases it if the process dies."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another process that prepares the same data ({path})")
        return lock.acquire()


def prepared_images(cache: Path, fingerprint: str, split: str, most: int) -> np.ndarray | None:
    """The first ``most`` images of a split, uint8 (N, H, W, C), of the set that a record names by its fingerprint;
    None where it is not in ``cache``. Nothing is read from the source, or downloaded."""
    for path in cache.glob("*/meta.json"):
        with suppress(OSError, ValueError, KeyError):
            if json.loads(path.read_text())["fingerprint"] == fingerprint:
                return np.array(_load(path.parent, f"{split}_images")[:most])
    return None


def _load(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _open(folder: Path, report: Report) -> PreparedSet | None:
    """The set in ``folder``, or None where it is missing; a damaged one is reported, removed, and None too."""
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        arrays = {name: _load(folder, name) for name in meta["checksums"]}
        for name, checksum in meta["checksums"].items():
            if _checksum(arrays[name]) != checksum:
                raise ValueError(f"{name}.npy has changed")
        return PreparedSet(arrays, meta["classes"], meta["channels"], meta["image_size"], meta["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        report(f"the prepared data in {folder} is damaged ({error}); making it again")
        shutil.rmtree(folder)
        return None


def _make(images: ImageSet, image_size: int | None, folder: Path, report: Report, bar: bool) -> None:
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
        errors: list[str] = []
        for part, split in images.splits.items():
            labels = split.labels.astype(np.int64)
            if len(labels) == 0:
                raise RequestError(f"the {part} split of {name} has no images")
            target = temporary / f"{part}_images.npy"
            array = np.lib.format.open_memmap(target, "w+", np.uint8, (len(labels), size, size, images.channels))
            with show_progress(f"{name} {part}", len(labels), report, bar) as progress:
                undecodable = _fill(array, split.images, image_size is not None, progress)
            if undecodable and images.skip_damaged:
                labels = np.delete(labels, list(undecodable))
                if len(labels) == 0:
                    raise RequestError(f"no image of the {part} split of {name} decodes")
                np.save(target, np.delete(array, list(undecodable), axis=0), allow_pickle=False)
            errors += undecodable.values()
            np.save(temporary / f"{part}_labels.npy", labels, allow_pickle=False)
        if errors:
            more = f" (and {len(errors) - MAX_NAMED} more)" if len(errors) > MAX_NAMED else ""
            text = "; ".join(errors[:MAX_NAMED]) + more
            if not images.skip_damaged:
                raise RequestError(
                    f"{text}; repair or remove what is damaged, or leave it out: data.source.skip_damaged=true"
                )
            report(f"left out: {text}")
        names = [f"{part}_{kind}" for part in images.splits for kind in ("images", "labels")]
        checksums = {name: _checksum(_load(temporary, name)) for name in names}
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
    """The side of the images: of arrays all are looked at, of files the first, which the others are held to later. Raises
    RequestError where they are not square, or differ."""
    parts = [split.images for split in images.splits.values()]
    sizes = {part.shape[2:0:-1] for part in parts if isinstance(part, np.ndarray)} or {image_dimensions(parts[0][0])}
    if len(sizes) > 1 or len(set(next(iter(sizes)))) > 1:
        shown = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise RequestError(f"the images are {shown}, not squares of one size; set data.image_size, for example to 64")
    return next(iter(sizes))[0]


def _fill(
    target: np.memmap, images: np.ndarray | Sequence[Path], resize: bool, progress: Callable[[int], None]
) -> dict[int, str]:
    """Write every image, decoded and resized, into ``target``; returns the rows that do not decode, with the error
    message of each."""
    if not isinstance(images, np.ndarray):
        return decode_files(images, target, resize, progress)
    if images.shape[1:3] == target.shape[1:3]:
        target[:] = images.reshape(target.shape)
    else:
        for row, image in enumerate(images):
            target[row] = resize_array(image, target.shape[1])
            progress(row + 1)
    target.flush()
    return {}


@contextmanager
def show_progress(title: str, total: int, report: Report, bar: bool) -> Iterator[Callable[[int], None]]:
    """Give a function to call with the number of images done, which shows how far a long preparation of ``total`` images
    is: in lines to ``report`` every few seconds, or in a ``bar`` on the terminal, which is removed at the end."""
    start = last = time.monotonic()
    options = {"desc": f"preparing {title}", "total": total, "unit": " images", "delay": BAR_SECONDS, "leave": False}
    with tqdm(**options) if bar else nullcontext() as shown:  # tqdm starts a thread, even where it is disabled

        def progress(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if shown is not None:
                shown.update(done - shown.n)
            elif now - last >= LINE_SECONDS:
                last = now
                left = (now - start) / done * (total - done)
                report(f"preparing {title}: {done:,} of {total:,} images, {left:.0f} s left")

        yield progress
    if (seconds := time.monotonic() - start) >= LINE_SECONDS:
        report(f"prepared {title}: {total:,} images in {seconds:.0f} s")
