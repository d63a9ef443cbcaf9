"""Making a prepared set: every image decoded, resized and looked at for copies, in a folder that is then renamed."""

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
from pathlib import Path
from typing import cast

import numpy as np
from tqdm import tqdm

from cnnbench.data.decode import (
    Deep,
    Findings,
    Range,
    Show,
    UndecodableImage,
    decode_files,
    find_range,
    image_dimensions,
    resize_array,
)
from cnnbench.data.imageset import ImageSet, Split, digests, load_array, printable
from cnnbench.utils.console import escape
from cnnbench.utils.errors import RequestError

MAX_NAMED = 10  # damaged files in one message
BAR_SECONDS = 0.5  # after which a progress bar appears on a terminal
LINE_SECONDS = 5.0  # between two lines on progress elsewhere
PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))  # of splits; copies are dropped from the first

Report = Callable[[str], None]
Arrays = dict[str, np.ndarray]  # by split


def print_line(line: str) -> None:
    """The ``Report`` unless another is given: a line on standard error."""
    print(escape(line), file=sys.stderr, flush=True)


def make_set(
    images: ImageSet, image_size: int | None, duplicates: str, value_range: Range | None, folder: Path, report: Report
) -> None:
    """Decode every split into a temporary folder beside ``folder`` and rename it into place; the arguments are those of
    ``cnnbench.data.cache.prepare``."""
    for stale in folder.parent.glob(f".{folder.name}.*.part"):  # of processes that were killed; we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    shutil.copymode(folder.parent, temporary)  # who may read the cache may read the set
    name = folder.name.rsplit("-", 1)[0]
    try:
        size = image_size or _common_size(images)
        needed = sum(len(split.labels) for split in images.splits.values()) * size * size * images.channels
        if needed > (free := shutil.disk_usage(temporary).free):  # running out in a mapped file would kill the process
            raise OSError(f"the prepared {name} takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
        resize = image_size is not None
        arrays, kept, value_range, left_out = _decode(images, size, resize, value_range, temporary, name, report)
        notes = [*images.notes, *left_out, *_without_copies(images, arrays, kept, duplicates)]
        notes += _save(images, arrays, kept, temporary, name)
        if value_range is not None:
            scale = f"{value_range[0]:g} is black, {value_range[1]:g} is white"
            notes.append(f"grey of more than 8 bits is reduced to 8: {scale} (data.value_range)")
        names = [f"{part}_{kind}" for part in images.splits for kind in ("images", "labels")]
        checksums = {name: zlib.crc32(load_array(temporary, name).data) for name in names}
        fingerprint = hashlib.sha256(json.dumps([images.classes, checksums]).encode()).hexdigest()[:16]
        meta = {"classes": images.classes, "channels": images.channels, "image_size": size, "checksums": checksums,
                "fingerprint": fingerprint, "notes": [*map(printable, notes)], "value_range": value_range}  # fmt: skip
        (temporary / "meta.json").write_text(json.dumps(meta))
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _decode(
    images: ImageSet, size: int, resize: bool, value_range: Range | None, folder: Path, name: str, report: Report
) -> tuple[Arrays, Arrays, Range | None, list[str]]:
    """Decode every split into a mapped file in ``folder``; returns these, which of their rows have decoded, the scale of
    grey with more than 8 bits, where there is any, and a sentence on what is left out. Raises RequestError where what does
    not decode may not be left out."""
    arrays, kept, deep, errors, notes = Arrays(), Arrays(), dict[str, Deep](), list[str](), list[str]()
    bar = report is print_line and sys.stderr.isatty()
    for part, split in images.splits.items():
        if len(split.labels) == 0:
            raise RequestError(f"the {part} split of {name} has no images")
        shape = len(split.labels), size, size, images.channels
        target = np.lib.format.open_memmap(folder / f"{part}_images.npy", "w+", np.uint8, shape)
        with show_progress(f"{name} {part}", len(split.labels), report, bar) as progress:
            undecodable, deep[part] = _fill(target, split, resize, value_range, progress)
        arrays[part], kept[part] = target, ~np.isin(np.arange(len(target)), [*undecodable])
        errors += undecodable.values()
    if errors:
        more = f" (and {len(errors) - MAX_NAMED} more)" if len(errors) > MAX_NAMED else ""
        text = "; ".join(errors[:MAX_NAMED]) + more
        if not images.skip_damaged:
            remedy = "repair or remove what is damaged, or leave it out: data.source.skip_damaged=true"
            raise RequestError(f"{text}; {remedy}")
        count = "is 1 damaged image" if len(errors) == 1 else f"are {len(errors)} damaged images"
        notes.append(f"left out {count}: {text}")
    return arrays, kept, _scale_alike(images, arrays, deep, value_range), notes


def _common_size(images: ImageSet) -> int:
    """The side of the images: of arrays all are looked at, of files the first, which the others are held to later. Raises
    RequestError where they are not square, or differ."""
    parts = [split.images for split in images.splits.values()]
    sizes = {part.shape[2:0:-1] for part in parts if isinstance(part, np.ndarray)} or {
        _first_size(cast(Sequence[Path], parts[0]))
    }
    if len(sizes) > 1 or len(set(next(iter(sizes)))) > 1:
        shown = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise RequestError(f"the images are {shown}, not squares of one size; set data.image_size, for example to 64")
    return next(iter(sizes))[0]


def _first_size(files: Sequence[Path]) -> tuple[int, int]:
    """Of the first that can be read; damaged ones are told of, or left out, when all are decoded."""
    for path in files:
        with suppress(UndecodableImage):
            return image_dimensions(path)
    return image_dimensions(files[0])


def _fill(target: np.memmap, split: Split, resize: bool, value_range: Range | None, progress: Show) -> Findings:
    """Write every image, decoded and resized, into ``target``."""
    images = split.images
    if not isinstance(images, np.ndarray):
        return decode_files(images, range(len(images)), target, resize, value_range, progress)
    if images.shape[1:3] == target.shape[1:3]:
        target[:] = images.reshape(target.shape)
    else:
        for row, image in enumerate(images):
            target[row] = resize_array(image, target.shape[1])
            progress(row + 1)
    target.flush()
    return {}, {}


def _scale_alike(images: ImageSet, arrays: Arrays, deep: dict[str, Deep], value_range: Range | None) -> Range | None:
    """Decode anew the deep grey that was not scaled as the whole set is to be; returns that scale, None without any."""
    extremes = [one for of_split in deep.values() for one in of_split.values()]
    if value_range is not None or not extremes:
        return value_range if extremes else None
    value_range = find_range(extremes)
    for part, of_split in deep.items():
        rows = [row for row, one in of_split.items() if find_range([one]) != value_range]
        files, target = cast(Sequence[Path], images.splits[part].images), cast(np.memmap, arrays[part])
        decode_files(files, rows, target, True, value_range, lambda _: None)
    return value_range


def _without_copies(images: ImageSet, arrays: Arrays, kept: Arrays, duplicates: str) -> list[str]:
    """Sentences on images that two splits have, or train has twice, as they are stored; with ``drop`` those of the first
    are left out of ``kept``, and with ``error`` they are one."""
    hashes, notes = {part: digests(array) for part, array in arrays.items()}, []
    for part, other in (*PAIRS, ("train", "train")):  # a validation split may be drawn from train
        if part not in kept or other not in kept:
            continue
        if part == other:
            copies = kept[part].copy()
            copies[np.flatnonzero(copies)[np.unique(hashes[part][copies], return_index=True)[1]]] = False
        else:
            copies = kept[part] & np.isin(hashes[part], hashes[other][kept[other]])
        if copies.any():
            first = int(copies.argmax())
            same = int((kept[other] & (hashes[other] == hashes[part][first])).argmax())
            example = f"{images.splits[part].name(part, first)} and {images.splits[other].name(other, same)}"
            note = f"{copies.sum()} of {len(copies)} images of {part} are {'there twice' if part == other else f'also in {other}'}, such as {example}; "
            remedy = "data.duplicates=drop leaves them out"
            if duplicates == "error":
                raise RequestError(f"{note}{remedy} of {part}, and warn keeps them")
            if duplicates == "drop":
                kept[part] &= ~copies
            notes.append(note + (f"left out of {part}" if duplicates == "drop" else remedy))
    return notes


def _save(images: ImageSet, arrays: Arrays, kept: Arrays, folder: Path, name: str) -> list[str]:
    """Write labels, names of files, and the images of splits of which rows are left out, into ``folder``; a sentence where
    classes cannot be learnt. Raises RequestError where nothing of a class is kept, or there is one class only."""
    if len(images.classes) < 2:
        raise RequestError(f"{name} has one class only ({images.classes[0]}), so there is nothing to learn")
    occurring = {}
    for part, split in images.splits.items():
        labels = split.labels.astype(np.int64)[kept[part]]
        occurring[part] = {*labels.tolist()}
        if gone := [images.classes[label] for label in {*split.labels.tolist()} - occurring[part]]:
            raise RequestError(f"no image of class {', '.join(gone)} is left in the {part} split of {name}")
        if images.folder is not None:  # in bytes, a quarter of what text takes in an array
            names = [printable(os.path.relpath(path, images.folder)).encode() for path in split.images]
            np.save(folder / f"{part}_files.npy", np.array(names)[kept[part]], allow_pickle=False)
        if not kept[part].all():
            np.save(folder / f"{part}_images.npy", arrays[part][kept[part]], allow_pickle=False)
        np.save(folder / f"{part}_labels.npy", labels, allow_pickle=False)
    unseen = [name for label, name in enumerate(images.classes) if label not in occurring["train"]]
    return [f"no image of class {', '.join(unseen)} is in train, so nothing is learnt of it"] if unseen else []


@contextmanager
def show_progress(title: str, total: int, report: Report, bar: bool) -> Iterator[Show]:
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
