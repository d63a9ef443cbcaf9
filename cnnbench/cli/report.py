"""``cnnbench report DIR [DIR…]``: compare the runs that are on disk."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from cnnbench.analysis.report.text import answer_text, leaderboard_text
from cnnbench.analysis.report.write import FORMATS, build
from cnnbench.cli.parser import Parser
from cnnbench.utils.console import print_result
from cnnbench.utils.errors import RequestError


def main(arguments: Sequence[str]) -> int:
    """Write the report on some folders, or print it in another format than HTML; returns 0."""
    parser = Parser("report", "Compare runs: report.html, leaderboard.csv and leaderboard.md from what is on disk.")
    add = parser.add_argument
    add("folders", metavar="DIR", nargs="+", type=Path, help="folder with runs in or below it")
    add("--baseline", metavar="SETTINGS", help='compare with this one: "optimizer=sgd scheduler=none"')
    add("--objective", metavar="METRIC", help="orders the configurations, e.g. val/loss (the runs' own)")
    add("--metric", metavar="METRIC", help="is compared, e.g. test/recall (the objective's on the test set)")
    add("--format", default="html", metavar="F", help=f"{', '.join(FORMATS)} (html)")
    add("--out", metavar="DIR", type=Path, help="where files go (the first DIR; formats but html: printed)")
    add("--run", metavar="NAME", help="show this run's confusion matrix (the first place's)")
    add("--versus", metavar="NAME", help="and its difference from this run's")
    add("--size", type=float, metavar="X", help="tell the seeds that show this difference (0.01: 1 point)")
    add("--practical", type=float, metavar="X", help="a difference of up to X points does not matter: verdicts are "
        "better, worse, practically the same, undecided")  # fmt: skip
    add("--ignore", action="append", default=[], metavar="KEY", help="average over this, e.g. code")
    add("--best-over", action="append", default=[], metavar="KEY", help="compare each at its best value of this, "
        "chosen by validation: optimizer.lr")  # fmt: skip
    add("--all-pairs", action="store_true", help="compare each with each, also more than 12 configurations")
    add("--target", type=float, metavar="X", help="epochs and seconds to X (per cent) on the validation set")
    options = vars(parser.parse_args(arguments))
    folders, out, fmt = options.pop("folders"), options.pop("out"), options.pop("format")
    if out is not None and out.exists() and not out.is_dir():
        raise RequestError(f"--out {out} is a file; give a folder")
    for name in ("size", "practical", "target"):
        if (value := options[name]) is not None and not 0 < value < float("inf"):
            raise RequestError(f"--{name} must be a number above 0, got {value:g}")
    report = build(folders, fmt, shlex.join(["cnnbench", "report", *arguments]), **options)
    if fmt != "html" and out is None:
        print_result(report.text.removesuffix("\n"))
        return 0
    try:
        paths = report.write(out or folders[0])
    except PermissionError as error:
        wrong = f"{error.filename} cannot be written ({error.strerror})"
        raise RequestError(f"{wrong}; --out DIR writes elsewhere") from error
    if fmt == "html":
        print_result(f"{leaderboard_text(report.board)}\n{answer_text(report.answer)}\n")
    print_result("\n".join(f"  {path}" for path in paths))
    return 0
