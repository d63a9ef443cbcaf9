"""One run or many through Hydra: check everything first, run what is left to do, and say at the end what came out.

Hydra stops a sweep at the first job that raises and then forgets its callbacks, so here a job never raises: a failure
is a record. Everything that a sweep prints or writes at its end comes from the records on disk, whatever launched it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from cnnbench.config.compose import VERSION_BASE
from cnnbench.config.groups import CONFIG_DIR
from cnnbench.config.overrides import quoted, without_shorthand
from cnnbench.config.resolvers import register_resolvers
from cnnbench.sweep import commands, grid
from cnnbench.sweep.plan import Plan, plan
from cnnbench.sweep.progress import Progress, told
from cnnbench.sweep.run_summary import ending
from cnnbench.sweep.worker import SWEEP, TOTAL, run_job, this_process
from cnnbench.utils.console import print_info, print_result
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, RecordError, read_record
from cnnbench.utils.run_dir import LOCK_FILE, started_at
from cnnbench.utils.signals import STOP_FILE, handle_stop_signals, stop_requested

TRIES = 3  # of a launcher that gives up, as joblib does when one of its workers is killed


def launch(arguments: Sequence[str], earlier: Sequence[Sequence[str]] = ()) -> int:
    """Run what the command line asks for, and of that what has not been done.

    Args:
        arguments: overrides and Hydra's flags.
        earlier: overrides of other commands of the same sweep, whose cells are to be done too.

    Returns:
        0 when every run completed, 1 when one did not.

    Raises:
        RequestError: before anything ran.
        KeyboardInterrupt: a sweep was ended by Ctrl-C; what it had done is kept, and its end has been told.
    """
    flags = [text for text in arguments if text.startswith("-")]
    overrides = [text for text in arguments if not text.startswith("-")]
    overrides = without_shorthand(overrides)
    asked = plan(overrides, bool({"-m", "--multirun"} & set(flags)), earlier)
    call = [*flags, *overrides, *asked.extra]
    if asked.sweep:
        return _sweep(asked, flags, overrides, call)
    if asked.finished:
        print_result(f"{asked.folder} has finished already\n{ending(read_record(asked.folder), asked.folder)}")
        return 0
    with handle_stop_signals():
        try:
            through_hydra(call)
        except KeyboardInterrupt:
            return 1
    try:
        return 0 if read_record(asked.folder)["status"] == "completed" else 1
    except (RecordError, FileNotFoundError):
        return 1


def _sweep(asked: Plan, flags: Sequence[str], overrides: Sequence[str], call: Sequence[str]) -> int:
    """Run the cells that are left, and finish."""
    left = asked.left()
    many = "a search" if asked.cells is None else grid.describe(asked.cells, asked.options["repeat_failed"])
    print_info(f"{many}; in {asked.folder}")
    if left == []:
        return finish(asked.folder)
    commands.keep(asked.folder, flags, overrides)
    stop = asked.folder.resolve() / f".stop-{os.getpid()}"
    stop.unlink(missing_ok=True)
    # a search counts all its runs itself
    before, count = (
        (0, asked.trials or "?") if left is None else (len(asked.cells or ()) - len(left), len(asked.cells or ()))
    )
    os.environ.update({
        TOTAL: f"{before}/{count}", SWEEP: f"{this_process()} {time.time()}", STOP_FILE: str(stop)
    })  # fmt: skip
    interrupted = False
    try:
        with handle_stop_signals(tell=stop), _only(left), _progress(asked, left):
            for _ in range(TRIES):
                since = time.time()
                try:
                    through_hydra(call if asked.in_turn else [*call, *_environment()])
                except KeyboardInterrupt:
                    interrupted = True
                except SystemExit:  # Hydra has said why
                    print_result("the launcher gave up")
                    if not interrupted and stop_requested() is None and _worth_another_try(asked.folder, left, since):
                        print_result("going on with what it has left")
                        continue
                break
            interrupted |= stop_requested() is not None
    finally:
        stop.unlink(missing_ok=True)
        for name in (TOTAL, SWEEP, STOP_FILE):
            os.environ.pop(name, None)
    status = finish(asked.folder, interrupted)
    if interrupted:  # so that whoever sweeps more than once, as reproduce does, stops too
        raise KeyboardInterrupt
    return status


def _environment() -> list[str]:
    """What a run needs of this process's environment, as overrides, for workers on other machines have one of their own."""
    return [f"++hydra.job.env_set.{name}={quoted(os.environ[name])}" for name in (TOTAL, SWEEP, STOP_FILE)]


