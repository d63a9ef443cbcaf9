"""Runs on this machine, each in a process of its own, so that its end, whatever it is, is only its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from cnnbench.config.compose import fingerprint
from cnnbench.sweep.job import LOCKED, NO_RECORD, OUTPUT, Job, work
from cnnbench.sweep.process import kill, start
from cnnbench.sweep.run_summary import ending
from cnnbench.utils import run_dir
from cnnbench.utils.console import print_result
from cnnbench.utils.environment import GPU_ACCELERATORS, environment, gpus
from cnnbench.utils.record import Record, RecordError, read_record, write_record
from cnnbench.utils.signals import PREEMPTION_SIGNALS, exit_reason, stop_requested

POLL = 0.1  # seconds between two looks at the clock and at what was asked
SERVER_DIED = 255  # multiprocessing's exit code of a process whose server was killed
SERVERS = 3  # that a run may lose


@dataclass
class Waiting:
    """A run that is to be started: how often it may be tried again, and how often its server has died."""

    job: Job
    tries: int
    lost: int = 0


@dataclass
class Running:
    """A run that goes on: when it is to be ended, and whether it has been told to stop or was ended as too late."""

    started: Waiting
    process: ForkServerProcess
    gpus: list[str]
    deadline: float
    told: bool = False
    late: bool = False


class GpuPlaces:
    """The places on this machine's GPUs, ``runs_per_gpu`` on each."""

    def __init__(self, runs_per_gpu: int) -> None:
        self.free = dict.fromkeys(gpus(), runs_per_gpu)

    def take(self, trainer: Mapping[str, Any]) -> list[str] | None:
        """Places for a run with these settings, on the GPUs that have the most; None where it has to wait for others,
        an empty list where there is nothing to choose."""
        if len(self.free) < 2 or trainer["accelerator"] not in GPU_ACCELERATORS or isinstance(trainer["devices"], list):
            return []
        count = len(self.free) if trainer["devices"] == "auto" else min(trainer["devices"], len(self.free))
        chosen = sorted(self.free, key=lambda name: -self.free[name])[:count]
        if not all(self.free[name] for name in chosen):
            return None
        for name in chosen:
            self.free[name] -= 1
        return [name for name in self.free if name in chosen]

    def give_back(self, names: list[str]) -> None:
        """The run on these GPUs has ended."""
        for name in names:
            self.free[name] += 1


class Pool:
    """Runs ``size`` jobs at a time, in their order.

    Args:
        runs_per_gpu: that share a GPU.
        ended: called with the folder and the record of each run that has ended.
        to_files: whether what runs print goes to a file in their folders.
        poll: called while runs go on, every ``POLL`` seconds.
    """

    def __init__(
        self, size: int, runs_per_gpu: int, ended: Callable[[Path, Record], None], to_files: bool = False,
        poll: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.size, self.ended, self.to_files, self.poll = size, ended, to_files, poll
        self.gpus = GpuPlaces(runs_per_gpu)
        self.waiting: list[Waiting] = []
        self.running: list[Running] = []

    def run(self, jobs: Iterable[Job]) -> None:
        """Run all until they have ended or a stop was asked for; a job is taken when there is a process for it."""
        left = (Waiting(job, job.config["sweep"]["retries"]) for job in jobs)
        while True:
            if stop_requested() is not None:
                self.waiting.clear()
                self._pass_on_stop()
            else:
                self._fill(left)
            if not self.running:
                return
            wait([one.process.sentinel for one in self.running], timeout=POLL)
            self.poll()
            for one in [one for one in self.running if one.process.exitcode is not None]:
                self.running.remove(one)
                self.gpus.give_back(one.gpus)
                self._end(one)
            for one in self.running:
                if not one.late and time.monotonic() > one.deadline:
                    one.late = True
                    kill(one.process)

    def _fill(self, left: Iterator[Waiting]) -> None:
        """Start runs until all processes are taken, or the GPUs that the next one needs."""
        while len(self.running) < self.size:
            self.waiting = self.waiting or [*islice(left, 1)]
            if not self.waiting or (places := self.gpus.take(self.waiting[0].job.config["trainer"])) is None:
                return
            self._start(self.waiting.pop(0), places)

    def _start(self, one: Waiting, places: list[str]) -> None:
        job = one.job
        chosen = {"CUDA_VISIBLE_DEVICES": ",".join(places)} if places else {}
        output = job.folder / OUTPUT if self.to_files else None
        process = start(work, job, {**os.environ, **job.environ, **chosen}, output)
        minutes = job.config["sweep"]["timeout"]
        deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        self.running.append(Running(one, process, places, deadline))

    def _pass_on_stop(self) -> None:
        """Tell every run once; a preemption signal as it came, for the record."""
        number = next((one for one in PREEMPTION_SIGNALS if one.name == stop_requested()), signal.SIGTERM)
        for one in self.running:
            if not one.told:
                one.told = True
                with suppress(ProcessLookupError):
                    os.kill(one.process.pid or 0, number)

    def _end(self, one: Running) -> None:
        """Hand on the record of a run that has ended, or let it be tried again."""
        job, tries, lost = one.started.job, one.started.tries, one.started.lost
        code = one.process.exitcode or 0
        if code == LOCKED:
            print_result(f"  {job.folder.name}: another process is running this")
            return
        if code == SERVER_DIED and lost < SERVERS:  # the run may go on, but nobody hears of it any more
            kill(one.process)
            while run_dir.is_locked(job.folder):
                time.sleep(POLL)
            self.waiting.append(Waiting(job, tries, lost + 1))
            return
        late = f"it had not ended after {job.config['sweep']['timeout']} minutes (sweep.timeout)" if one.late else None
        try:
            record = failed_record(job, late or exit_reason(code)) if code else read_record(job.folder)
        except OSError as error:  # what the run did not survive kept its record from being written too
            print_result(NO_RECORD.format(error=error, folder=job.folder))
            return
        if record["status"] == "failed" and tries and stop_requested() is None:
            print_result(f"{ending(record, job.folder, short=True)}\n  trying again ({tries} left)")
            self.waiting.append(Waiting(job, tries - 1, lost))
            return
        self.ended(job.folder, record)


def failed_record(job: Job, why: str) -> Record:
    """Write the record that a process could not; one that it did write before its end counts."""
    with run_dir.locked(job.folder):
        with suppress(FileNotFoundError, RecordError):
            return read_record(job.folder)
        record = run_dir.new_record(job.folder, job.config, fingerprint(job.config), job.overrides, job.choices)
        record.update(error={"type": "ProcessEnded", "message": why, "traceback": ""}, environment=environment())
        write_record(job.folder, record)
    return record
