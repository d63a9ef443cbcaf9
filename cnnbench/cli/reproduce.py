"""``cnnbench reproduce STUDY``: run a study's rows as a sweep, and write its own tables beside the reported numbers."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnbench.analysis.runs import Run, collect
from cnnbench.analysis.studies.budget import common_overrides, is_short
from cnnbench.analysis.studies.claims import judge, rows_of
from cnnbench.analysis.studies.markdown import MARKS, Part, refusal, render, title
from cnnbench.analysis.studies.study import FORMS, Study, choose_rows, load_row, load_study, row_names, studies
from cnnbench.analysis.studies.tables import Line, build_table, count_text, gap_text, ours_text, reported_text
from cnnbench.analysis.studies.verdicts import NO_VERDICT
from cnnbench.cli.parser import Parser
from cnnbench.cli.reproduce_rows import check_overrides, folder_of, run_rows, undone
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import write_atomically

PAGE = "reproduction.md"


def _parser() -> Parser:
    parser = Parser(
        "reproduce",
        description="Run the rows of a published study and compare them with its numbers and its claims.",
        epilog=f"Studies: {', '.join(studies())}. Other arguments are overrides, for example trainer.max_epochs=3.",
    )
    parser.add_argument("study", metavar="STUDY", help="a name in conf/study")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these (all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs a row, with seeds 0 to N-1 (3)")
    parser.add_argument(
        "--form",
        default="published",
        metavar="F",
        help=f"{', '.join(FORMS)} or both: with its quirks or right (published)",
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="of the runs (outputs/reproduce/STUDY)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write DIR/STUDY.md and its pictures")
    parser.add_argument("--note", metavar="TEXT", help="what a reader should know, under the page's title")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and estimate the time; train nothing")
    parser.add_argument("--no-train", action="store_true", help="write the tables from the runs that are there")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line; returns 0 when every run that was asked for is completed, else 1 and which are not.

    Raises:
        RequestError: what was asked for is wrong; nothing has been started.
    """
    asked, rest = _parser().parse_known_args(list(argv))
    overrides = [text for text in [*rest, *asked.rows] if "=" in text]
    unknown = [text for text in rest if "=" not in text or text.startswith("-")]
    if unknown:
        raise RequestError(f"{unknown[0]!r} is neither an option nor an override (cnnbench reproduce --help)")
    if asked.seeds < 1:
        raise RequestError(f"--seeds must be at least 1, got {asked.seeds}")
    study = load_study(asked.study)
    named = [text for text in asked.rows if "=" not in text]
    rows = choose_rows(study.name, named)
    forms = FORMS if asked.form == "both" else (one_of("--form", asked.form, FORMS),)
    check_overrides(overrides)
    folder = asked.folder or folder_of(study.name, overrides)
    if asked.dry_run:
        from cnnbench.cli.reproduce_estimate import estimate

        return estimate(study, rows, forms, asked.seeds, overrides)
    status, refused = 0, dict[str, dict[str, str]]()
    for form in forms if not asked.no_train else ():
        ended, refused[form] = run_rows(study.name, rows, form, asked.seeds, overrides, folder / form)
        status = max(status, ended)
    parts = [evaluate(study, rows, form, folder / form, refused.get(form, {})) for form in forms]
    for path in write(study, parts, _command(study.name, named, asked, parts), folder, asked.out, asked.note):
        print(f"  {path}")
    left = [f"{part.form}, {told}" for part in parts for told in undone(rows, asked.seeds, part.runs)]
    if left and (status or asked.no_train):
        print("\n".join(["not all runs completed:", *left]))
        return 1
    return status


