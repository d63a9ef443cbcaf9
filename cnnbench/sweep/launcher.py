"""One run or a sweep through Hydra: what ``cnnbench [overrides]`` and ``cnnbench -m [overrides]`` do."""

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.compose import VERSION_BASE, compose, explain, fingerprint, resolved
from cnnbench.config.groups import CONFIG_DIR, plugins
from cnnbench.config.overrides import parse, quoted, without_shorthand
from cnnbench.config.schema import check_values
from cnnbench.sweep.checks import NEEDS_PROCESS, check_runs
from cnnbench.sweep.job import needs_process
from cnnbench.sweep.plan import hydra_fingerprint, own_folder
from cnnbench.sweep.process import warm_up
from cnnbench.sweep.run_summary import ending
from cnnbench.sweep.worker import run_task
from cnnbench.utils import run_dir
from cnnbench.utils.console import print_result
from cnnbench.utils.errors import RequestError, did_you_mean
from cnnbench.utils.record import RECORD_FILE, RecordError, read_record


def launch(arguments: Sequence[str]) -> int:
    """Run what the command line asks for, and of that what has not been done; returns 0 when every run completed, else 1.

    Args:
        arguments: overrides, and -m for a sweep.

    Raises:
        RequestError: before anything ran.
        KeyboardInterrupt: a sweep was ended by Ctrl-C; what it had done is kept, and its end has been printed.
    """
    multirun = "-m" in arguments
    overrides = without_shorthand([text for text in arguments if text != "-m"])
    sweepers = plugins()["hydra/sweeper"]
    for text in overrides:
        key, _, name = text.partition("=")
        if key == "hydra/sweeper" and name not in sweepers:  # such as Hydra's basic
            choices = f"{', '.join(sweepers)}{did_you_mean(name, sweepers)}"
            raise RequestError(f"{text} is not a choice of hydra/sweeper: {choices}")
    if multirun or "hydra.mode=MULTIRUN" in overrides:
        if not any(text.startswith("sweep.isolate=") for text in overrides):
            warm_up()  # imports torch while this process composes and imports what the end needs
        return int(call_hydra("multirun", task_function=run_task, overrides=_composable(overrides)))
    return _run_once(overrides)


def _composable(overrides: list[str]) -> list[str]:
    """The overrides of a sweep, with keys of a choice that is one of several as values to sweep over:
    ``optimizer=sgd,momentum optimizer.momentum=choice(0.5)``. Hydra first composes without what is swept over, where the
    default choice may not have the key."""
    swept = {text.partition("=")[0] for text in overrides if parse(text).is_sweep_override()}
    return [
        re.sub("=(.*)", r"=choice(\1)", text, flags=re.DOTALL)
        if text.partition(".")[0] in swept and not parse(text).is_sweep_override()
        else text
        for text in overrides
    ]


def _run_once(overrides: list[str]) -> int:
    cfg = compose(overrides, hydra=True)
    config, folder = resolved(cfg), Path(str(OmegaConf.select(cfg, "hydra.run.dir")))
    check_values(config)
    if needs_process(config["sweep"]) and not config["sweep"]["isolate"]:
        raise RequestError(NEEDS_PROCESS)
    is_named = any(text.startswith("hydra.run.dir=") for text in overrides)
    if is_named:
        own = fingerprint(config)
        if (record := run_dir.completed_record(folder, own)) is not None:
            print_result(f"{folder} has finished already\n{ending(record, folder)}")
            return 0
        if not (folder / RECORD_FILE).exists() and hydra_fingerprint(folder) not in (None, own):
            raise RequestError(f"{folder} holds an unfinished run of another configuration; choose another folder")
        if run_dir.is_locked(folder):
            raise run_dir.LockedError(f"{folder}: another process is running this")
    check_runs([config])
    if not is_named:  # another command of the same second may have the folder
        folder = own_folder(folder)
        overrides = [*overrides, f"hydra.run.dir={quoted(folder)}"]
    call_hydra("run", task_function=run_task, overrides=overrides)
    with suppress(RecordError, FileNotFoundError):
        return 0 if read_record(folder)["status"] == "completed" else 1
    return 1


def call_hydra(method: str, overrides: list[str], **arguments: Any) -> Any:
    """Call ``run``, ``multirun`` or ``show_cfg`` of Hydra's application.

    Raises:
        RequestError: the configuration cannot be composed.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG_DIR)):
            app = GlobalHydra.instance().hydra
            return getattr(app, method)(config_name="config", overrides=overrides, **arguments)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error, overrides)) from error


def answer(arguments: Sequence[str]) -> None:
    """Let Hydra answer a question about a configuration: --help, --cfg, --info, --version, ...

    Hydra reads these from ``sys.argv`` and has no public function that takes them.
    """
    import hydra

    with patch.object(sys, "argv", ["cnnbench", *arguments]):
        hydra.main(version_base=VERSION_BASE, config_path=str(CONFIG_DIR), config_name="config")(run_task)()
