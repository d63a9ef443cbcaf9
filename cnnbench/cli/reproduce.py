"""``cnnbench reproduce STUDY``: run a study's rows as a sweep, and write its own tables beside the reported numbers."""

from __future__ import annotations

import shlex
import shutil
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cnnbench.analysis.runs import Run, collect
from cnnbench.analysis.studies.budget import common_overrides, is_short
from cnnbench.analysis.studies.claims import judge, rows_of
from cnnbench.analysis.studies.markdown import Part, render, terminal_text
from cnnbench.analysis.studies.study import FORMS, Study, load_row, load_study, studies
from cnnbench.analysis.studies.tables import build_table
from cnnbench.cli.parser import Parser
from cnnbench.config.compose import compose, resolved, run_folder
from cnnbench.config.overrides import parse, parse_override, quoted
from cnnbench.config.schema import check_values
from cnnbench.config.settings import ignored
from cnnbench.utils.console import duration, print_result
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import write_atomically

PAGE = "reproduction.md"
INSTEAD = {"experiment": "--rows", "seed": "--seeds", "study.form": "--form", "hydra.sweep.dir": "--folder"}


def _parser() -> Parser:
    parser = Parser(
        "reproduce",
        description="Run the rows of a published study and compare them with its numbers and its claims.",
        epilog=f"Studies: {', '.join(studies())}. Other arguments are overrides, for example trainer.max_epochs=3.",
    )
    add = parser.add_argument
    add("study", metavar="STUDY", help="a name in conf/study")
    add("--rows", nargs="+", default=[], metavar="ROW", help="only these (all)")
    add("--seeds", type=int, default=3, metavar="N", help="runs a row, with seeds 0 to N-1 (3)")
    form_help = f"{', '.join(FORMS)} or both: with the report's quirks or without them (published)"
    add("--form", default="published", metavar="F", help=form_help)
    add("--folder", type=Path, metavar="DIR", help="of the runs (outputs/reproduce/STUDY)")
    add("--out", type=Path, metavar="DIR", help="also write DIR/STUDY.md and its pictures")
    add("--note", metavar="TEXT", help="what a reader should know, under the page's title")
    add("--dry-run", action="store_true", help="list the runs and estimate the time; train nothing")
    add("--no-train", action="store_true", help="write the tables from the runs that are there")
    return parser


def main(argv: Sequence[str]) -> int:
    """Reproduce a study; returns 0 when every run that was asked for is completed, else 1.

    Raises:
        RequestError: what was asked for is wrong; nothing has been started.
    """
    asked, rest = _parser().parse_known_args(list(argv))
    overrides = [text for text in [*rest, *asked.rows] if "=" in text]
    if unknown := [text for text in rest if "=" not in text or text.startswith("-")]:
        raise RequestError(f"{unknown[0]!r} is neither an option nor an override (cnnbench reproduce --help)")
    if asked.seeds < 1:
        raise RequestError(f"--seeds must be at least 1, got {asked.seeds}")
    study = load_study(asked.study)
    named = [one_of(f"row of {study.name}", text, study.rows) for text in asked.rows if "=" not in text]
    rows = [row for row in study.rows if row in named] or list(study.rows)
    forms = FORMS if asked.form == "both" else (one_of("--form", asked.form, FORMS),)
    _check_overrides(overrides)
    folder = asked.folder or default_folder(study.name, overrides)
    if asked.dry_run:
        return dry_run(study.name, rows, forms, asked.seeds, overrides)
    status, refused = 0, dict[str, dict[str, str]]()
    for form in forms if not asked.no_train else ():
        ended, refused[form] = run_rows(study.name, rows, form, asked.seeds, overrides, folder / form)
        status = max(status, ended)
    parts = [evaluate(study, rows, form, folder / form, refused.get(form, {})) for form in forms]
    for path in write(study, parts, _command(study.name, named, asked, parts), folder, asked.out, asked.note):
        print_result(f"  {path}")
    left = [f"{part.form}, {text}" for part in parts for text in _not_completed(rows, asked.seeds, part.runs)]
    if left and (status or asked.no_train):
        print_result("\n".join(["not all runs completed:", *left]))
        return 1
    return status


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what a reproduction decides itself, and values to sweep over, whose runs would be pooled into one row."""
    for text in overrides:
        if option := INSTEAD.get(parse_override(text)[0]):
            raise RequestError(f"{text}: `cnnbench reproduce` has {option} for that")
        if parse(text).is_sweep_override():
            raise RequestError(f"{text} is several values, which would be pooled in a row; reproduce them one by one")


def default_folder(study: str, overrides: Sequence[str]) -> Path:
    """The folder of a study's runs with these overrides; those that change no result are not in its name."""
    keys = ((parse_override(text)[0], text) for text in overrides)
    kept = [text for key, text in keys if not ignored(key) and not key.startswith("hydra")]
    return Path("outputs/reproduce") / run_folder("_".join([study, *kept]))


