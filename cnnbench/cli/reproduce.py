"""``cnnbench reproduce STUDY``: run a study's rows as a sweep, and write its own tables beside the reported numbers."""

import os
import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from cnnbench.analysis.runs import Run, find_runs
from cnnbench.analysis.studies.budget import common_overrides
from cnnbench.analysis.studies.reproduction import Part, evaluate, load_runs, terminal_text, write
from cnnbench.analysis.studies.study import FORMS, load_study, studies
from cnnbench.cli.parser import Parser
from cnnbench.config.compose import compose, resolved
from cnnbench.config.overrides import parse, parse_override, quoted
from cnnbench.config.resolvers import run_folder
from cnnbench.config.schema import check_values
from cnnbench.config.settings import ignored, settings_of
from cnnbench.utils.console import duration, print_result, silence_libraries
from cnnbench.utils.errors import RequestError, one_of

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
    add("--folder", type=Path, metavar="DIR", help="of the runs (outputs/reproduce/STUDY[_OVERRIDES])")
    add("--out", type=Path, metavar="DIR", help="also write DIR/STUDY.md, or this page where it ends in .md")
    add("--note", metavar="TEXT", help="what a reader should know, under the page's title")
    add("--dry-run", action="store_true", help="list the runs and estimate the time; train nothing")
    add("--no-train", action="store_true", help="write the tables from the runs that are there")
    return parser


def main(argv: Sequence[str]) -> int:
    """Reproduce a study; returns 0 when every run is completed, else 1. Raises RequestError before anything starts."""
    options, overrides = _parser().parse_with_overrides(argv)
    overrides += [text for text in options.rows if "=" in text]  # --rows takes all words up to the next option
    if options.seeds < 1:
        raise RequestError(f"--seeds must be at least 1, got {options.seeds}")
    study = load_study(options.study)
    named = [one_of(f"row of {study.name}", text, study.rows) for text in options.rows if "=" not in text]
    rows = [row for row in study.rows if row in named] or list(study.rows)
    forms = FORMS if options.form == "both" else (one_of("--form", options.form, FORMS),)
    for text in overrides:  # several values would be pooled in a row
        if option := INSTEAD.get(parse_override(text)[0]):
            raise RequestError(f"{text}: `cnnbench reproduce` has {option} for that")
        if parse(text).is_sweep_override():
            raise RequestError(f"{text} is several values, which would be pooled in a row; reproduce them one by one")
    folder = options.folder or default_folder(study.name, overrides)
    if options.dry_run:
        return dry_run(study.name, rows, forms, options.seeds, overrides)
    status, parts = 0, []
    refused: dict[str, dict[str, str]] = {}
    trained = forms if not options.no_train else ()
    for form in (form for form in trained if any(find_runs(folder / form))):  # of another budget?
        configs = {row: _row_config(study.name, row, form, overrides) for row in rows}
        load_runs(study, folder / form, {row: settings_of(config, {}, ()) for row, config in configs.items()})
    for form in trained:
        ended, refused[form] = run_rows(study.name, rows, form, options.seeds, overrides, folder / form)
        status = max(status, ended)
    for form in forms:
        parts.append(evaluate(load_study(study.name, form), rows, folder / form, refused.get(form, {})))
        print_result(f"\n{terminal_text(parts[-1])}\n")
    for path in write(parts, _command(study.name, named, options, parts), folder, options.out, options.note):
        print_result(f"  {path}")
    left = [f"{part.study.form}, {text}" for part in parts for text in _not_completed(rows, options.seeds, part.runs)]
    if left and (status or options.no_train):
        print_result("\n".join(["not all runs completed:", *left]))
        return 1
    return status


def default_folder(name: str, overrides: Sequence[str], parent: str = "outputs/reproduce") -> Path:
    """The folder of the runs of a study, or another name, with the overrides that change the result in its name."""
    keys = ((parse_override(text)[0], text) for text in overrides)
    kept = [text for key, text in keys if not ignored(key) and not key.startswith("hydra")]
    return Path(parent) / run_folder("_".join([name, *kept]))


