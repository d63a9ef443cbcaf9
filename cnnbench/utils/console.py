"""What a command prints: how much of it, when, and in which style."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

VERBOSITY = "CNNBENCH_VERBOSITY"  # quiet (-q) or verbose (-v), for all processes of a command
TRACEBACK = "CNNBENCH_TRACEBACK"
BOLD, END = "\033[1m", "\033[0m"
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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


def escape(text: str, keep: str = "") -> str:
    """``text``, which may be a stranger's, as it can be shown: control characters, and what turns the direction of writing
    or is half a character, as in JSON (``\\u001b``); those in ``keep`` stay."""
    return UNSAFE.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)


def cell(value: Any) -> Any:
    """A cell of a CSV file, in which text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def print_info(text: str) -> None:
    """Print and flush what a quiet command leaves out."""
    if not is_quiet():
        print_result(text)


def print_result(text: str) -> None:
    """Print and flush a result; where the reader of a pipe is gone, the work goes on in silence."""
    shown = escape(text, keep="\n\t")
    for code in (BOLD, END) if is_coloured() else ():
        shown = shown.replace(escape(code), code)
    try:
        print(shown, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(error: object) -> None:
    """Print what is wrong, as one line, on standard error."""
    print(f"cnnbench: {escape(str(error))}", file=sys.stderr, flush=True)


def is_coloured() -> bool:
    """Whether standard output is a terminal, and colours are not turned off (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bold(text: str) -> str:
    """``text``, bold where there are colours."""
    return f"{BOLD}{text}{END}" if is_coloured() else text


def duration(seconds: float) -> str:
    """``"42 s"``, ``"3 min 5 s"`` or ``"2 h 10 min"``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def silence_libraries() -> None:
    """Keep back greetings and warnings that say nothing to the person who runs this."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # why a rank has failed is in the record
    for text in (
        ".*does not have many workers.*",
        ".*Starting from v1.9.*tensorboardX.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*GPU available but not used.*",
        ".*`srun` command is available.*",
        ".*logging on epoch level in distributed setting.*",  # what is logged is of all processes already
        ".*Detected call of `lr_scheduler.step\\(\\)` before.*",  # that of the optimizer of a switch that rests
        ".*Total length of `list` across ranks is zero.*",  # a run without validation
    ):
        warnings.filterwarnings("ignore", message=text)