def _command(study: str, rows: Sequence[str], asked: Namespace, parts: Sequence[Part]) -> str:
    """What does the same elsewhere, as the records tell it: without where it was written, or whether it had run before."""
    runs = [run for part in parts for row in part.rows for run in part.runs.get(row.name, ())]
    seeds = max((run.seed + 1 for run in runs if run.seed is not None), default=asked.seeds)
    options = [*(["--rows", *rows] if rows else []), "--seeds", str(seeds), "--form", asked.form]
    options += ["--note", asked.note] if asked.note else []
    return shlex.join(["cnnbench", "reproduce", study, *options, *common_overrides(runs)])


def evaluate(study: Study, names: Sequence[str], form: str, folder: Path, refused: Mapping[str, str]) -> Part:
    """Compare what is in ``folder`` with the report, and draw its pictures there; ``refused`` rows could not be run."""
    from cnnbench.analysis.studies.figures import draw

    rows = [load_row(study.name, name, form) for name in names]
    runs = runs_by_row(study.name, folder)
    short = [row for row in runs if is_short(load_row(study.name, row, form), runs[row])]
    table = build_table(study, rows, runs, form, refused, short)
    usable = {row: [run for run in found if run.status in ("completed", "diverged")] for row, found in runs.items()}
    there = {*names, *runs}  # with --rows, claims of other rows are nobody's question
    claims = [claim for claim in study.claims if there.issuperset(rows_of(claim, study))]
    judgements = [judge(claim, study, runs, form, short) for claim in claims]
    pictures = draw(study, table, usable, form, folder / "pictures")
    part = Part(form, rows, runs, table, judgements, pictures)
    print(f"\n{terminal_table(study, part)}\n")
    return part


def runs_by_row(study: str, folder: Path) -> dict[str, list[Run]]:
    """The runs in ``folder`` by the row that they are of, in the order of their seeds.

    Raises:
        RequestError: the folder is not there or has no runs.
    """
    found: dict[str, list[Run]] = {row: [] for row in row_names(study)}
    for run in sorted(collect([folder]), key=lambda run: run.seed or 0):
        row = run.part("config", "study").get("row") or str(run.settings.get("experiment", "")).partition("/")[2]
        if row in found:
            found[row].append(run)
    return {row: runs for row, runs in found.items() if runs}


def terminal_table(study: Study, part: Part) -> str:
    """The table and the verdicts as text."""
    heads = ["row", *(name for column in study.columns for name in (column.heading, "ours", "")), "n"]
    body = [_terminal_line(line) for line in part.table]
    keep = [place for place in range(len(heads)) if any(row[place].strip("–") for row in body)]  # noqa: RUF001
    table = [[row[place] for place in keep] for row in [heads, *body]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, "-" * len(max(lines, key=len)))
    verdicts = [f"{j.verdict:<{len(NO_VERDICT)}} {j.claim.says}  {j.evidence}" for j in part.judgements]
    refused = [f"not run here: {refusal(line)}" for line in part.table if line.refused]
    return "\n".join([title(study, part), "", *lines, "", *refused, *verdicts])


def _terminal_line(line: Line) -> list[str]:
    cells = [
        text
        for cell in line.cells
        for text in (reported_text(cell), ours_text(cell, line.n), f"{gap_text(cell)} {MARKS[cell.fit]}".strip())
    ]
    return [line.row.name, *cells, count_text(line)]


def write(
    study: Study, parts: Sequence[Part], command: str, folder: Path, out: Path | None, note: str | None = None
) -> list[Path]:
    """Write the page beside the runs and, with ``out``, with copies of its pictures there; returns the pages."""
    path = folder / PAGE
    write_atomically(path, render(study, parts, command, folder, note))
    if out is None:
        return [path]
    import shutil

    copied: Mapping[Path, Path] = {
        picture: out / study.name / f"{part.form}_{picture.name}" for part in parts for picture, _ in part.pictures
    }
    for source, target in copied.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    moved = [Part(**{**vars(part), "pictures": [(copied[p], told) for p, told in part.pictures]}) for part in parts]
    target = out / f"{study.name}.md"
    write_atomically(target, render(study, moved, command, out, note))
    return [path, target]
