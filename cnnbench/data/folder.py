"""Folders of image files, a folder a class: which of them are splits, and which files are images."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.data.decode import RASTER
from cnnbench.data.imageset import ImageSet, Split, printable
from cnnbench.utils.errors import RequestError, one_of

SPLITS = {  # the usual names of their folders, in any case
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "evaluation"),
}
# What file servers and archives leave behind; what is hidden begins with a dot, such as .thumbnails
LITTER = ("@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found")
FileState = tuple[str, int, int]  # path, bytes, and when it was modified in nanoseconds
Listed = dict[str, dict[str, list[FileState]]]  # by split and class, each sorted


@dataclass
class ImageFolder:
    """Image files in a folder a class, below folders of the splits (``SPLITS``) or in one tree, in a mixed order."""

    channels: int = 3  # for colour, 1 for grey
    test_share: float = 0.2  # of each class, fixed, is the test set where there is no test folder
    skip_damaged: bool = False  # leave out the files that do not decode; otherwise they are an error
    splits: Mapping[str, str] | None = None  # folder of each below the location (``.`` is that); None goes by names

    def __post_init__(self) -> None:
        self.shape = {"channels": self.channels}

    def identity(self, location: Path | None) -> dict[str, Any]:
        own = {"channels": self.channels, "test_share": self.test_share, "skip_damaged": self.skip_damaged}
        return {"set": "image_folder", "names": True, **own, "files": self._list(location)[0]}

    def _list(self, location: Path | None) -> tuple[Listed, list[str]]:
        """The files, and notes on what is where."""
        left_out: Counter[str] = Counter()
        listed, titles = self._find(location, left_out)
        assert location is not None
        for split, classes in listed.items():
            if extra := set(classes) - set(listed["train"]):
                raise RequestError(f"{titles[split]} has classes that train has not: {', '.join(sorted(extra))}")
        titles = {split: "all of it" if title == "." else title for split, title in titles.items()}
        parts = [f"{split} is {titles[split]} ({sum(map(len, listed[split].values()))})" for split in listed]
        parts += [] if "test" in listed else [f"test is a share of {self.test_share} of each class in train"]
        if left_out:
            parts.append(f"left out are {', '.join(f'{number} {kind}' for kind, number in left_out.most_common())}")
        return listed, [f"images of {location.resolve()}: {', '.join(parts)}"]

    def _find(self, location: Path | None, left_out: Counter[str]) -> tuple[Listed, dict[str, str]]:
        """The files, and what each split is called. Counts in ``left_out`` what is not read."""
        if location is None or not location.is_dir():
            wanted = "it should hold a folder a class, or train/ and test/ with such folders"
            raise RequestError(f"data.path={location} is not a folder; {wanted}")
        location = location.resolve()
        try:
            folders = self._chosen(location) if self.splits is not None else find_splits(location)
            listed = {split: list_classes(path, folders.values(), left_out) for split, path in folders.items()}
        except OSError as error:  # such as a link to nothing
            raise RequestError(f"{error.filename or location} cannot be read ({error.strerror})") from error
        if len(listed["train"]) < 2:
            has = f"{folders['train']} has {len(listed['train'])} folders with images"
            raise RequestError(f"{has}; it should hold a folder a class, two or more")
        return listed, {split: os.path.relpath(path, location) for split, path in folders.items()}

    def _chosen(self, location: Path) -> dict[str, Path]:
        """The folders that ``data.splits`` names."""
        names = {one_of("data.splits", split, SPLITS): name for split, name in (self.splits or {}).items()}
        folders = {split: location / names[split] for split in SPLITS if split in names}
        if wrong := [f"{path} is not a folder" for path in folders.values() if not path.is_dir()]:
            raise RequestError(f"data.splits={names}: {wrong[0]}")
        if len({path.resolve() for path in folders.values()}) < len(folders):
            raise RequestError(f"data.splits={names}: a folder is the images of one split alone")
        return folders

    def _class_order(self, name: str) -> Any:
        return name

    def read(self, location: Path | None) -> ImageSet:
        listed, notes = self._list(location)
        classes = sorted(listed["train"], key=self._class_order)
        splits = {}
        for name, by_class in listed.items():
            files = [by_class.get(label, []) for label in classes]
            paths = [Path(path) for of_class in files for path, _, _ in of_class]
            splits[name] = Split(paths, np.repeat(np.arange(len(classes)), [len(of_class) for of_class in files]))
        if "test" not in splits:
            splits |= splits.pop("train").with_test_split(self.test_share)
        # Published sets mix their classes. In the order of the folders, without shuffling, a batch would be of one class.
        for name, split in splits.items():
            splits[name] = split.take(np.random.default_rng(0).permutation(len(split.labels)))
        folder = location.resolve() if location else None
        folder = folder.parent if folder and folder.is_file() else folder
        return ImageSet(splits, classes, self.channels, folder, self.skip_damaged, notes)


def find_splits(location: Path) -> dict[str, Path]:
    """The folders of the splits, by their names; the location itself as ``train`` where it has none of these names.

    Raises:
        RequestError: they may as well be classes, or they hold no classes.
    """
    folders = [path for path in subfolders(location) if has_images(path)]
    named = [(split, path) for split, names in SPLITS.items() for path in folders if path.name.lower() in names]
    found = dict(named)
    if not found:
        return {"train": location}
    others = [path.name for path in folders if path not in [path for _, path in named]]
    flat = [path for path in found.values() if not any(map(has_images, subfolders(path)))]
    if "train" not in found and not others:
        raise RequestError(f"{location} has {' and '.join(sorted(found))} but no train/ with images")
    if flat and not others:
        has = f"{flat[0]} has images but no class folders, so that their classes are not known"
        raise RequestError(f"{has}; name the splits that have: data.splits={{train: {found['train'].name}}}")
    # beside train/ and test/ with classes in them another folder is no class
    if len(found) < len(named) or flat or "train" not in found or (others and len(found) == 1):
        shown = " and ".join(path.name for _, path in named)
        why = f"{location}: {shown} may be splits or classes, beside {', '.join(others) or 'each other'}"
        remedy = "data.splits={train: FOLDER, test: FOLDER}, or data.splits={train: .} where each folder is a class"
        raise RequestError(f"{why}; say what is what: {remedy}")
    return found


def list_classes(folder: Path, splits: Collection[Path], left_out: Counter[str]) -> dict[str, list[FileState]]:
    """The image files below each folder in ``folder`` but those of ``splits``, by the folder's name. Counts in ``left_out``
    what is no image, by its ending; raises RequestError where a folder has no image at all."""
    listed = {}
    for path in subfolders(folder):
        if path not in splits:
            without: Counter[str] = Counter()
            states = [(entry.path, entry.stat()) for entry in image_files(path, without)]
            if not states:
                hint = ", or pip install pillow-heif" if ".heic" in without else ""
                holds = ", ".join(f"{number} {kind}" for kind, number in without.items()) or "nothing"
                raise RequestError(f"the class folder {path} has no image that can be read ({holds}); remove it{hint}")
            left_out.update(without)
            listed[printable(path.name)] = sorted((file, state.st_size, state.st_mtime_ns) for file, state in states)
    return listed


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted, without litter."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_litter(path.name))


def has_images(folder: Path) -> bool:
    """Whether there is an image file anywhere below ``folder``."""
    return next(image_files(folder), None) is not None


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or no part of anyone's data."""
    return name.startswith(".") or name.lower() in LITTER


