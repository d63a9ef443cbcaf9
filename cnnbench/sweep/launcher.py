"""One run or a sweep through Hydra: what ``cnnbench [overrides]`` and ``cnnbench -m [overrides]`` do."""

import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any
from unittest.mock import patch

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.compose import VERSION_BASE, compose, explain, fingerprint, resolved
from cnnbench.config.groups import CONFIG_DIR, PLUGINS, plugins
from cnnbench.config.overrides import parse, parse_value, quoted, without_shorthand
from cnnbench.config.schema import check_values
from cnnbench.sweep.job import NO_RECORD, OUTPUT, Job, check_options, check_runs, make_job, share_of_cores
from cnnbench.sweep.plan import hydra_fingerprint, own_folder
from cnnbench.sweep.pool import train_job
from cnnbench.sweep.process import warm_up
from cnnbench.sweep.run_summary import beginning, ending
from cnnbench.training.same_data import refuse_changed_data
from cnnbench.utils import run_dir
from cnnbench.utils.console import print_info, print_result
from cnnbench.utils.environment import is_one_of_several_ranks
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import RECORD_FILE, SWEEP_CONFIG_FILE, Record, RecordError, read_record
from cnnbench.utils.signals import STOP_FILE, handle_stop_signals, stop_requested


def launch(arguments: Sequence[str]) -> int:
    """Run what the overrides ask for, with -m a sweep, and of that what has not been done; returns 0 when every run
    completed, else 1. Raises RequestError before anything ran, and KeyboardInterrupt where Ctrl-C ended a sweep; what
    it had done is kept, and its end has been printed."""
    overrides = without_shorthand([text for text in arguments if text != "-m"])
    for key, _, name in (text.partition("=") for text in overrides):
        if key in PLUGINS:  # Hydra has more, which a sweep of ours cannot be run by
            one_of(key, str(parse_value(name)), plugins()[key])
    is_sweep = "-m" in arguments or "hydra.mode=MULTIRUN" in overrides
    own, other = ("hydra.sweep.dir", "hydra.run.dir")[:: 1 if is_sweep else -1]
    if any(text.startswith(f"{other}=") for text in overrides):  # Hydra would put the runs elsewhere
        kinds = "a single run, and -m makes a sweep" if is_sweep else "a sweep, and there is no -m"
        raise RequestError(f"{other} is the folder of {kinds}: give {own}=...")
    if not is_sweep:
        return _run_once(overrides)
    if not any(text.startswith("sweep.isolate=") for text in overrides) and not is_one_of_several_ranks():
        warm_up()  # imports torch while this process composes and imports what the end needs
    return int(call_hydra("multirun", task_function=run_task, overrides=_composable(overrides)))


def _composable(overrides: list[str]) -> list[str]:
    """The overrides of a sweep, with keys of a swept choice swept too: ``optimizer=sgd,momentum
    optimizer.momentum=choice(0.5)``. Hydra first composes with the default choice, which may not have the key."""
    values = {text for text in overrides if parse(text).is_sweep_override()}
    groups = {text.partition("=")[0] for text in values}
    wrapped = {text for text in overrides if text not in values and text.partition(".")[0] in groups}
    return [re.sub("=(.*)", r"=choice(\1)", one, flags=re.DOTALL) if one in wrapped else one for one in overrides]


def _run_once(overrides: list[str]) -> int:
    cfg = compose(overrides, hydra=True)
    config, folder = resolved(cfg), Path(str(OmegaConf.select(cfg, "hydra.run.dir")))
    check_options(config)
    check_values({"hydra": cfg.hydra})
    is_named = any(text.startswith("hydra.run.dir=") for text in overrides)
    if config["sweep"]["until"] is not None and not is_named:  # `resume` goes on with a run of such a sweep
        raise RequestError("sweep.until=decided is of a sweep: add -m, and values to compare: optimizer=sgd,adam")
    if is_named:
        own = fingerprint(config)
        refuse_changed_data([(config, folder)])
        if (record := run_dir.completed_record(folder, own)) is not None:
            print_result(f"{folder} has finished already\n{ending(record, folder)}")
            return 0
        if not (folder / RECORD_FILE).exists() and hydra_fingerprint(folder) not in (None, own):
            raise RequestError(f"{folder} holds an unfinished run of another configuration; choose another folder")
        if (folder / SWEEP_CONFIG_FILE).exists():
            raise RequestError(f"{folder} holds a sweep; choose another folder for a run")
        if run_dir.is_locked(folder):
            raise run_dir.LockedError(f"{folder}: another process is running this")
    check_runs([config])
    if not is_named:  # another command of the same second may have the folder
        folder = own_folder(folder)
        overrides = [*overrides, f"hydra.run.dir={quoted(folder)}"]
    call_hydra("run", task_function=run_task, overrides=overrides)
    with suppress(RecordError, FileNotFoundError):
        return int(read_record(folder)["status"] != "completed")
    return 1


def call_hydra(method: str, overrides: list[str], **arguments: Any) -> Any:
    """Call ``run``, ``multirun`` or ``show_cfg`` of Hydra's application; raises RequestError if it cannot compose."""
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG_DIR)):
            app = GlobalHydra.instance().hydra
            return getattr(app, method)(config_name="config", overrides=overrides, **arguments)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeError) as error:
        raise RequestError(explain(error, overrides)) from error


def answer(arguments: Sequence[str]) -> None:
    """Let Hydra answer a question about a configuration: --help, --cfg, --info, --version, ... It reads these from
    ``sys.argv`` and has no public function that takes them."""
    with patch.object(sys, "argv", ["cnnbench", *arguments]):
        hydra.main(version_base=VERSION_BASE, config_path=str(CONFIG_DIR), config_name="config")(run_task)()


def run_task(cfg: DictConfig) -> float | None:
    """What Hydra calls for a single run, and for each run of a sweep by a launcher that is not ours, maybe on another
    machine; a failure is a record and is not raised. Returns the objective."""
    job = make_job(cfg)
    alone = OmegaConf.is_missing(HydraConfig.get().job, "num")
    record: Record | None = None
    try:
        with handle_stop_signals(file=None if alone else job.folder.parent / STOP_FILE):
            record = _train_and_print(job, alone)
    except run_dir.LockedError:
        print_result("  another process is running this")
    except OSError as error:  # what the run did not survive kept its record from being written too
        print_result(NO_RECORD.format(error=error, folder=quote(str(job.folder))))
    return None if record is None else record.get("best", {}).get(record["protocol"]["objective"])


def _train_and_print(job: Job, alone: bool) -> Record | None:
    config = HydraConfig.get()
    if not alone and stop_requested() is not None:
        if {path.name for path in job.folder.iterdir()} <= {".hydra"}:  # never begun
            shutil.rmtree(job.folder)
        return None
    if not alone and "BasicLauncher" not in config.launcher["_target_"]:
        threads = job.config["threads"] or share_of_cores(config.launcher.get("n_jobs"))
        with (job.folder / OUTPUT).open("a") as file, redirect_stdout(file), redirect_stderr(file):
            return train_job(replace(job, config={**job.config, "threads": threads}), to_file=True)
    print_info(beginning(job.config, job.choices, job.folder) if alone else f"\n{config.job.override_dirname}")
    record = train_job(job)
    if record is not None:
        print_result(ending(record, job.folder, short=not alone))
    return record
