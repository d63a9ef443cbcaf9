"""How a run or a sweep is asked to stop: SIGINT (Ctrl-C), SIGTERM, or SIGUSR1 and SIGUSR2, with which clusters say that
the time is up; or a file in the sweep's folder, for workers on other machines.

The first signal asks for an end at the next good moment; a second one ends the process at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

STOP_FILE = ".stop"  # in a sweep's folder: stops its runs in the workers of any launcher
PREEMPTION_SIGNALS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
SIGNALS = (signal.SIGINT, signal.SIGTERM, *PREEMPTION_SIGNALS)

_requested: str | None = None
_file: Path | None = None
_writes = _patient = False
_file_seen = False  # a sweep that has ended takes its file away


class Stopped(Exception):
    """The run was asked to stop, and has."""


def stop_requested() -> str | None:
    """Who asked for a stop: the signal's name, or the sweep; None where nobody has."""
    global _file_seen
    if _requested is not None:
        return _requested
    _file_seen = _file_seen or (_file is not None and not _writes and _file.exists())
    return "the sweep" if _file_seen else None


@contextmanager
def handle_stop_signals(file: Path | None = None, write: bool = False, patient: bool = False) -> Iterator[None]:
    """Within this, the first signal is only remembered; in threads other than the main one nothing changes.

    A preemption signal is raised again at the end for whoever handled it before: submitit requeues its job and ends the
    process, and so lets the run save first.

    Args:
        file: asks for a stop where it exists; with ``write`` a signal makes it instead, as in the process of a sweep. A
            worker that gets a signal, as one whose job a cluster preempts, stops alone.
        patient: whether further signals change nothing, as in a process that both a terminal or cluster and the one that
            started it signal, and that the latter ends if need be.
    """
    global _requested, _file, _file_seen, _writes, _patient
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is not threading.main_thread() or _handle in before.values():  # an outer one handles
        yield
        return
    _requested, _file, _file_seen, _writes, _patient = None, file, False, write, patient
    for number in SIGNALS:
        signal.signal(number, _handle)
    unblock_signals()
    try:
        yield
    finally:
        preempted = [number for number in PREEMPTION_SIGNALS if number.name == _requested and callable(before[number])]
        _requested, _file, _file_seen, _writes, _patient = None, None, False, False, False
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in preempted:
            signal.raise_signal(number)


def restore_stop_signals() -> None:
    """Within ``handle_stop_signals``: put its handlers back where a library has put its own, as Lightning's trainer does."""
    is_within = _handle in map(signal.getsignal, SIGNALS)
    for number in SIGNALS if is_within and threading.current_thread() is threading.main_thread() else ():
        signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> Any:
    global _requested
    if _requested is not None:
        if _patient or number in PREEMPTION_SIGNALS:  # a cluster signals every process of a job, and repeats it
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _requested = signal.Signals(number).name
    if _writes and _file is not None:
        _file.touch()
    if number == signal.SIGINT and not _patient:
        os.write(2, b"\nstopping at the next good moment; Ctrl-C again stops at once\n")


def block_signals() -> None:
    """Let no request to stop end this process, as that of the server that runs are forked from, which has to report how
    they end; those forked from it get the request once they handle signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def unblock_signals() -> None:
    """Undo ``block_signals``; what has come since is handled now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_with_parent() -> None:
    """From now on, end this process at once when the one that started it through ``multiprocessing`` has ended."""
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end_with_parent").start()


def exit_reason(code: int) -> str:
    """What a process's exit code says of its end, in words."""
    if code >= 0:
        return f"the process ended itself with status {code}"
    often = " (often: the system had run out of memory)" if code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{often}"
