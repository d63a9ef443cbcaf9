"""What a command line asks for, checked before anything runs: the folder, the cells, and what of them is left."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.config.compose import compose, fingerprint
from cnnbench.config.overrides import expand, quoted
from cnnbench.config.schema import check_plugin_values, check_values
from cnnbench.sweep import grid
from cnnbench.sweep.process import call_isolated, warm_up
from cnnbench.sweep.search_space import corners
from cnnbench.utils import run_dir
from cnnbench.utils.errors import RequestError
from cnnbench.utils.memory import no_gc_during_import
from cnnbench.utils.record import RECORD_FILE

ELSEWHERE = ("SlurmLauncher", "RayLauncher")  # whose runs are on other machines


@dataclass
class Plan:
    """What the command line asks for, checked: the folder of it all, and what is to be run."""

    folder: Path
    sweep: bool
    cells: list[grid.GridRun] | None  # of a grid; a search draws its runs while it goes
    config: dict[str, Any]  # of the first run
    in_turn: bool = True  # runs go one after the other
    trials: int | None = None  # of a search
    extra: list[str] = field(default_factory=list)  # overrides that settle the folder names
    finished: bool = False  # a single run that has been done

    def left(self) -> list[grid.GridRun] | None:
        """The cells that are to be run."""
        if self.cells is None:
            return None
        return [cell for cell in self.cells if cell.left(self.options["repeat_failed"])]

    @property
    def options(self) -> dict[str, Any]:
        """The configuration's ``sweep``."""
        return self.config["sweep"]


def plan(overrides: Sequence[str], sweep: bool, earlier: Sequence[Sequence[str]] = ()) -> Plan:
    """Compose and check every run that ``overrides`` ask for and that has not been done.

    Args:
        earlier: overrides of other commands of the same sweep, whose cells are to be done too.

    Raises:
        RequestError: something in it cannot be done as asked; nothing has been started or written.
    """
    if sweep and not any(text.startswith("sweep.isolate=") for text in overrides):
        warm_up()  # imports torch while this process composes and imports what the end needs
    # how Hydra is to run; without the rest, which may need the choices that are swept over
    base = compose([text for text in _fixed(overrides) if text.lstrip("+~").startswith("hydra")], hydra=True).hydra
    sweep = sweep or str(base.mode or "").endswith("MULTIRUN")
    launcher = str(base.launcher.get("_target_"))
    in_turn = "BasicLauncher" in launcher
    if sweep:
        check_plugins(base)
        check_plugin_values(base)
    # a search draws its runs while it goes; what can be checked is that the ends of what it draws from can be run
    is_grid = sweep and "BasicSweeper" in str(base.sweeper.get("_target_"))
    runs = expand(overrides) if is_grid else corners(overrides) if sweep else [list(overrides)]
    names = grid.folder_names(runs) if sweep else []
    cells = grid.make_cells(runs, names)
    for command in earlier if is_grid else ():  # a search keeps its own account
        more = expand(command)
        cells += grid.make_cells(more, grid.folder_names(more))
    for cell in cells:
        check_values(cell.config)
    if not sweep and cells[0].config["trainer"]["devices"] != 1:
        warm_up()  # likewise, for the run's other processes
    options = cells[0].config["sweep"]
    if options["timeout"] is not None and not options["isolate"]:
        raise RequestError("sweep.timeout needs sweep.isolate=true: only a process of its own can be ended")
    if sweep and "ParallelLauncher" in launcher and not options["isolate"]:
        raise RequestError("hydra/launcher=parallel needs sweep.isolate=true: each of its runs is a process")
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    given = any(text.startswith(f"{key}=") for text in overrides)
    folder = Path(str(OmegaConf.select(compose(runs[0], hydra=True), key)))
    if is_grid:
        cells = grid.assign_folders(cells, folder)
    asked = Plan(
        folder,
        sweep,
        cells if is_grid else None,
        cells[0].config,
        in_turn,
        base.sweeper.get("n_trials"),
        names,
    )
    left = asked.left()
    if not sweep and _finished(folder, cells[0].config):
        asked.finished = True
        return asked
    to_check = [cell.config for cell in (cells if left is None else left)]
    if any(name in launcher for name in ELSEWHERE):
        to_check = [on_any_machine(config) for config in to_check]
    if sweep and to_check and options["isolate"]:
        threading.Thread(target=_import_for_the_end, daemon=True).start()
        call_isolated(check_runs, to_check)
    else:
        check_runs(to_check)
    if not given:
        asked.folder = own_folder(folder)
    if not given or (sweep and not in_turn):  # workers may have another working directory
        asked.extra.append(f"{key}={quoted(asked.folder if in_turn else asked.folder.absolute())}")
    return asked


def _fixed(overrides: Sequence[str]) -> list[str]:
    """The overrides that are the same in every run of a search."""
    return [text for text in overrides if "(" not in text and "," not in text.partition("=")[2]]


def check_plugins(hydra: DictConfig) -> None:
    """Raise RequestError where a launcher or sweeper is not installed."""
    for kind in ("launcher", "sweeper"):
        module = str(hydra[kind].get("_target_")).rpartition(".")[0]
        try:
            import_module(module)
        except ImportError as error:
            choice = hydra.runtime.choices[f"hydra/{kind}"]
            raise RequestError(
                f"hydra/{kind}={choice} needs a package that is not installed ({error}): pip install 'cnnbench[{choice}]'"
            ) from error


def _import_for_the_end() -> None:
    """What the report needs; where it is missing, the report says so."""
    with suppress(ImportError):
        for name in ("matplotlib.backends.backend_svg", "pandas", "scipy.stats"):
            import_module(name)


def check_runs(configs: Sequence[dict[str, Any]]) -> None:
    """Build all that the configurations name, which has to import torch; raises RequestError."""
    if not configs:
        return
    with no_gc_during_import():
        from cnnbench.training.preflight import check, silence_libraries

    silence_libraries()
    for config in configs:
        check(config)


def on_any_machine(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what only the machine that runs it can tell: which devices it has."""
    asked = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "sync_batchnorm": False, "precision": "32-true"}
    trainer = {key: asked.get(key, value) for key, value in config["trainer"].items()}
    return {**config, "trainer": trainer}


def _finished(folder: Path, config: dict[str, Any]) -> bool:
    """Whether a single run has been done; raises RequestError where the folder belongs to another."""
    mark = fingerprint(config)
    if run_dir.completed_record(folder, mark) is not None:
        return True
    if not (folder / RECORD_FILE).exists() and grid.hydra_fingerprint(folder) not in (None, mark):
        raise RequestError(f"{folder} holds an unfinished run of another configuration; choose another folder")
    if run_dir.is_locked(folder):
        raise run_dir.LockedError(f"{folder}: another process is running this")
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
