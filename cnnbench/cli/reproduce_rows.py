"""Running a study's rows: what may be asked for, where the runs lie, and what is left undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnbench.analysis.runs import Run
from cnnbench.config.compose import compose, resolved
from cnnbench.config.overrides import parse, parse_override, quoted
from cnnbench.config.resolvers import run_folder
from cnnbench.config.schema import check_values
from cnnbench.config.settings import ignored
from cnnbench.utils.errors import RequestError

INSTEAD = {"experiment": "--rows", "seed": "--seeds", "study.form": "--form", "hydra.sweep.dir": "--folder"}


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what a reproduction decides itself, and values to sweep over, whose runs would be pooled into one row.

    Raises:
        RequestError: an override is such a one, or cannot be read.
    """
    for text in overrides:
        if option := INSTEAD.get(parse_override(text)[0]):
            raise RequestError(f"{text}: `cnnbench reproduce` has {option} for that")
        if parse(text).is_sweep_override():
            raise RequestError(
                f"{text} is several values, which would be pooled in a row: reproduce one after the other"
            )


def folder_of(study: str, overrides: Sequence[str]) -> Path:
    """The folder of a study's runs with these overrides; those that change no result are not in its name."""
    kept = [text for text in overrides if not _no_result(parse_override(text)[0])]
    return Path("outputs/reproduce") / run_folder("_".join([study, *kept]))


def _no_result(key: str) -> bool:
    return ignored(key) or key.startswith("hydra")


def run_rows(
    study: str, rows: Sequence[str], form: str, seeds: int, overrides: Sequence[str], folder: Path
) -> tuple[int, dict[str, str]]:
    """Sweep the rows and seeds of one form into ``folder``; returns 0 or, where a run did not complete, 1, and the rows
    that cannot be run here, and why.

    Raises:
        RequestError: what was asked for is wrong, or no row can be run; nothing has been started.
    """
    from cnnbench.sweep.launcher import launch

    try:
        return launch(_sweep(study, rows, form, seeds, overrides, folder)), {}
    except RequestError:
        refused = refusals(study, rows, form, seeds, overrides, folder)
        left = [row for row in rows if row not in refused]
        if not refused or not left:
            raise
        for row, reason in refused.items():
            print(f"{row} cannot be run: {reason}", flush=True)
        launch(_sweep(study, left, form, seeds, overrides, folder))
        return 1, refused


def refusals(
    study: str, rows: Sequence[str], form: str, seeds: int, overrides: Sequence[str], folder: Path
) -> dict[str, str]:
    """The rows of which something cannot be built here, such as weights that cannot be downloaded.

    Raises:
        RequestError: an override is wrong, which is no matter of the row.
    """
    from cnnbench.sweep.launcher import launch

    found = {}
    for row in rows:
        check_values(resolved(compose([f"experiment={study}/{row}", f"study.form={form}", *overrides])))
        try:
            launch([*_sweep(study, [row], form, seeds, overrides, folder), "hydra.sweeper.dry_run=true"])
        except RequestError as error:
            found[row] = str(error)
    return found


def _sweep(study: str, rows: Sequence[str], form: str, seeds: int, overrides: Sequence[str], folder: Path) -> list[str]:
    """The command line of the sweep."""
    names, seed = ",".join(f"{study}/{row}" for row in rows), ",".join(map(str, range(seeds)))
    return [
        "-m",
        f"experiment={names}",
        f"seed={seed}",
        f"study.form={form}",
        f"hydra.sweep.dir={quoted(folder)}",
        *overrides,
    ]


def undone(rows: Sequence[str], seeds: int, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """A line for each row and each way in which seeds of it were not completed: ``sgd: seed 1 diverged``."""
    lines = []
    for row in rows:
        state = {run.seed: run.status for run in runs.get(row, ())}
        ended: dict[str, list[str]] = {}
        for seed in range(seeds):
            if (how := state.get(seed, "not run")) != "completed":
                ended.setdefault(how, []).append(str(seed))
        lines += [f"{row}: seed{'s' * (len(of) > 1)} {', '.join(of)} {how}" for how, of in ended.items()]
    return lines
