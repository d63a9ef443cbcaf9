"""A CSV file that names image files, the class of each and perhaps its split."""

import csv
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from cnnbench.data.columns import find_column, split_named
from cnnbench.data.folder import SPLITS, ImageFolder, Listed
from cnnbench.data.imageset import printable
from cnnbench.utils.errors import RequestError, one_line


class Csv(ImageFolder):
    """Image files that a CSV file lists below a header, one a line: path (from the CSV's folder), class, perhaps split.

    Args:
        path_column, label_column, split_column: names of columns; None goes by the usual ones (``cnnbench.data.columns``).
        options: as of ``ImageFolder``; ``splits`` are what the column of splits says of each.
    """

    def __init__(
        self,
        path_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.columns = {"path": path_column, "label": label_column, "split": split_column}

    def _class_order(self, name: str) -> Any:
        return int(name) if name.isdecimal() and len(name) < 20 else math.inf, name  # numbers by their value

    def identity(self, location: Path | None) -> dict[str, Any]:
        return {**super().identity(location), "set": "csv"}

    def _find(self, location: Path | None, left_out: Counter[str]) -> tuple[Listed, dict[str, str]]:
        if location is None or not location.is_file():
            raise RequestError(
                f"data.path={location} is not a file; it should be a CSV with columns of paths and labels"
            )
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
                delimiter = max(",;\t", key=next(_lines(file, location), "").count)
                file.seek(0)
                reader = csv.reader(_lines(file, location), delimiter=delimiter, strict=True)
                header = next(reader, [])
                found = {kind: find_column(kind, name, header, location) for kind, name in self.columns.items()}
                columns = {kind: None if name is None else header.index(name) for kind, name in found.items()}
                for row in filter(None, reader):
                    if any(row[len(header) :]):
                        has = f"{location} line {reader.line_num} has {len(row):,} cells, the header {len(header):,}"
                        raise RequestError(f"{has}; a cell that has a {delimiter!r} in it needs quotes")
                    cells = {
                        kind: at if at is None else "".join(row[at : at + 1]).strip() for kind, at in columns.items()
                    }
                    yield reader.line_num, cells
        except (UnicodeError, csv.Error) as error:
            raise RequestError(f"{location} cannot be read as a CSV in UTF-8 ({one_line(error)})") from error


def _lines(file: TextIO, location: Path) -> Iterator[str]:
    """The lines; raises RequestError at one that is too long for a list of images, such as of 10^6 columns."""
    longest = csv.field_size_limit()
    for number, line in enumerate(iter(lambda: file.readline(longest + 1), ""), 1):
        if len(line) > longest:
            raise RequestError(f"{location} line {number} has more than {longest:,} characters")
        yield line
