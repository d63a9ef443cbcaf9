"""The comparison of finished, unfinished and failed runs as files: ``make`` writes them, ``build`` only makes them up."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.report import formats
from cnnbench.analysis.runs import collect
from cnnbench.utils.environment import packages
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import write_atomically

if TYPE_CHECKING:
    from typing_extensions import Unpack

FORMATS = {"html": "html", "json": "json", "csv": "csv", "md": "md", "latex": "tex"}  # name: suffix


class Options(TypedDict, total=False):
    """What a report shows; ``cnnbench report`` has an option of the same name for each.

    Attributes:
        baseline: names the configuration that the others are compared with: ``optimizer=sgd``.
        objective: metric that orders the configurations; by default the runs' own.
        metric: metric that is compared; by default the test set's of the objective's kind.
        size: true difference, in the metric's unit (0.01 is a point), for which the needed seeds are given.
        run, versus: folders of the runs whose confusion matrices are shown.
        ignore: factors to average over, although they vary (``code``).
    """

    baseline: str | None
    objective: str | None
    metric: str | None
    size: float | None
    run: str | None
    versus: str | None
    ignore: Iterable[str]


@dataclass(frozen=True)
class Report:
    """A report in one format: its text, and the leaderboard that it is about."""

    text: str
    board: Leaderboard
    fmt: str

    def write(self, folder: Path) -> list[Path]:
        """Write ``report.*``, of html also ``leaderboard.csv`` and ``.md``; the one to open first is in front."""
        path = folder / f"report.{FORMATS[self.fmt]}"
        write_atomically(path, self.text)
        return [path, *(formats.write_leaderboard(self.board, folder) if self.fmt == "html" else [])]


def make(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    fmt: str = "html",
    command: str | None = None,
    **options: Unpack[Options],
) -> list[Path]:
    """Write the report on all runs in and below ``folders``.

    Args:
        folders: where the runs are.
        out: where the report goes; by default the first of ``folders``.
        fmt: html writes leaderboard.csv and leaderboard.md too; json, csv, md and latex write report.* alone.
        command: remakes the report; by default made from the arguments.
        options: see ``Options``.

    Returns:
        The files, the one to open first in front.

    Raises:
        RequestError: a folder is not there or has no runs, or a name is of nothing.
    """
    check_out(out)
    command = command or _command(folders, out, fmt, options)
    return build(folders, fmt, command, **options).write(Path(out or folders[0]))


def check_out(out: Path | None) -> None:
    """Raise a RequestError where files cannot go to ``out``, which may be missing."""
    if out is not None and out.exists() and not out.is_dir():
        raise RequestError(f"--out {out} is a file; give a folder")


def build(folders: Sequence[Path], fmt: str, command: str, **options: Unpack[Options]) -> Report:
    """The report on all runs in and below ``folders``; arguments and errors as for ``make``."""
    from cnnbench.analysis.analyse import analyse

    one_of("format", fmt, FORMATS)
    runs = collect(folders)
    analysis = analyse(runs, **options)
    if fmt == "html":
        from cnnbench.analysis.report.html import render

        return Report(render(analysis, runs, command, packages()["cnnbench"]), analysis.board, fmt)
    writers = {"json": formats.to_json, "csv": formats.to_csv, "md": formats.to_markdown, "latex": formats.to_latex}
    return Report(writers[fmt](analysis), analysis.board, fmt)


def _command(folders: Sequence[Path], out: Path | None, fmt: str, options: Options) -> str:
    """The command line that does the same again."""
    ignore = options.get("ignore", ())
    given = {**options, "ignore": None, "out": out, "format": None if fmt == "html" else fmt}
    parts = [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
    parts += [part for name in ignore for part in ("--ignore", name)]
    return shlex.join(["cnnbench", "report", *map(str, folders), *parts])
