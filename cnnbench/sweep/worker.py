"""One run: what it is given, and how it is trained in this process or in one of its own.

``run_task`` is the task function that Hydra calls for a single run and that every launcher of a sweep calls for each of
its runs; the local launcher takes a ``Job`` instead, and trains in processes of its own (``cnnbench.sweep.pool``).
"""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.config.compose import resolved
from cnnbench.sweep.job import NO_RECORD, OUTPUT, Job, is_isolated, needs_process, share_of_cores
from cnnbench.sweep.pool import Pool
from cnnbench.sweep.run_summary import beginning, ending
from cnnbench.utils.console import print_info, print_result
from cnnbench.utils.record import Record
from cnnbench.utils.run_dir import LockedError
from cnnbench.utils.signals import STOP_FILE, handle_stop_signals, stop_requested


def make_job(cfg: DictConfig) -> Job:
    """The run that Hydra is at; a task function too."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    return Job(
        config=resolved(cfg),
        folder=Path(hydra.runtime.output_dir),
        overrides=[text for text in hydra.overrides.task if not text.startswith(("hydra.", "sweep.trial="))],
        choices={group: str(choice) for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")},
        logging=OmegaConf.to_container(hydra.job_logging, resolve=True),  # type: ignore[arg-type]
        environ=dict(hydra.job.env_set),
    )  # fmt: skip


def run_task(cfg: DictConfig) -> float | None:
    """What Hydra calls for each run; a failure is a record and is not raised. Returns the objective."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    job = make_job(cfg)
    alone = OmegaConf.is_missing(hydra.job, "num")
    try:
        with handle_stop_signals(file=None if alone else job.folder.parent / STOP_FILE):
            record = _run_alone(job) if alone else _run_of_a_sweep(job, hydra)
    except LockedError:
        print_result("  another process is running this")
        return None
    except OSError as error:  # what the run did not survive kept its record from being written too
        print_result(NO_RECORD.format(error=error, folder=job.folder))
        return None
    return None if record is None else record.get("best", {}).get(record["protocol"]["objective"])


def _run_alone(job: Job) -> Record | None:
    print_info(beginning(job.config, job.choices, job.folder))
    record = train_job(job)
    if record is not None:
        print_result(ending(record, job.folder))
    return record


def _run_of_a_sweep(job: Job, hydra: Any) -> Record | None:
    """A run of a launcher that is not ours, which may be on another machine."""
    if stop_requested() is not None:
        if {path.name for path in job.folder.iterdir()} <= {".hydra"}:  # never begun
            shutil.rmtree(job.folder)
        return None
    if "BasicLauncher" not in hydra.launcher["_target_"]:
        threads = job.config["threads"] or share_of_cores(hydra.launcher.get("n_jobs"))
        with (job.folder / OUTPUT).open("a") as file, redirect_stdout(file), redirect_stderr(file):
            return train_job(replace(job, config={**job.config, "threads": threads}), to_file=True)
    print_info(f"\n{hydra.job.override_dirname}")
    record = train_job(job)
    if record is not None:
        print_result(ending(record, job.folder, short=True))
    return record


def train_job(job: Job, to_file: bool = False) -> Record | None:
    """Train in this process, or in one of its own where that may have to be ended from outside or tried again; None where
    that leaves no record."""
    options = job.config["sweep"]
    if not needs_process(options) or not is_isolated(options):
        return job.run()
    records: list[Record] = []
    Pool(1, 1, lambda folder, record: records.append(record), to_file).run([job])
    return records[0] if records else None
