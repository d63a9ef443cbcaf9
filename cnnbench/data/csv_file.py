"""A CSV file that names image files, the class of each and perhaps its split."""

import csv
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnbench.data.columns import find_column, split_named
from cnnbench.data.folder import SPLITS, ImageFolder, Listed
from cnnbench.data.imageset import printable
from cnnbench.utils.errors import RequestError, one_line

LONGEST = 2**17  # characters of a line; what follows is taken for another, which then has no image
MOST_COLUMNS = 10_000


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
                columns = {kind: find_column(kind, name, header, location) for kind, name in self.columns.items()}
                for row in filter(None, reader):
                    if "".join(row[len(header) :]).strip():
                        has = f"{location} line {reader.line_num} has {len(row):,} cells, the header {len(header):,}"
                        raise RequestError(f"{has}; a cell that has a {delimiter!r} in it needs quotes")
                    cells = dict(zip(header, row, strict=False))
                    yield reader.line_num, {kind: of and cells.get(of, "").strip() for kind, of in columns.items()}
        except (UnicodeError, csv.Error) as error:
            raise RequestError(f"{location} cannot be read as a CSV in UTF-8 ({one_line(error)})") from error
