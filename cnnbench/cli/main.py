"""The command line. Importing this, ``--help`` and ``list`` do not import torch."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from cnnbench.utils.console import TRACEBACK, use_colour, verbosity
from cnnbench.utils.errors import RequestError, did_you_mean

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
LEVELS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}
# Hydra's own questions about a configuration; nothing is run for them.
ASKING = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")


def train(arguments: Sequence[str]) -> int:
    """Train once, or sweep with -m."""
    from cnnbench.sweep.launcher import launch, through_hydra

    if any(text.partition("=")[0] in ASKING for text in arguments):
        through_hydra()
        return 0
    return launch(arguments)


def report(arguments: Sequence[str]) -> int:
    """Compare finished runs: leaderboard and report of one or more folders."""
    from cnnbench.analysis.report.write import main as make

    return make(list(arguments))


def reproduce(arguments: Sequence[str]) -> int:
    """Run the rows of a published study and compare them with its numbers and claims."""
    from cnnbench.cli.reproduce import main as run

    return run(list(arguments))


def predict(arguments: Sequence[str]) -> int:
    """Classify images with the network of a finished run."""
    from cnnbench.cli.predict import main as run

    return run(list(arguments))


def export(arguments: Sequence[str]) -> int:
    """Write the network of a finished run as ONNX and torch.export files."""
    from cnnbench.cli.export import main as run

    return run(list(arguments))


def find_lr(arguments: Sequence[str]) -> int:
    """Suggest a learning rate by a range test."""
    from cnnbench.cli.find_lr import main as run

    return run(list(arguments))


def resume(arguments: Sequence[str]) -> int:
    """Go on with a stopped run or sweep."""
    from cnnbench.cli.resume import main as run

    return run(arguments)


def rerun(arguments: Sequence[str]) -> int:
    """Run a finished run again and say whether the result is the same."""
    from cnnbench.cli.rerun import main as run

    return run(arguments)


def browse(arguments: Sequence[str]) -> int:
    """Browse runs in TensorBoard, on this machine only."""
    from cnnbench.cli.tensorboard import main as run

    return run(list(arguments))


def show(arguments: Sequence[str]) -> int:
    """List the config groups and their choices."""
    from cnnbench.cli.list import listing

    print(listing(list(arguments), use_colour()))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "report": report,
    "reproduce": reproduce,
    "resume": resume,
    "rerun": rerun,
    "predict": predict,
    "export": export,
    "find-lr": find_lr,
    "tensorboard": browse,
    "list": show,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 a run failed, 2 the request was wrong)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    level = next((LEVELS[text] for text in arguments if text in LEVELS), None)
    arguments = [text for text in arguments if text not in LEVELS]  # before the command or after it
    verb, rest = "train", arguments
    try:
        if arguments and arguments[0][0:1].isalpha() and "=" not in arguments[0]:
            verb, rest = arguments[0], arguments[1:]
            if verb not in VERBS:
                raise RequestError(
                    f"{verb!r} is neither a command ({', '.join(VERBS)}) nor an override such as "
                    f"optimizer=sgd{did_you_mean(verb, VERBS)}"
                )
        with verbosity(level):
            return _run(verb, rest)
    except RequestError as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        print(f"cnnbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cnnbench: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM or os.environ.get(TRACEBACK) == "1":
            raise
        print(f"cnnbench: {error.filename or 'a file'} cannot be written ({error.strerror})", file=sys.stderr)
        return 1


def _run(verb: str, arguments: list[str]) -> int:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return VERBS[verb](arguments)
    from cnnbench.training.machines import under_torchrun

    return under_torchrun(lambda: VERBS[verb](arguments))


def command() -> NoReturn:
    """What ``cnnbench`` and ``python -m cnnbench`` call: ``main``, and an end that does not take four thousand modules
    apart one by one, which would be a quarter of a short command's time."""
    status = 1  # of an error that nobody expected

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    atexit.register(leave)  # the first to be registered is the last to be called
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    sys.exit(status)