def dry_run(study: str, rows: Sequence[str], forms: Sequence[str], seeds: int, overrides: Sequence[str]) -> int:
    """Print each run and its estimated time, and the sum; returns 0, or 1 when there are rows that cannot be run here.

    Raises:
        RequestError: an override is wrong, or no row can be run.
    """
    from cnnbench.training.estimate import busy_note, run_seconds
    from cnnbench.training.preflight import check, silence_libraries
    from cnnbench.utils.memory import keep_freed_memory

    silence_libraries()
    keep_freed_memory()
    if note := busy_note():
        print_result(note)
    total, count = 0.0, 0
    refused: list[RequestError] = []
    for form in forms:
        for row in rows:
            config = resolved(compose([f"experiment={study}/{row}", f"study.form={form}", *overrides]))
            check_values(config)
            try:
                check(config)
            except RequestError as error:
                refused.append(error)
                print_result(f"{form:<10} {row:<24} cannot be run: {error}")
                continue
            seconds = run_seconds(config)
            total, count = total + seeds * seconds, count + seeds
            print_result(f"{form:<10} {row:<24} {seeds} x {duration(seconds)}")
    if not count:
        raise refused[0]
    print_result(f"{count} runs, {duration(total)} one after the other on this machine")
    return 1 if refused else 0


def run_rows(
    study: str, rows: Sequence[str], form: str, seeds: int, overrides: Sequence[str], folder: Path
) -> tuple[int, dict[str, str]]:
    """Sweep the rows and seeds of one form into ``folder``; returns 0 or, where a run did not complete, 1, and the rows
    that cannot be run here (such as with weights that cannot be downloaded), with the reason.

    Raises:
        RequestError: what was asked for is wrong, or no row can be run; nothing has been started.
    """
    from cnnbench.sweep.launcher import launch

    def sweep(names: Sequence[str]) -> list[str]:
        experiments, seed = ",".join(f"{study}/{row}" for row in names), ",".join(map(str, range(seeds)))
        fixed = [f"study.form={form}", f"hydra.sweep.dir={quoted(folder)}", *overrides]
        return [f"experiment={experiments}", f"seed={seed}", *fixed]

    try:
        return launch(["-m", *sweep(rows)]), {}
    except RequestError:
        refused = {}
        for row in rows:
            # a wrong override is no matter of the row
            check_values(resolved(compose([f"experiment={study}/{row}", f"study.form={form}", *overrides])))
            try:
                launch(["-m", *sweep([row]), "hydra.sweeper.dry_run=true"])
            except RequestError as error:
                refused[row] = str(error)
        left = [row for row in rows if row not in refused]
        if not refused or not left:
            raise
        for row, reason in refused.items():
            print_result(f"{row} cannot be run: {reason}")
        launch(["-m", *sweep(left)])
        return 1, refused


def _not_completed(rows: Sequence[str], seeds: int, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """A line for each row and each way in which seeds of it were not completed: ``sgd: seed 1 diverged``."""
    lines = []
    for row in rows:
        status = {run.seed: run.status for run in runs.get(row, ())}
        ended: dict[str, list[str]] = {}
        for seed in range(seeds):
            ended.setdefault(status.get(seed, "not run"), []).append(str(seed))
        lines += [
            f"{row}: seed{'s' * (len(those) > 1)} {', '.join(those)} {how}"
            for how, those in ended.items()
            if how != "completed"
        ]
    return lines


def evaluate(study: Study, names: Sequence[str], form: str, folder: Path, refused: Mapping[str, str]) -> Part:
    """Compare what is in ``folder`` with the report, and draw its pictures there; ``refused`` rows could not be run.

    Raises:
        RequestError: the folder is not there or has no runs.
    """
    from cnnbench.analysis.studies.figures import draw

    found: dict[str, list[Run]] = {row: [] for row in study.rows}
    for run in sorted(collect([folder]), key=lambda run: run.seed or 0):
        row = run.part("config", "study").get("row") or str(run.settings.get("experiment", "")).partition("/")[2]
        found.get(row, []).append(run)
    runs = {row: of_row for row, of_row in found.items() if of_row}
    rows = [load_row(study.name, name, form) for name in names]
    short = [row for row in runs if is_short(load_row(study.name, row, form), runs[row])]
    table = build_table(study, rows, runs, form, refused, short)
    asked = {*names, *runs}  # with --rows, claims of other rows are left out
    claims = [claim for claim in study.claims if asked.issuperset(rows_of(claim, study))]
    judgements = [judge(claim, study, runs, form, short) for claim in claims]
    ended = {row: [run for run in of_row if run.status in ("completed", "diverged")] for row, of_row in runs.items()}
    part = Part(form, rows, runs, table, judgements, draw(study, table, ended, form, folder / "pictures"))
    print_result(f"\n{terminal_text(study, part)}\n")
    return part


def _command(study: str, rows: Sequence[str], asked: Namespace, parts: Sequence[Part]) -> str:
    """The command that does the same elsewhere, from the records: without where it was written or what had run before."""
    runs = [run for part in parts for row in part.rows for run in part.runs.get(row.name, ())]
    seeds = max((run.seed + 1 for run in runs if run.seed is not None), default=asked.seeds)
    options = [*(["--rows", *rows] if rows else []), "--seeds", str(seeds), "--form", asked.form]
    options += ["--note", asked.note] if asked.note else []
    return shlex.join(["cnnbench", "reproduce", study, *options, *common_overrides(runs)])


def write(
    study: Study, parts: Sequence[Part], command: str, folder: Path, out: Path | None, note: str | None = None
) -> list[Path]:
    """Write the page beside the runs and, with ``out``, with copies of its pictures there; returns the pages."""
    pages = [folder / PAGE]
    write_atomically(pages[0], render(study, parts, command, folder, note))
    if out is not None:
        moved = []
        for part in parts:
            copies = [(out / study.name / f"{part.form}_{path.name}", text) for path, text in part.pictures]
            for (source, _), (target, _) in zip(part.pictures, copies, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            moved.append(replace(part, pictures=copies))
        pages.append(out / f"{study.name}.md")
        write_atomically(pages[1], render(study, moved, command, out, note))
    return pages
