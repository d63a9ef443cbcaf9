"""Runs on this machine, each in a process of its own, so that no crash of one ends the others."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from shlex import quote
from typing import Any

from cnnbench.config.compose import fingerprint
from cnnbench.sweep.job import LOCKED, NO_RECORD, OUTPUT, Job, is_isolated, needs_process, work
from cnnbench.sweep.process import kill, start
from cnnbench.sweep.run_summary import ending
from cnnbench.utils import run_dir
from cnnbench.utils.console import print_result
from cnnbench.utils.environment import GPU_ACCELERATORS, environment, gpus
from cnnbench.utils.record import Record, RecordError, read_record, write_record
from cnnbench.utils.signals import PREEMPTION_SIGNALS, exit_reason, stop_requested

POLL = 0.1  # seconds between two looks at the clock and at stop requests
SERVER_DIED = 255  # multiprocessing's exit code of a process whose server was killed
SERVERS = 3  # whose deaths a run may survive


@dataclass
class Task:
    """A run of the pool: how often it may still be retried, how often its server has died, and what its process has."""

    job: Job
    retries: int
    servers_died: int = 0
    gpus: list[str] = field(default_factory=list)
    deadline: float = float("inf")


class GpuSlots:
    """The slots on this machine's GPUs, ``runs_per_gpu`` on each."""

    def __init__(self, runs_per_gpu: int) -> None:
        self.free = Counter(dict.fromkeys(gpus(), runs_per_gpu))

    def take(self, trainer: Mapping[str, Any]) -> list[str] | None:
        """A slot on each GPU for a run with these settings, on those that have the most; None where it has to wait for
        others, an empty list where there is nothing to choose."""
        if len(self.free) < 2 or trainer["accelerator"] not in GPU_ACCELERATORS or isinstance(trainer["devices"], list):
            return []
        count = len(self.free) if trainer["devices"] == "auto" else min(trainer["devices"], len(self.free))
        chosen = sorted(self.free, key=lambda name: -self.free[name])[:count]
        if not all(self.free[name] for name in chosen):
            return None
        self.free.subtract(chosen)
        return [name for name in self.free if name in chosen]


class Pool:
    """Runs ``size`` jobs at a time, in order, their output in their folders if ``to_files``; calls ``poll`` often."""

    def __init__(
        self, size: int, runs_per_gpu: int = 1, to_files: bool = False, poll: Callable[[], None] = lambda: None
    ) -> None:
        self.size, self.to_files, self.poll = size, to_files, poll
        self.gpus = GpuSlots(runs_per_gpu)
        self.waiting: list[Task] = []
        self.running: dict[ForkServerProcess, Task] = {}

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Path, Record]]:
        """Run all, and give the folder and the record of each that has ended, until a stop is requested and the running
        ones have saved; a job is taken when there is a process for it."""
        new = (Task(job, job.config["sweep"]["retries"]) for job in jobs)
        stopping = False
        while True:
            if stop_requested() is None:
                self._fill(new)
            elif not stopping:
                stopping = True  # a preemption signal is passed on as it came, for the record
                number = next((one for one in PREEMPTION_SIGNALS if one.name == stop_requested()), signal.SIGTERM)
                for process in self.running:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid or 0, number)
            if not self.running:
                return
            wait([process.sentinel for process in self.running], timeout=POLL)
            self.poll()
            for process in [process for process in self.running if process.exitcode is not None]:
                task = self.running.pop(process)
                self.gpus.free.update(task.gpus)
                record = self._end(task, process.exitcode or 0, process)
                if record is not None:
                    yield task.job.folder, record
            for process, task in self.running.items():
                if time.monotonic() > task.deadline:
                    kill(process)

    def _fill(self, new: Iterator[Task]) -> None:
        """Start runs until all processes are in use, or the GPUs that the next one needs."""
        while len(self.running) < self.size:
            self.waiting = self.waiting or [*islice(new, 1)]
            if not self.waiting or (chosen := self.gpus.take(self.waiting[0].job.config["trainer"])) is None:
                return
            task = self.waiting.pop(0)
            job, task.gpus = task.job, chosen
            environ = {**os.environ, **job.environ}
            if chosen:
                environ["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
            process = start(work, job, environ, job.folder / OUTPUT if self.to_files else None)
            if (minutes := job.config["sweep"]["timeout"]) is not None:
                task.deadline = time.monotonic() + 60 * minutes
            self.running[process] = task

    def _end(self, task: Task, code: int, process: ForkServerProcess) -> Record | None:
        """The record of a run that has ended; None where it has none, or is tried again."""
        job = task.job
        if code == LOCKED:
            print_result(f"  {job.folder.name}: another process is running this")
            return None
        if code == SERVER_DIED and task.servers_died < SERVERS:  # its exit status is lost, and it may still be running
            kill(process)
            while run_dir.is_locked(job.folder):
                time.sleep(POLL)
            self.waiting.append(Task(job, task.retries, task.servers_died + 1))
            return None
        why = exit_reason(code)
        if code == -signal.SIGKILL and time.monotonic() > task.deadline:
            why = f"it had not ended after {job.config['sweep']['timeout']} minutes (sweep.timeout)"
        try:
            record = failed_record(job, why) if code else read_record(job.folder)
        except OSError as error:  # what the run did not survive kept its record from being written too
            print_result(NO_RECORD.format(error=error, folder=quote(str(job.folder))))
            return None
        if record["status"] == "failed" and task.retries and stop_requested() is None:
            print_result(f"{ending(record, job.folder, short=True)}\n  trying again ({task.retries} left)")
            self.waiting.append(Task(job, task.retries - 1, task.servers_died))
            return None
        return record


def train_job(job: Job, to_file: bool = False) -> Record | None:
    """Train here, or in a new process if it may have to be ended or tried again; None where that leaves no record."""
    if not needs_process(job.config["sweep"]) or not is_isolated(job.config["sweep"]):
        return job.run()
    return next((record for _, record in [*Pool(1, to_files=to_file).run([job])]), None)


def failed_record(job: Job, why: str) -> Record:
    """Write the record that a process could not write; one that it wrote before its end counts."""
    with run_dir.locked(job.folder):
        with suppress(FileNotFoundError, RecordError):
            return read_record(job.folder)
        record = run_dir.new_record(job.folder, job.config, fingerprint(job.config), job.overrides, job.choices)
        record.update(error={"type": "ProcessEnded", "message": why, "traceback": ""}, environment=environment())
        write_record(job.folder, record)
    return record