def _worth_another_try(folder: Path, cells: Sequence[grid.GridRun] | None, since: float) -> bool:
    """Whether some of these cells have no record, though the launcher did start some."""
    folders = [folder / cell.folder for cell in cells or ()]
    return not all((path / RECORD_FILE).exists() for path in folders) and any(
        (started_at(path) or 0) >= since for path in folders
    )


def _progress(asked: Plan, left: Sequence[grid.GridRun] | None) -> AbstractContextManager[None]:
    """Tell how a sweep goes whose runs go on beside each other; those that go one after the other tell it themselves."""
    if asked.in_turn:
        return nullcontext()
    folders = [asked.folder / cell.folder for cell in left or ()]
    config = asked.config
    return told(
        Progress(
            lambda: folders if left is not None else [path.parent for path in asked.folder.glob(f"*/{LOCK_FILE}")],
            len(folders) if left is not None else _trials_left(asked),
            config["objective"],
            config["trainer"]["max_epochs"],
        )
    )


def _trials_left(asked: Plan) -> int | None:
    """Of a search, how many runs are to come."""
    return None if asked.trials is None else max(asked.trials - len(list(asked.folder.glob(f"*/{RECORD_FILE}"))), 0)


@contextmanager
def _only(cells: Sequence[grid.GridRun] | None) -> Iterator[None]:
    """Let Hydra's basic sweeper run these cells, each in its folder, instead of its whole grid."""
    if cells is None:
        yield
        return
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    def split(overrides: Any, max_batch_size: int | None) -> list[list[list[str]]]:
        runs = [cell.command() for cell in cells]
        return list(BasicSweeper.split_overrides_to_chunks(runs, max_batch_size))

    before = BasicSweeper.split_arguments
    BasicSweeper.split_arguments = staticmethod(split)  # type: ignore[method-assign]
    BasicSweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]  # ``plan`` has
    try:
        yield
    finally:
        BasicSweeper.split_arguments = staticmethod(before)  # type: ignore[method-assign]
        del BasicSweeper.validate_batch_is_legal


def through_hydra(arguments: Sequence[str]) -> None:
    """Hand the command line to Hydra, which composes, makes folders, sweeps and calls ``run_job``."""
    import hydra

    register_resolvers()
    before = sys.argv
    sys.argv = ["cnnbench", *arguments]
    try:
        hydra.main(version_base=VERSION_BASE, config_path=str(CONFIG_DIR), config_name="config")(run_job)()
    finally:
        sys.argv = before


def finish(folder: Path, interrupted: bool = False) -> int:
    """Print the leaderboard of a sweep and write it and the report; 0 when every run completed, else 1."""
    from cnnbench.analysis.leaderboard import build
    from cnnbench.analysis.report import write as report
    from cnnbench.analysis.report.text import leaderboard_text
    from cnnbench.analysis.runs import collect

    try:
        runs = collect([folder])
    except RequestError:  # stopped before the first began
        runs = []
    else:
        print_result(f"\n{leaderboard_text(build(runs))}\n")
    if interrupted:
        print_result(f"interrupted; what has been done is kept. `cnnbench resume {folder}` goes on")
        return 1
    for path in report.make([folder]) if runs else ():
        print_result(f"  {path.suffix[1:]:<12} {path}")
    print_result(f"  {'runs':<12} {folder}\n  {'tensorboard':<12} cnnbench tensorboard {folder}")
    if not runs or not all(run.completed or run.pruned for run in runs):
        print_result(
            f"not all runs completed: `cnnbench resume {folder}` goes on, with sweep.repeat_failed=true failed ones too"
        )
        return 1
    return 0
