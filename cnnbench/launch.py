"""One run or many through Hydra: check everything first, run what is left to do, and say at the end what came out.

Hydra stops a sweep at the first job that raises and then forgets its callbacks, so here a job never raises: a failure
is a record. Everything that a sweep prints or writes at its end comes from the records on disk, whatever launched it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cnnbench import claim
from cnnbench.config import (
    CONFIG_DIR,
    VERSION_BASE,
    compose,
    expand,
    expand_globs,
    fingerprint,
    register_resolvers,
)
from cnnbench.errors import RequestError
from cnnbench.results.record import FILE, RecordError, read_record
from cnnbench.stopping import STOP_FILE, listening, requested
from cnnbench.sweep import cells as grid
from cnnbench.sweep import commands
from cnnbench.sweep.isolate import call_isolated, warm_up
from cnnbench.sweep.job import SWEEP, TOTAL, run_job, summary
from cnnbench.terminal import say
from cnnbench.values import check_values


@dataclass
class Plan:
    """What the command line asks for, checked: the folder of it all, and what is to be run."""

    folder: Path
    sweep: bool
    cells: list[grid.Cell] | None  # of a grid; a search draws its runs while it goes
    options: dict[str, Any]  # the configuration's ``sweep``
    extra: list[str] = field(default_factory=list)  # overrides that settle the folder names
    finished: bool = False  # a single run that has been done

    def left(self) -> list[grid.Cell] | None:
        """The cells that are to be run."""
        if self.cells is None:
            return None
        return [cell for cell in self.cells if cell.left(self.options["repeat_failed"])]


def plan(overrides: Sequence[str], sweep: bool, earlier: Sequence[Sequence[str]] = ()) -> Plan:
    """Compose and check every run that ``overrides`` ask for and that has not been done.

    Args:
        earlier: overrides of other commands of the same sweep, whose cells are to be done too.

    Raises:
        RequestError: something in it cannot be done as asked; nothing has been started or written.
    """
    if sweep and not any(text.startswith(("hydra/launcher=", "sweep.isolate=")) for text in overrides):
        warm_up()  # imports torch while this process composes and imports what the end needs
    # how Hydra is to run; without the rest, which may need the choices that are swept over
    base = compose([text for text in _fixed(overrides) if text.lstrip("+~").startswith("hydra")], hydra=True).hydra
    sweep = sweep or str(base.mode or "").endswith("MULTIRUN")
    in_turn = sweep and "BasicLauncher" in str(base.launcher.get("_target_"))
    # a search draws its runs while it goes, so only what is fixed can be checked
    is_grid = sweep and "BasicSweeper" in str(base.sweeper.get("_target_"))
    runs = expand(overrides) if is_grid else [_fixed(overrides)] if sweep else [list(overrides)]
    names = grid.folder_names(runs)
    cells = grid.make_cells(runs, names if sweep else [])
    for command in earlier:
        more = expand(command)
        cells += grid.make_cells(more, grid.folder_names(more))
    for cell in cells:
        check_values(cell.config)
    options = cells[0].config["sweep"]
    if options["timeout"] is not None and not options["isolate"]:
        raise RequestError("sweep.timeout needs sweep.isolate=true: only a process of its own can be ended")
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    given = any(text.startswith(f"{key}=") for text in overrides)
    folder = Path(str(OmegaConf.select(compose(runs[0], hydra=True), key)))
    if is_grid:
        cells = grid.place(cells, folder)
    asked = Plan(folder, sweep, cells if is_grid else None, options, names if sweep else [])
    left = asked.left()
    if not sweep and _finished(folder, cells[0].config):
        asked.finished = True
        return asked
    to_check = [cell.config for cell in (cells if left is None else left)]
    if in_turn and to_check and options["isolate"]:
        threading.Thread(target=_import_for_the_end, daemon=True).start()
        call_isolated(check_runs, to_check)
    else:
        check_runs(to_check)
    if not given:
        asked.folder = own_folder(folder)
        asked.extra.append(f"{key}='{asked.folder}'")
    return asked


def _fixed(overrides: Sequence[str]) -> list[str]:
    """The overrides that are the same in every run of a search."""
    return [text for text in overrides if "(" not in text and "," not in text.partition("=")[2]]


def _import_for_the_end() -> None:
    """What the report needs; where it is missing, the report says so."""
    with suppress(ImportError):
        for name in ("matplotlib.backends.backend_svg", "statsmodels.regression.linear_model"):
            import_module(name)


def check_runs(configs: Sequence[dict[str, Any]]) -> None:
    """Build all that the configurations name, which has to import torch; raises RequestError."""
    if not configs:
        return
    from cnnbench.preflight import check

    for config in configs:
        check(config)


def _finished(folder: Path, config: dict[str, Any]) -> bool:
    """Whether a single run has been done; raises RequestError where the folder belongs to another."""
    mark = fingerprint(config)
    if claim.finished(folder, mark) is not None:
        return True
    if not (folder / FILE).exists() and grid.hydra_fingerprint(folder) not in (None, mark):
        raise RequestError(f"{folder} holds an unfinished run of another configuration; choose another folder")
    if claim.is_claimed(folder):
        raise claim.TakenError(f"{folder}: another process is running this")
    return False


def own_folder(folder: Path) -> Path:
    """``folder``, or with a number where another command of the same second has it; made, so that it is taken."""
    for number in range(1, 1000):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RequestError(f"cannot make the output folder {candidate} ({error.strerror})") from error
        return candidate
    raise RequestError(f"there are 1,000 folders named like {folder} already")


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
    overrides = expand_globs(overrides)
    asked = plan(overrides, bool({"-m", "--multirun"} & set(flags)), earlier)
    call = [*flags, *overrides, *asked.extra]
    if asked.sweep:
        return _sweep(asked, flags, overrides, call)
    if asked.finished:
        say(f"{asked.folder} has finished already\n{summary(read_record(asked.folder), asked.folder, short=False)}")
        return 0
    with listening():
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
    many = "a search" if asked.cells is None else grid.told(asked.cells, asked.options["repeat_failed"])
    say(f"{many}; in {asked.folder}")
    if left == []:
        return finish(asked.folder)
    commands.keep(asked.folder, flags, overrides)
    stop = asked.folder.resolve() / f".stop-{os.getpid()}"
    stop.unlink(missing_ok=True)
    count = len(asked.cells or ())
    os.environ.update({
        TOTAL: f"{count - len(left or ())}/{count or '?'}", SWEEP: f"{os.getpid()} {time.time()}", STOP_FILE: str(stop)
    })  # fmt: skip
    interrupted = False
    try:
        with listening(), _only(left):
            try:
                through_hydra(call)
            except KeyboardInterrupt:
                interrupted = True
            except SystemExit:  # Hydra has said why
                say("the launcher gave up")
            interrupted |= requested() is not None
    finally:
        stop.unlink(missing_ok=True)
        for name in (TOTAL, SWEEP, STOP_FILE):
            os.environ.pop(name, None)
    status = finish(asked.folder, interrupted)
    if interrupted:  # so that whoever sweeps more than once, as reproduce does, stops too
        raise KeyboardInterrupt
    return status


@contextmanager
def _only(cells: Sequence[grid.Cell] | None) -> Iterator[None]:
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
    try:
        yield
    finally:
        BasicSweeper.split_arguments = staticmethod(before)  # type: ignore[method-assign]


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
    from cnnbench.results import leaderboard, report
    from cnnbench.results.collect import collect

    try:
        runs = collect([folder])
    except RequestError:  # stopped before the first began
        runs = []
    else:
        say(f"\n{leaderboard.to_text(leaderboard.build(runs))}\n")
    if interrupted:
        say(f"interrupted; what has been done is kept. `cnnbench resume {folder}` goes on")
        return 1
    for path in report.make([folder]) if runs else ():
        say(f"  {path.suffix[1:]:<12} {path}")
    say(f"  {'runs':<12} {folder}\n  {'tensorboard':<12} tensorboard --logdir {folder}")
    if not runs or not all(run.status == "completed" for run in runs):
        say(
            f"not all runs completed: `cnnbench resume {folder}` goes on, with sweep.repeat_failed=true failed ones too"
        )
        return 1
    return 0
