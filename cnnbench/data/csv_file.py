"""A CSV file that names image files, the class of each and perhaps its split; columns and splits of any such table."""

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.data.folder import SPLITS, ImageFolder, Listed
from cnnbench.data.imageset import printable
from cnnbench.utils.errors import RequestError, did_you_mean, one_line, one_of

LONGEST = 2**17  # characters of a line; what follows is taken for another, which then has no image
MOST_COLUMNS = 10_000
COLUMNS = {  # of any table of images, their usual names, in any case
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path",
             "image", "image_path", "img", "image_id"),
    "image": ("image", "img"),
    "label": ("label", "labels", "class", "class_name", "target", "category"),
    "split": ("split", "set", "subset", "partition"),
}  # fmt: skip


@dataclass
class Csv(ImageFolder):
    """Image files that a CSV file lists below a header, one a line: path (from the CSV's folder), class, perhaps split.
    Of columns, None goes by the usual names (``COLUMNS``); ``splits`` are what the column of splits says of each."""

    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None

    def _class_order(self, name: str) -> Any:
        return int(name) if name.isdecimal() and len(name) < 20 else math.inf, name  # numbers by their value

    def identity(self, location: Path | None) -> dict[str, Any]:
        return {**super().identity(location), "set": "csv"}

    def _find(self, location: Path | None, left_out: Counter[str]) -> tuple[Listed, dict[str, str]]:
        if location is None or not location.is_file():
            raise RequestError(f"data.path={location} is not a file; it should be a CSV file of paths and labels")
        location = location.resolve()
        listed: Listed = {split: {} for split in SPLITS}
        lines: dict[str, int] = {}
        for line, row in self._rows(location):
            where = f"{location} line {line}"
            split = "train" if row["split"] is None else split_named(row["split"], self.splits, where)
            if split is None:
                left_out[f"of {row['split']!r}"] += 1
                continue
            if empty := [kind for kind in ("path", "label") if not row[kind]]:
                raise RequestError(f"{where} has no {empty[0]}")
            path = Path(os.path.normpath(location.parent / row["path"]))
            if str(path) in lines:
                raise RequestError(f"{where}: {path} is in line {lines[str(path)]} too")
            if not path.is_file():
                raise RequestError(f"{where}: {path} is not a file")
            lines[str(path)], state = line, path.stat()
            listed[split].setdefault(printable(row["label"]), []).append((str(path), state.st_size, state.st_mtime_ns))
        if empty := [split for split in ("train", *(self.splits or ())) if not listed[split]]:
            raise RequestError(f"{location} has no line of the {empty[0]} split")
        listed = {split: {label: sorted(files) for label, files in by.items()} for split, by in listed.items() if by}
        return listed, dict(zip(listed, listed, strict=True))

    def _rows(self, location: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each line's number and cells by kind of column; None of a column of splits that is not there."""
        try:
            with location.open(newline="", encoding="utf-8-sig") as file:
                delimiter = max(",;\t", key=file.readline(LONGEST).count)
                file.seek(0)
                reader = csv.reader(iter(lambda: file.readline(LONGEST), ""), delimiter=delimiter, strict=True)
                if len(header := next(reader, [])) > MOST_COLUMNS:
                    raise RequestError(f"{location} has more than {MOST_COLUMNS:,} columns")
                wanted = {"path": self.path_column, "label": self.label_column, "split": self.split_column}
                columns = {kind: find_column(kind, name, header, location) for kind, name in wanted.items()}
                for row in filter(None, reader):
                    if "".join(row[len(header) :]).strip():
                        has = f"{location} line {reader.line_num} has {len(row):,} cells, the header {len(header):,}"
                        raise RequestError(f"{has}; a cell that has a {delimiter!r} in it needs quotes")
                    cells = dict(zip(header, row, strict=False))
                    yield reader.line_num, {kind: of and cells.get(of, "").strip() for kind, of in columns.items()}
        except (UnicodeError, csv.Error) as error:
            raise RequestError(f"{location} cannot be read as a CSV in UTF-8 ({one_line(error)})") from error


def find_column(kind: str, wanted: str | None, names: Iterable[str], where: object) -> str | None:
    """The column that is ``wanted``, or the one with a usual name for this kind; None where there is none of splits.
    Raises RequestError, whose message begins with ``where``, where there is no such column."""
    names = list(names)
    lower = {name.strip().lower(): name for name in reversed(names)}
    found = wanted or next((lower[usual] for usual in COLUMNS[kind] if usual in lower), None)
    if found in names or (found is None and kind == "split"):
        return found
    missing = f"column {wanted!r}{did_you_mean(str(wanted), names)}" if wanted else f"known column of {kind}s"
    known = ", ".join(names)[:500] or "none"
    raise RequestError(f"{where} has no {missing}; choose data.source.{kind}_column from {known}")


def split_named(name: str, splits: Mapping[str, str] | None, where: object) -> str | None:
    """The split that has this name, in ``splits`` or else among the usual ones; None where ``splits`` leave it out.
    Raises RequestError where it is no usual one (beginning with ``where``), or ``splits`` have another key."""
    if splits is not None:
        return next((one_of("data.splits", split, SPLITS) for split, own in splits.items() if own == name), None)
    if split := next((split for split, usual in SPLITS.items() if name.lower() in usual), None):
        return split
    known = ", ".join(name for usual in SPLITS.values() for name in usual)
    raise RequestError(f"{where} has a split {name!r}, none of {known}; say data.splits={{train: NAME, test: NAME}}")
