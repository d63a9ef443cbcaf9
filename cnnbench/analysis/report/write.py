"""``cnnbench report DIR [DIR…]``: the comparison of finished, unfinished and failed runs, written where it is read."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.analysis import leaderboard
from cnnbench.analysis.report.formats import write_leaderboard
from cnnbench.analysis.report.text import leaderboard_text
from cnnbench.analysis.runs import Run, collect
from cnnbench.cli.parser import Parser
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import write_atomically

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis

FORMATS = {"html": "html", "json": "json", "csv": "csv", "md": "md", "latex": "tex"}  # name: suffix


def make(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    fmt: str = "html",
    baseline: str | None = None,
    objective: str | None = None,
    metric: str | None = None,
    size: float | None = None,
    run: str | None = None,
    versus: str | None = None,
    ignore: Iterable[str] = (),
    command: str | None = None,
) -> list[Path]:
    """Write the report on all runs in and below ``folders``.

    Args:
        folders: where the runs are.
        out: where the report goes; by default the first of ``folders``.
        fmt: html writes leaderboard.csv and leaderboard.md too; json, csv, md and latex write report.* alone.
        baseline: names the configuration that the others are compared with: ``optimizer=sgd``.
        objective: metric that orders the configurations; by default the runs' own.
        metric: metric that is compared; by default the test set's of the objective's kind.
        size: true difference, in the metric's unit (0.01 is a point), for which the needed seeds are told.
        run, versus: folders of the runs whose confusion matrices are shown.
        ignore: factors to average over, although they vary (``code``).
        command: remakes the report; by default told from the arguments.

    Returns:
        The files, the one to open first in front.

    Raises:
        RequestError: a folder is not there or has no runs, or a name is of nothing.
    """
    one_of("format", fmt, FORMATS)
    _check_out(out)
    ignore = list(ignore)
    runs, analysis = _analyse(folders, baseline, objective, metric, size, run, versus, ignore)
    command = command or _command(folders, out, fmt, baseline, objective, metric, size, run, versus, ignore)
    return _write(Path(out or folders[0]), text(runs, analysis, fmt, command), analysis.board, fmt)


def _check_out(out: Path | None) -> None:
    if out is not None and out.exists() and not out.is_dir():
        raise RequestError(f"--out {out} is a file; give a folder")


def _write(target: Path, told: str, board: leaderboard.Leaderboard, fmt: str) -> list[Path]:
    path = target / f"report.{FORMATS[fmt]}"
    write_atomically(path, told)
    return [path, *(write_leaderboard(board, target) if fmt == "html" else [])]


def _analyse(
    folders: Sequence[Path], baseline: str | None, objective: str | None, metric: str | None, size: float | None,
    run: str | None, versus: str | None, ignore: Iterable[str],
) -> tuple[list[Run], Analysis]:  # fmt: skip
    from cnnbench.analysis.analyse import analyse

    runs = collect(folders)
    return runs, analyse(
        runs, baseline=baseline, objective=objective, metric=metric, size=size, run=run, versus=versus, ignore=ignore
    )


def text(runs: Sequence[Run], analysis: Analysis, fmt: str, command: str) -> str:
    """The report in one format."""
    from cnnbench.analysis.report import formats

    if fmt == "html":
        from cnnbench.analysis.report.html import render

        return render(analysis, runs, command, version())
    renderers = {"json": formats.to_json, "csv": formats.to_csv, "md": formats.to_markdown, "latex": formats.to_latex}
    return renderers[fmt](analysis)


def version() -> str:
    """Of the installed cnnbench."""
    try:
        return installed_version("cnnbench")
    except PackageNotFoundError:
        return "from source"


def _command(
    folders: Sequence[Path], out: Path | None, fmt: str, baseline: str | None, objective: str | None,
    metric: str | None, size: float | None, run: str | None, versus: str | None, ignore: Iterable[str],
) -> str:  # fmt: skip
    """The command line that does the same again."""
    given = {"--baseline": baseline, "--objective": objective, "--metric": metric, "--size": size, "--run": run,
             "--versus": versus, "--out": out, "--format": None if fmt == "html" else fmt}  # fmt: skip
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    options += [part for name in ignore for part in ("--ignore", name)]
    return shlex.join(["cnnbench", "report", *map(str, folders), *options])


def _parser() -> Parser:
    parser = Parser("report", "Compare runs: report.html, leaderboard.csv and leaderboard.md from what is on disk.")
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="folder with runs in or below it")
    parser.add_argument("--baseline", metavar="SETTINGS", help='compare with this one: "optimizer=sgd scheduler=none"')
    parser.add_argument(
        "--objective", metavar="METRIC", help="orders the configurations, e.g. val/loss (the runs' own)"
    )
    parser.add_argument(
        "--metric", metavar="METRIC", help="is compared, e.g. test/recall (the objective's on the test set)"
    )
    parser.add_argument("--format", dest="fmt", default="html", metavar="F", help=f"{', '.join(FORMATS)} (html)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where files go (the first DIR; formats but html: printed)"
    )
    parser.add_argument("--run", metavar="NAME", help="show this run's confusion matrix (the first place's)")
    parser.add_argument("--versus", metavar="NAME", help="and its difference from this run's")
    parser.add_argument(
        "--size", type=float, metavar="X", help="tell the seeds that show this difference (0.01: 1 point)"
    )
    parser.add_argument("--ignore", action="append", default=[], metavar="KEY", help="average over this, e.g. code")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit status, which is 0.

    Raises:
        RequestError: what was asked for is wrong.
    """
    asked = vars(_parser().parse_args(list(argv)))
    folders, out, fmt = asked.pop("folders"), asked.pop("out"), asked.pop("fmt")
    command = shlex.join(["cnnbench", "report", *argv])
    one_of("format", fmt, FORMATS)
    _check_out(out)
    runs, analysis = _analyse(folders, **asked)
    told = text(runs, analysis, fmt, command)
    if fmt != "html" and out is None:
        print(told, end="")
        return 0
    paths = _write(Path(out or folders[0]), told, analysis.board, fmt)
    if fmt == "html":
        print(leaderboard_text(analysis.board))
    for path in paths:
        print(f"  {path}")
    return 0
