"""A run as it is handed to a process, the checks before it, and the main function of that process."""

import logging.config
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cnnbench.config.compose import resolved
from cnnbench.config.schema import check_values
from cnnbench.sweep.process import own_session
from cnnbench.utils.environment import available_cores, is_one_of_several_ranks
from cnnbench.utils.errors import RequestError
from cnnbench.utils.memory import no_gc_during_import
from cnnbench.utils.record import Record
from cnnbench.utils.run_dir import LockedError
from cnnbench.utils.signals import handle_stop_signals

OUTPUT = "output.log"  # what a parallel run prints
NO_RECORD = "  failed, and no record could be written: {error}; `cnnbench resume {folder}` goes on when it can be"
ONE_CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "sync_batchnorm": False, "precision": "32-true"}
OF_A_SWEEP = ("trial", "until", "practical", "max_seeds", "baseline", "earlier", "stop_on_failure")  # of no run
LOCKED = 75  # exit status: another process is running this


@dataclass(frozen=True)
class Job:
    """The arguments of ``train``, how messages are logged (a dictConfig), and environment variables of the process."""

    config: dict[str, Any]
    folder: Path
    overrides: list[str]
    choices: dict[str, str]
    logging: Mapping[str, Any] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> Record:
        """Train in this process."""
        from cnnbench.training.train import train

        os.environ.update(self.environ)
        if self.logging is not None:
            logging.config.dictConfig(dict(self.logging))
        return train(self.config, self.folder, self.overrides, self.choices)


def make_job(cfg: DictConfig) -> Job:
    """The run that Hydra is at; a task function too."""
    hydra, left_out = HydraConfig.get(), ("hydra.", *(f"sweep.{key}=" for key in OF_A_SWEEP))
    overrides = [text for text in hydra.overrides.task if not text.startswith(left_out)]
    chosen = {group: str(choice) for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}
    logged: Any = OmegaConf.to_container(hydra.job_logging, resolve=True)
    return Job(resolved(cfg), Path(hydra.runtime.output_dir), overrides, chosen, logged, dict(hydra.job.env_set))


def check_options(config: Mapping[str, Any], jobs: int = 1) -> None:
    """Raise RequestError where a value is wrong, or runs, ``jobs`` at a time, need processes and are to have none."""
    check_values(config)
    options = config["sweep"]
    if not options["isolate"] and (jobs > 1 or needs_process(options)):
        kinds = "sweep.timeout, sweep.retries and several runs at a time"
        raise RequestError(f"{kinds} need sweep.isolate=true: processes of their own")


def check_runs(configs: Sequence[dict[str, Any]], elsewhere: bool = False) -> None:
    """Build all that the configurations name, which imports torch; raises RequestError. Those of runs ``elsewhere`` on
    one CPU: which devices another machine has, only that can tell."""
    if configs:
        with no_gc_during_import():
            from cnnbench.training.preflight import check
    for config in configs:
        one_cpu = {key: ONE_CPU.get(key, value) for key, value in config["trainer"].items()}
        check({**config, "trainer": one_cpu} if elsewhere else config)


def needs_process(options: Mapping[str, Any]) -> bool:
    """Whether a run may have to be ended from outside or tried again."""
    return options["timeout"] is not None or options["retries"] > 0


def is_isolated(options: Mapping[str, Any]) -> bool:
    """Whether local runs get processes of their own: not with ``sweep.isolate=false``, nor under torchrun or srun."""
    return options["isolate"] and not is_one_of_several_ranks()


def work(job: Job, environ: dict[str, str], output: Path | None) -> None:
    """The main function of a run's process, with the whole ``environ``; prints to ``output``, where None is the
    terminal. Signals are handled from the first moment on."""
    with handle_stop_signals(patient=True):  # from the first moment on
        own_session()
        os.environ.clear()
        os.environ.update(environ)
        if output is not None:
            with output.open("a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        try:
            job.run()
        except LockedError:
            sys.exit(LOCKED)


def count_jobs(jobs: int) -> int:
    """How many runs go on at a time: ``jobs``, or where that is negative, counted back from all cores, as by joblib."""
    return jobs if jobs > 0 else max(available_cores() + 1 + jobs, 1)


def share_of_cores(jobs: int | None, runs: int | None = None) -> int | None:
    """CPU threads of each of ``runs``, ``jobs`` at a time; None where they go one by one, or on other machines."""
    if jobs is None or jobs == 1:
        return None
    at_once = min(count_jobs(jobs), count_jobs(jobs) if runs is None else runs)
    return max(available_cores() // max(at_once, 1), 1)
