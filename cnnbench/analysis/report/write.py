"""The comparison of finished, unfinished and failed runs as files: ``make`` writes them, ``build`` makes the text alone."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.report import formats
from cnnbench.analysis.runs import collect
from cnnbench.utils.environment import packages
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import write_atomically

FORMATS = {"html": "html", "json": "json", "csv": "csv", "md": "md", "latex": "tex"}  # name: suffix


class Report(NamedTuple):
    """A report in one format: its text, and the leaderboard that it is about."""

    text: str
    board: Leaderboard
    fmt: str

    def write(self, folder: Path) -> list[Path]:
        """Write ``report.*``, of html also ``leaderboard.csv`` and ``.md``; the one to open first is in front."""
        path = folder / f"report.{FORMATS[self.fmt]}"
        write_atomically(path, self.text)
        return [path, *(formats.write_leaderboard(self.board, folder) if self.fmt == "html" else [])]


def make(folders: Sequence[Path], out: Path | None = None, *, fmt: str = "html", **options: Any) -> list[Path]:
    """Write the report on all runs in and below ``folders``.

    Args:
        out: where the report goes; by default the first of ``folders``.
        fmt: html writes leaderboard.csv and leaderboard.md too; the other ``FORMATS`` write report.* alone.
        options: of ``analyse``; ``cnnbench report`` has one of the same name for each.

    Returns:
        The files, the one to open first in front.

    Raises:
        RequestError: a folder is not there or has no runs, or a name is of nothing.
    """
    check_out(out)
    given = {**options, "out": out, "format": fmt}
    flags = [
        f"--{name}={value}"
        for name, values in given.items()
        for value in (values if name == "ignore" else [values])
        if value not in (None, "html")
    ]
    command = shlex.join(["cnnbench", "report", *map(str, folders), *flags])
    return build(folders, fmt, command, **options).write(Path(out or folders[0]))


def check_out(out: Path | None) -> None:
    """Raise a RequestError where files cannot go to ``out``, which may be missing."""
    if out is not None and out.exists() and not out.is_dir():
        raise RequestError(f"--out {out} is a file; give a folder")


def build(folders: Sequence[Path], fmt: str, command: str, **options: Any) -> Report:
    """The report on all runs in and below ``folders``; ``command`` remakes it, the rest is as for ``make``."""
    from cnnbench.analysis.analyse import analyse

    one_of("format", fmt, FORMATS)
    runs = collect(folders)
    analysis = analyse(runs, **options)
    if fmt == "html":
        from cnnbench.analysis.report.html import render

        return Report(render(analysis, runs, command, packages()["cnnbench"]), analysis.board, fmt)
    if fmt == "csv":
        return Report(formats.leaderboard_csv(analysis.board, analysis), analysis.board, fmt)
    writers = {"json": formats.to_json, "md": formats.to_markdown, "latex": formats.to_latex}
    return Report(writers[fmt](analysis), analysis.board, fmt)
