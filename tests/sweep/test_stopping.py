"""Who is stopped by a signal: a worker alone, a sweep with all its runs; and a run saves before its job is requeued."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from helpers import config

from cnnbench.sweep.job import Job, work
from cnnbench.sweep.pool import Pool
from cnnbench.sweep.process import call_isolated, start
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record
from cnnbench.utils.signals import STOP_FILE, handle_stop_signals, stop_requested


def test_a_worker_stops_alone_and_a_sweep_stops_all(tmp_path: Path) -> None:
    stop = tmp_path / STOP_FILE
    with handle_stop_signals(file=stop):  # a worker's
        signal.raise_signal(signal.SIGTERM)
        assert stop_requested() == "SIGTERM" and not stop.exists()
    assert stop_requested() is None
    with handle_stop_signals(file=stop, write=True):  # the sweep's
        with handle_stop_signals():
            signal.raise_signal(signal.SIGTERM)
        assert stop_requested() == "SIGTERM" and stop.exists()
    with handle_stop_signals(file=stop):
        assert stop_requested() == "the sweep"


def test_a_second_signal_ends_at_once_but_for_those_that_are_told_from_several_sides() -> None:
    ends = []
    for patient in (False, True):
        child = os.fork()
        if not child:
            with handle_stop_signals(patient=patient):
                signal.raise_signal(signal.SIGUSR2)
                signal.raise_signal(signal.SIGUSR2)  # as a cluster does, which tells all of a job
                signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert ends == [-signal.SIGTERM, 0]


def wait(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)


def is_receiving() -> bool:
    """Whether the main thread waits for what the other process sends, and so knows of that process."""
    frames = traceback.walk_stack(sys._current_frames()[threading.main_thread().ident or 0])
    return any(frame.f_code.co_name == "recv" for frame, _ in frames)


def test_control_c_ends_what_is_computed_in_another_process(tmp_path: Path) -> None:
    began = tmp_path / "pid"

    def press() -> None:
        while not (began.exists() and began.read_text() and is_receiving()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        call_isolated(wait, began)
    until = time.monotonic() + 300
    while Path(f"/proc/{began.read_text()}").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("error", [RequestError("it cannot be built"), ValueError("something else")])
def test_what_another_process_raises_is_raised_here(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)) as raised:
        call_isolated(fail, error)
    assert "in fail" in str(raised.value.__cause__)


def fail(error: Exception) -> None:
    raise error


def run_in_pool(job: Job) -> dict[str, Any]:
    with handle_stop_signals():
        ((_, record),) = Pool(1).run([job])
    return record


def test_a_run_that_is_stopped_before_it_could_listen_is_interrupted(tmp_path: Path) -> None:
    for number in range(3):
        job = Job(
            config("trainer.max_epochs=10000"), tmp_path / str(number), [], {}
        )  # not done when it is told to stop
        process = start(work, job, {**os.environ}, None)
        os.kill(process.pid or 0, signal.SIGTERM)
        process.join()
        record = read_record(job.folder)
        assert record["status"] == "interrupted" and "SIGTERM" in record["error"]["message"]


def test_a_run_has_saved_before_whoever_requeues_its_job_hears_that_the_time_is_up(tmp_path: Path) -> None:
    """All processes of a job are told, one after the other: here first the server, and more than once."""
    cfg = config(
        "+callbacks.f._target_=faults.Fault", "+callbacks.f.how=wait", "+callbacks.f.step=3", f"+callbacks.f.folder={tmp_path}"
    )  # fmt: skip
    folder, heard = tmp_path / "run", []
    asking = start(write_parent, tmp_path / "server")
    asking.join()
    server = int((tmp_path / "server").read_text())

    def requeue(number: int, frame: object) -> None:
        heard.append(read_record(folder)["status"])

    def time_is_up() -> None:
        while not (tmp_path / "seed0").exists():
            time.sleep(0.05)
        for process in (server, os.getpid()):
            for _ in range(3):
                os.kill(process, signal.SIGUSR2)
                time.sleep(0.2)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        telling = threading.Thread(target=time_is_up, daemon=True)
        telling.start()
        record = run_in_pool(Job(cfg, folder, [], {}))
        telling.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard[0] == "interrupted" and record["status"] == "interrupted"
    assert "SIGUSR2" in record["error"]["message"] and (folder / "checkpoints" / "last.ckpt").exists()


def write_parent(path: Path) -> None:
    path.write_text(str(os.getppid()))