def dry_run(study: str, rows: Sequence[str], forms: Sequence[str], seeds: int, overrides: Sequence[str]) -> int:
    """Print each run and its estimated time, and the sum; returns 0, or 1 when there are rows that cannot be run here.
    Raises RequestError where an override is wrong, or no row can be run."""
    import torch

    from cnnbench.training.estimate import run_seconds
    from cnnbench.training.preflight import check
    from cnnbench.utils.environment import idle_cores
    from cnnbench.utils.memory import keep_freed_memory

    silence_libraries()
    keep_freed_memory()
    idle = idle_cores()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        print_result(f"this machine is busy (load {load:.1f} on {cores} cores): idle it would take less time than this")
    estimates: list[float] = []
    refused: list[RequestError] = []
    for form, row in product(forms, rows):
        config = _row_config(study, row, form, overrides)
        try:
            check(config)
        except RequestError as error:
            is_new = str(error) not in map(str, refused)
            print_result(f"{form:<10} {row:<24} cannot be run{f': {error}' if is_new else ', as before'}")
            refused.append(error)
            continue
        torch.set_num_threads(idle)
        estimates.append(run_seconds(config))
        print_result(f"{form:<10} {row:<24} {seeds} x {duration(estimates[-1])}")
    if not estimates:
        raise refused[0]
    runs, total = seeds * len(estimates), duration(seeds * sum(estimates))
    print_result(f"{runs} runs, {total} one after the other on this machine")
    return 1 if refused else 0


def _row_config(study: str, row: str, form: str, overrides: Sequence[str]) -> dict[str, Any]:
    config = resolved(compose([f"experiment={study}/{row}", f"study.form={form}", *overrides]))
    check_values(config)
    return config


def run_rows(
    study: str, rows: Sequence[str], form: str, seeds: int, overrides: Sequence[str], folder: Path
) -> tuple[int, dict[str, str]]:
    """Sweep the rows and seeds of one form into ``folder``; returns 0 or, where a run did not complete, 1, and the rows
    that cannot be run here (such as with weights that cannot be downloaded), with the reason. Raises RequestError, with
    nothing started, where no row can be run."""
    from cnnbench.sweep.launcher import launch

    def sweep(names: Sequence[str], *more: str) -> int:
        experiments, seed = ",".join(f"{study}/{row}" for row in names), ",".join(map(str, range(seeds)))
        fixed = [f"study.form={form}", f"hydra.sweep.dir={quoted(folder)}", *overrides]
        return launch(["-m", f"experiment={experiments}", f"seed={seed}", *fixed, *more])

    try:
        return sweep(rows), {}
    except RequestError:
        refused = {}
        for row in rows:
            _row_config(study, row, form, overrides)  # a wrong override is no matter of the row
            try:
                sweep([row], "hydra.sweeper.dry_run=true")
            except RequestError as error:
                refused[row] = str(error)
        left = [row for row in rows if row not in refused]
        if not refused or not left:
            raise
        for row, reason in refused.items():
            print_result(f"{row} cannot be run: {reason}")
        sweep(left)
        return 1, refused


def _not_completed(rows: Sequence[str], seeds: int, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """A line for each row and each way in which seeds of it were not completed: ``sgd: seed 1 diverged``."""
    lines = []
    for row in rows:
        status = {run.seed: run.status for run in runs.get(row, ())}
        ended = [status.get(seed, "not run") for seed in range(seeds)]
        for how in dict.fromkeys(one for one in ended if one != "completed"):
            those = [str(seed) for seed in range(seeds) if ended[seed] == how]
            lines.append(f"{row}: seed{'s' * (len(those) > 1)} {', '.join(those)} {how}")
    return lines


def _command(study: str, rows: Sequence[str], options: Namespace, parts: Sequence[Part]) -> str:
    """The command that does the same elsewhere, from the records: without folders or what had run before."""
    runs = [run for part in parts for row in part.rows for run in part.runs.get(row.name, ())]
    seeds = max((run.seed + 1 for run in runs if run.seed is not None), default=options.seeds)
    words = [*(["--rows", *rows] if rows else []), "--seeds", str(seeds), "--form", options.form]
    words += ["--note", options.note] if options.note else []
    return shlex.join(["cnnbench", "reproduce", study, *words, *common_overrides(runs)])
