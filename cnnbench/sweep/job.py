"""A run as it is handed to a process: what it needs to know, and what that process does."""

from __future__ import annotations

import logging.config
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench.sweep.process import own_session
from cnnbench.utils.environment import available_cores, is_one_of_several_ranks
from cnnbench.utils.record import Record
from cnnbench.utils.run_dir import LockedError
from cnnbench.utils.signals import handle_stop_signals

OUTPUT = "output.log"  # what a run prints that goes on beside others
NO_RECORD = "  failed, and no record could be written: {error}; `cnnbench resume {folder}` goes on when it can be"
LOCKED = 75  # exit status: another process is running this


@dataclass(frozen=True)
class Job:
    """What a run needs to know: the arguments of ``train``, how its messages are logged (a dictConfig), and environment
    variables of its process."""

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


def needs_process(options: Mapping[str, Any]) -> bool:
    """Whether a run may have to be ended from outside or tried again."""
    return options["timeout"] is not None or options["retries"] > 0


def is_isolated(options: Mapping[str, Any]) -> bool:
    """Whether local runs get processes of their own: unless ``sweep.isolate=false``, and unless torchrun or srun has
    started every rank of them, this process being one."""
    return options["isolate"] and not is_one_of_several_ranks()


def work(job: Job, environ: dict[str, str], output: Path | None) -> None:
    """What the process of a run does; a stop is heard from its first moment on.

    Args:
        environ: the whole environment of the process.
        output: the file that what it prints goes to; None is the terminal.
    """
    with handle_stop_signals(patient=True):
        own_session()
        os.environ.clear()
        os.environ.update(environ)
        if output is not None:
            with output.open("a") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
        try:
            job.run()
        except LockedError:
            sys.exit(LOCKED)


def count_jobs(jobs: int) -> int:
    """How many runs go on at a time: ``jobs``, or where that is negative, counted back from all cores as joblib does."""
    return jobs if jobs > 0 else max(available_cores() + 1 + jobs, 1)


def share_of_cores(jobs: int | None, runs: int | None = None) -> int | None:
    """CPU threads of each of ``jobs`` parallel runs (as ``count_jobs``) of which there are ``runs``; None where runs go
    one after the other, or on other machines."""
    if jobs is None or jobs == 1:
        return None
    at_once = count_jobs(jobs) if runs is None else min(count_jobs(jobs), runs)
    return max(available_cores() // max(at_once, 1), 1)
