"""What a command prints: how much of it, when, and in which style."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VERBOSITY = "CNNBENCH_VERBOSITY"  # quiet (-q) or verbose (-v), for all processes of a command
TRACEBACK = "CNNBENCH_TRACEBACK"


def is_quiet() -> bool:
    """Whether only results and errors are printed."""
    return os.environ.get(VERBOSITY) == "quiet"


def is_verbose() -> bool:
    """Whether every epoch is printed, and failures with their tracebacks."""
    return os.environ.get(VERBOSITY) == "verbose" or os.environ.get(TRACEBACK) == "1"


@contextmanager
def verbosity(level: str | None) -> Iterator[None]:
    """Set the level, ``quiet`` or ``verbose``, within this and for the processes that it starts; None changes nothing."""
    before = os.environ.get(VERBOSITY, "")
    os.environ[VERBOSITY] = before if level is None else level
    try:
        yield
    finally:
        os.environ[VERBOSITY] = before


def print_info(text: str) -> None:
    """Print and flush what a quiet command leaves out."""
    if not is_quiet():
        print_result(text)


def print_result(text: str) -> None:
    """Print and flush a result or an error; where the reader of a pipe is gone, the work goes on in silence."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def bold(text: str) -> str:
    """``text``, bold where standard output is a terminal, and colours are not turned off (no-color.org)."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[1m{text}\033[0m" if coloured else text


def duration(seconds: float) -> str:
    """``"42 s"``, ``"3 min 5 s"`` or ``"2 h 10 min"``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
