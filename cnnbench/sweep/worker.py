"""One run, as Hydra calls for it: alone or as a cell of a sweep, in this process or in one of its own."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.config.compose import resolved
from cnnbench.sweep.gpus import own_gpus
from cnnbench.sweep.process import ENOUGH, Job, exit_with_parent, run_isolated
from cnnbench.sweep.run_summary import beginning, ending
from cnnbench.utils.console import print_info, print_result
from cnnbench.utils.environment import available_cores, is_one_of_several_ranks
from cnnbench.utils.record import RECORD_FILE, Record, read_record
from cnnbench.utils.run_dir import LockedError
from cnnbench.utils.signals import stop_requested

TOTAL = "CNNBENCH_SWEEP_RUNS"  # how many of the sweep's runs need no more doing, and how many it has: "2/6"
OUTPUT = "output.log"  # what a run that goes on beside others says
SWEEP = "CNNBENCH_SWEEP"  # the process that sweeps, and since when: "1234@node 1700000000.0"


_pool: ThreadPoolExecutor | None = None  # where several runs go on at a time


@contextmanager
def at_once(jobs: int) -> Iterator[None]:
    """Within this, ``run_job`` returns at once, with a Future of what it would have returned, and ``jobs`` runs go on at
    a time; its end waits for them all."""
    global _pool
    with ThreadPoolExecutor(jobs, "run") as _pool:
        try:
            yield
        finally:
            pool, _pool = _pool, None
            pool.shutdown(wait=True)


def run_job(cfg: DictConfig) -> float | Future[float | None] | None:
    """What Hydra calls for each run; never raises but for Ctrl-C. Returns the objective, for sweepers that search."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    total = os.environ.get(TOTAL)
    elsewhere = sweeps_elsewhere()
    if elsewhere:
        _follow_the_sweep()
    beside = "BasicLauncher" not in hydra.launcher["_target_"] and total is not None  # other runs go on meanwhile
    if total is not None and not beside:
        varied = re.sub(r",(?![^[]*])", " ", hydra.job.override_dirname)  # a comma in a list stays
        before, count = total.split("/")
        print_info(f"\n[{int(before) + hydra.job.num + 1}/{count}] {varied or 'the defaults'}")
    config = resolved(cfg)
    config["threads"] = config["threads"] or share_of_cores(hydra.launcher.get("n_jobs"), total)
    job = Job(
        config=config,
        folder=folder,
        overrides=[text for text in hydra.overrides.task if not text.startswith("hydra.")],
        choices={group: str(choice) for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")},
        logging=OmegaConf.to_container(hydra.job_logging, resolve=True),  # type: ignore[arg-type]
        output=folder / OUTPUT if beside else None,
    )  # fmt: skip
    if total is None:
        print_info(beginning(config, job.choices, folder))
    return _pool.submit(_do, job, elsewhere) if _pool is not None else _do(job, elsewhere)


def _do(job: Job, elsewhere: bool) -> float | None:
    """Run, and tell what came of it; of runs that go on beside others the sweep itself tells."""
    folder, sweeping = job.folder, TOTAL in os.environ
    if stop_requested() is not None:
        _stop(folder, elsewhere)
        return None
    try:
        options = job.config["sweep"]
        isolate = options["isolate"] and (sweeping or can_end(options)) and not is_one_of_several_ranks()
        record = run(job, isolate)
    except LockedError:
        print_result("  another process is running this")
        return None
    except OSError as error:  # what the run did not survive kept its record from being written too
        print_result(
            f"  failed, and no record could be written: {error}; `cnnbench resume {folder}` goes on when it can be"
        )
        return None
    if job.output is None:
        print_result(ending(record, folder, short=sweeping))
    if record["status"] == "interrupted" and not (folder / ENOUGH).exists():
        _stop(folder, elsewhere)
        return None
    return record.get("best", {}).get(record["protocol"]["objective"])


def run(job: Job, isolate: bool) -> Record:
    """Run, and try again as often as ``sweep.retries`` says while the run fails.

    Raises:
        TakenError: another process is running this.
    """
    options = job.config["sweep"]
    retries = options["retries"]
    if (record := ended_meanwhile(job.folder)) is not None:
        return record
    for left in range(retries, -1, -1):
        if isolate:
            with own_gpus(job.folder.parent, job.config) as environ:
                record = run_isolated(job, options["timeout"], environ)
        else:
            record = job.run()
        if record["status"] != "failed" or not left or stop_requested() is not None:
            return record
        print_result(f"{ending(record, job.folder, short=True)}\n  trying again ({left} left)")
    raise AssertionError("unreachable")


def can_end(options: Mapping[str, Any]) -> bool:
    """Whether a run may have to be ended from outside, or tried again, for which it needs a process of its own."""
    return options["timeout"] is not None or options["retries"] > 0


def ended_meanwhile(folder: Path) -> Record | None:
    """The record of a cell that has ended since this sweep began: in another process, or in a worker that then was
    killed. One that was only interrupted, as a job that a cluster requeues is, goes on."""
    since = float(os.environ.get(SWEEP, "0 inf").split()[1])
    try:
        record = read_record(folder) if (folder / RECORD_FILE).stat().st_mtime > since else None
    except (FileNotFoundError, ValueError):
        return None
    return None if record is None or record["status"] == "interrupted" else record


def this_process() -> str:
    """What no other process is called, also on other machines."""
    return f"{os.getpid()}@{platform.node()}"


def sweeps_elsewhere() -> bool:
    """Whether this is a worker of the process that sweeps."""
    return SWEEP in os.environ and os.environ[SWEEP].split()[0] != this_process()


def _follow_the_sweep() -> None:
    """Let this worker leave Ctrl-C to the process that sweeps, and end with it."""
    if any(thread.name == "exit_with_parent" for thread in threading.enumerate()):
        return
    exit_with_parent()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(folder: Path, elsewhere: bool) -> None:
    """End the sweep; in a worker by doing nothing more, for what it raises would end the other workers too."""
    if {path.name for path in folder.iterdir()} <= {".hydra"}:  # never begun
        shutil.rmtree(folder)
    if not elsewhere:
        raise KeyboardInterrupt


def count_jobs(jobs: int) -> int:
    """How many runs go on at a time: ``jobs``, or where that is negative, counted back from all cores as joblib does."""
    return jobs if jobs > 0 else max(available_cores() + 1 + jobs, 1)


def share_of_cores(jobs: int | None, total: str | None) -> int | None:
    """CPU threads of each of ``jobs`` parallel runs (as ``count_jobs``); None where runs go one after the other, or
    on other machines."""
    if jobs is None or jobs == 1 or total is None:
        return None
    cores = available_cores()
    at_once = count_jobs(jobs)
    before, _, count = total.rpartition("/")
    if count.isdigit():
        at_once = min(at_once, int(count) - int(before or 0))
    return max(cores // max(at_once, 1), 1)
