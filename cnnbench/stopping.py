"""How a run or a sweep is asked to stop: SIGINT (Ctrl-C) and SIGTERM once, or a file that all of a sweep's runs watch;
a run also by SIGUSR1 and SIGUSR2, with which clusters say that the time is up.

Once asks for an end at the next good moment; the second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

STOP_FILE = "CNNBENCH_STOP_FILE"  # names the file that stops this sweep's runs, wherever they run
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TIME_IS_UP = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))

_asked: str | None = None
_tell: Path | None = None


class Stopped(Exception):
    """The run was asked to stop, and has."""


def requested() -> str | None:
    """Who asked for a stop: the signal's name, or the sweep; None where nobody has."""
    if _asked is not None:
        return _asked
    file = os.environ.get(STOP_FILE)
    return "the sweep" if file and Path(file).exists() else None


@contextmanager
def listening(numbers: Sequence[signal.Signals] = SIGNALS, tell: Path | None = None) -> Iterator[None]:
    """Within this, the first signal is only remembered; where there are no signals (other threads) nothing changes.

    Args:
        tell: the file by which a sweep's own process stops the runs in all others. A worker that is told to stop, as one
            whose job a cluster preempts, stops alone.
    """
    global _asked, _tell
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    if _hear in before.values():  # an outer one listens already
        yield
        return
    _asked, _tell = None, tell
    for number in numbers:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        _asked = _tell = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _hear(number: int, frame: FrameType | None) -> Any:
    global _asked
    if _asked is not None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _asked = signal.Signals(number).name
    if _tell is not None:
        _tell.touch()
    if number == signal.SIGINT:
        os.write(2, b"\nstopping at the next good moment; Ctrl-C again stops at once\n")


@contextmanager
def put_off(numbers: Sequence[signal.Signals] = TIME_IS_UP) -> Iterator[list[int]]:
    """Within this, signals that somebody else handles are only noted, in the list; the first is handed on at the end.

    So a job that submitit would requeue at once, and end with all its processes, first lets its run save.
    """
    noted: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in numbers}
        before = {number: handler for number, handler in handlers.items() if callable(handler) and handler is not _hear}
    for number in before:
        signal.signal(number, lambda told, frame: noted.append(told))
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if noted:
            signal.raise_signal(noted[0])
