"""The comparison of finished, unfinished and failed runs, in one of several formats."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.report import formats
from cnnbench.analysis.runs import collect
from cnnbench.utils.environment import packages
from cnnbench.utils.errors import one_of
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


def build(folders: Sequence[Path], fmt: str = "html", command: str | None = None, **options: Any) -> Report:
    """The report on all runs in and below ``folders``.

    Args:
        fmt: one of ``FORMATS``.
        command: remakes the report; by default the one without options.
        options: of ``analyse``; ``cnnbench report`` has one of the same name for each.

    Raises:
        RequestError: a folder is not there or has no runs, or a name is of nothing.
    """
    from cnnbench.analysis.analyse import analyse

    one_of("format", fmt, FORMATS)
    runs = collect(folders)
    analysis = analyse(runs, **options)
    if fmt == "html":
        from cnnbench.analysis.report.html import render

        command = command or shlex.join(["cnnbench", "report", *map(str, folders)])
        return Report(render(analysis, runs, command, packages()["cnnbench"]), analysis.board, fmt)
    if fmt == "csv":
        return Report(formats.leaderboard_csv(analysis.board, analysis), analysis.board, fmt)
    writers = {"json": formats.to_json, "md": formats.to_markdown, "latex": formats.to_latex}
    return Report(writers[fmt](analysis), analysis.board, fmt)
