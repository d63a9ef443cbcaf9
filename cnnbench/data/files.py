"""Image files below a folder, listed once, and the folders that a failed download leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnnbench.utils.errors import RequestError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class File(NamedTuple):
    """An image file, and what tells whether it has changed."""

    path: str  # as text: for 60,000 files, making and sorting Paths takes longer than reading the folders
    bytes: int
    modified: int  # nanoseconds


Classes = dict[str, list[File]]


def list_classes(folder: Path) -> Classes:
    """The image files below each folder in ``folder``, by the folder's name, sorted; folders without any are left out.

    Raises:
        RequestError: something below ``folder`` cannot be read, such as a link to nothing.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        listed = {name: sorted(list_images(os.path.join(folder, name))) for name in names}  # noqa: PTH118
    except OSError as error:
        raise RequestError(f"{error.filename or folder} cannot be read ({error.strerror})") from error
    return {name: files for name, files in listed.items() if files}


def list_images(folder: str) -> Iterator[File]:
    """The image files below ``folder``, by their endings; hidden ones are left out."""
    for entry in _images(folder):
        status = entry.stat()
        yield File(entry.path, status.st_size, status.st_mtime_ns)


def image_paths(folder: str) -> Iterator[str]:
    """Likewise their paths alone, and so those of links to nothing too."""
    return (entry.path for entry in _images(folder))


def _images(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _images(entry.path)
            elif entry.name.lower().endswith(IMAGE_ENDINGS):
                yield entry


def remove_empty_folders(folder: Path, keep: Path) -> None:
    """Remove what a failed download made: folders without a file, from ``folder`` up to below ``keep``."""
    for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    while folder != keep and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
