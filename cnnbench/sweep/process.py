"""A run in a process of its own, so that its end, whatever it is, is only its own.

Processes are forked from a server that has imported everything and computed nothing: a run then starts in a fraction
of a second, and no thread or CUDA context is copied.
"""

from __future__ import annotations

import logging.config
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from cnnbench.analysis.runs import PRUNED
from cnnbench.config.compose import fingerprint
from cnnbench.utils import run_dir
from cnnbench.utils.environment import environment
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import Record, RecordError, read_record, write_record
from cnnbench.utils.signals import (
    PREEMPTION_SIGNALS,
    STOP_FILE,
    block_signals,
    handle_stop_signals,
    stop_requested,
    unblock_signals,
)

POLL = 0.1  # seconds between two looks at the clock and at what was asked
TAKEN = 75  # exit status: another process is running this
ENOUGH = ".enough"  # a file in a run's folder: the search that it is of ends it, and why
PRELOAD = ["cnnbench.sweep.preload"]


@dataclass(frozen=True)
class Job:
    """What a run needs to know: the arguments of ``train``, how its messages are logged (a dictConfig), and the file
    that what it prints goes to, where that is not the terminal."""

    config: dict[str, Any]
    folder: Path
    overrides: Sequence[str]
    choices: Mapping[str, str]
    logging: Mapping[str, Any] | None = None
    output: Path | None = None

    def run(self) -> Record:
        """Train in this process."""
        from cnnbench.training.train import train

        return train(self.config, self.folder, self.overrides, dict(self.choices))


def context() -> ForkServerContext:
    """Makes processes from the server, which is started by the first."""
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method(None, force=True)  # joblib's workers pass on a name that nobody else knows
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOAD)
    if _has_a_server():  # as CPython has it, such a process would start another one
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    return found


def _has_a_server() -> bool:
    """Whether this process itself is from the server."""
    server = getattr(forkserver, "_forkserver", None)
    return bool(getattr(server, "_forkserver_address", None)) and not getattr(server, "_forkserver_pid", None)


def warm_up() -> None:
    """Start the server now, so that it imports while the caller does other things."""
    if _has_a_server():
        return
    context()
    resource_tracker.ensure_running()  # which the server starts otherwise, and which lets signals through again
    block_signals()  # the server is there before it can say so itself
    try:
        forkserver.ensure_running()
    finally:
        unblock_signals()


def call_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``, computed in a process from the server; this one need not import what it needs.

    Raises:
        Exception: what ``function`` raised.
        RequestError: the process was killed.
    """
    receive, send = context().Pipe(duplex=False)
    process = context().Process(target=_answer, args=(send, function, arguments))
    try:
        process.start()
        send.close()
        value, error, where = receive.recv()
    except EOFError as error:
        raise RequestError(
            "the process that checks the runs was killed (often: the system had run out of memory)"
        ) from error
    except KeyboardInterrupt:
        if process.pid:
            process.kill()
        raise
    if error is not None:
        raise error from RuntimeError(where)
    return value


def _answer(send: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    own_session()
    try:
        send.send((function(*arguments), None, ""))
    except Exception as error:
        send.send((None, error, traceback.format_exc()))


def run_isolated(job: Job, minutes: float | None = None, environ: Mapping[str, str] | None = None) -> Record:
    """Train in a process of its own.

    Args:
        minutes: after which the process is killed; None never.
        environ: environment variables of the process, beside those of this one.

    Returns:
        The record that it left, or a failed one that says how the process ended.

    Raises:
        TakenError: another process is running this.
    """
    with handle_stop_signals(patient=True):  # a worker's; whoever sweeps listens already
        (job.folder / ENOUGH).unlink(missing_ok=True)
        process = context().Process(target=_work, args=(job, {**os.environ, **(environ or {})}))
        process.start()  # returns once the process is there; the server may have had to import first
        start = time.monotonic()
        stopping = late = False
        while process.exitcode is None:
            process.join(POLL)
            if not stopping and (stop_requested() is not None or (job.folder / ENOUGH).exists()):
                stopping = True
                as_told = [number for number in PREEMPTION_SIGNALS if number.name == stop_requested()]
                with suppress(ProcessLookupError):
                    os.kill(process.pid or 0, *(as_told or [signal.SIGTERM]))
            if minutes is not None and time.monotonic() - start > 60 * minutes and not late:
                late = True
                _kill(process)
    if process.exitcode == TAKEN:
        raise run_dir.LockedError(f"{job.folder}: another process is running this")
    if process.exitcode == 0:
        return _with_reason(job.folder)
    if late:
        return _ended(job, f"it had not ended after {minutes:g} minutes (sweep.timeout)")
    return _ended(job, reason(process.exitcode))


def _with_reason(folder: Path) -> Record:
    """The record that a run left; of one that was ended by its search with the reason."""
    record = read_record(folder)
    if record["status"] == "interrupted" and (folder / ENOUGH).exists():
        record["error"] = {"type": PRUNED, "message": (folder / ENOUGH).read_text(), "traceback": ""}
        write_record(folder, record)
    return record


def reason(code: int) -> str:
    """What a process's exit code says of its end, in words."""
    if code == -signal.SIGKILL:
        return "killed by SIGKILL (often: the system had run out of memory)"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"the process ended itself with status {code}"


def _ended(job: Job, reason: str) -> Record:
    """Write the record that the process could not; one that it did write before its end counts."""
    with run_dir.locked(job.folder):
        try:
            return read_record(job.folder)
        except (FileNotFoundError, RecordError):
            pass
        record = run_dir.new_record(
            job.config, fingerprint(job.config), job.overrides, job.choices, run_dir.attempts(job.folder)
        )
        error = {"type": "ProcessEnded", "message": reason, "traceback": ""}
        record.update(error=error, environment=environment())
        write_record(job.folder, record)
    return record


def _kill(process: ForkServerProcess) -> None:
    """End a process and those that it started, at once."""
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def own_session() -> None:
    """Leave Ctrl-C in a terminal to the sweep, which tells its processes; end with it."""
    os.setsid()
    unblock_signals()
    exit_with_parent(multiprocessing.parent_process())


def _work(job: Job, environ: dict[str, str]) -> None:
    """What the process does; a stop is heard from its first moment on."""
    with handle_stop_signals(patient=True):
        _run(job, environ)


def _run(job: Job, environ: dict[str, str]) -> None:
    own_session()
    os.environ.clear()
    os.environ.update(environ)
    os.environ.pop(STOP_FILE, None)  # the one who started this process watches that
    if job.output is not None:
        with job.output.open("a") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
    if job.logging is not None:
        logging.config.dictConfig(dict(job.logging))
    try:
        job.run()
    except run_dir.LockedError:
        sys.exit(TAKEN)


def exit_with_parent(started_by: Any = None, seconds: float = 0.5) -> None:
    """End this process soon after the one that started it.

    Args:
        started_by: multiprocessing's parent process; None is the system's parent, which of a process that a server has
            forked is the server.
    """
    parent = os.getppid()

    def watch() -> None:
        if started_by is not None:
            started_by.join()
        while started_by is None and os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="exit_with_parent").start()