def image_files(
    folder: str | Path, left_out: Counter[str] | None = None, above: tuple[str, ...] = ()
) -> Iterator[os.DirEntry[str]]:
    """The image files below ``folder``, by their endings; links to nothing are among them, litter is not, nor what links to
    folders ``above`` lead to. Counts in ``left_out`` the other files by their endings."""
    # not Path: for 60,000 files, making and sorting Paths takes longer than reading
    endings, here = image_endings(), os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_litter(entry.name):
                continue
            if entry.is_dir():
                yield from image_files(entry.path, left_out, (*above, here))
            elif entry.name.lower().endswith(endings) and (entry.is_file() or not Path(entry).exists()):
                yield entry  # but no pipes, which would be waited for
            elif left_out is not None:
                left_out[printable(Path(entry.name).suffix.lower()) or "without an ending"] += 1


def refuse_pipes(folder: Path) -> None:
    """Raise RequestError where something below ``folder``, which a library is to open, would have it wait or never end."""
    seen = set[str]()
    for here, below, files in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if os.path.realpath(here) not in seen and (seen or not is_litter(name))]
        seen.add(os.path.realpath(here))
        for path in (Path(here, name) for name in files):
            if not path.is_file() and path.exists():
                raise RequestError(f"{path} is a pipe, a socket or a device, not a file of images or labels; remove it")


@cache
def image_endings() -> tuple[str, ...]:
    """The endings of the formats that are opened, where Pillow or a plugin of it knows them."""
    return tuple(ending for ending, name in Image.registered_extensions().items() if name in RASTER)
