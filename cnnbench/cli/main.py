"""The command line. Importing this, ``--help`` and ``list`` do not import torch."""

import atexit
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

from cnnbench.config.groups import own_config_dir
from cnnbench.utils.console import TRACEBACK, print_error, verbosity
from cnnbench.utils.environment import is_one_of_several_ranks
from cnnbench.utils.errors import RequestError, did_you_mean

# Name: what it does. Each has a module here, which is imported when it is called.
COMMANDS = {
    "train": "Train once, or sweep with -m.",
    "report": "Compare finished runs: leaderboard and report of one or more folders.",
    "reproduce": "Run the rows of a published study and compare them with its numbers and claims.",
    "resume": "Go on with a stopped run or sweep.",
    "confirm": "Run the best configurations of a sweep again with fresh seeds, and report those alone.",
    "rerun": "Run a finished run again and say whether the result is the same.",
    "predict": "Classify images with the network of a finished run.",
    "export": "Write the network of a finished run as ONNX and torch.export files.",
    "find-lr": "Suggest a learning rate by a range test.",
    "noise": "Tell the spread of a configuration over seeds and which differences it hides.",
    "tensorboard": "Browse runs in TensorBoard, on this machine only.",
    "list": "List the config groups and their choices.",
}
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
DEVICE_ERRORS = (errno.EIO, errno.ESTALE)
NAME_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
ACCESS_ERRORS = (errno.EACCES, errno.EPERM)
PATH_ERRORS = (errno.ENOENT, errno.EINVAL)  # where they name one
OPTION = "--config-dir"
LEVELS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 a run failed or was stopped, 2 the request was wrong)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    level = next((LEVELS[text] for text in arguments if text in LEVELS), None)
    arguments = [text for text in arguments if text not in LEVELS]  # before the command or after it
    try:
        folder, arguments = _config_dir(arguments)
        with verbosity(level), own_config_dir(folder):
            return _run(arguments)
    except SystemExit as end:  # argparse, after its help
        if isinstance(end.code, str):  # which Python prints
            raise
        return int(end.code or 0)
    except RequestError as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        print_error(error)
        return 2
    except KeyboardInterrupt:
        print_error("interrupted")
        return 1
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        known = error.errno in (*DISK_ERRORS, *DEVICE_ERRORS, *NAME_ERRORS, *ACCESS_ERRORS)
        known = known or bool(error.errno in PATH_ERRORS and error.filename)
        if not known or os.environ.get(TRACEBACK) == "1":
            raise
        problem = "cannot be written" if error.errno in DISK_ERRORS else "cannot be used"
        advice = "; give a folder of your own: hydra.run.dir, hydra.sweep.dir or --out"
        advice = advice if error.errno in ACCESS_ERRORS else ""
        print_error(f"{error.filename or 'a file'} {problem} ({error.strerror}){advice}")
        return 1 if error.errno in (*DISK_ERRORS, *DEVICE_ERRORS) else 2


def _config_dir(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The folder of ``--config-dir``, anywhere in the line, and the other arguments."""
    words = [word for text in arguments for word in (text.split("=", 1) if text.startswith(f"{OPTION}=") else [text])]
    if OPTION not in words:
        return None, list(arguments)
    at = words.index(OPTION)
    if not words[at + 1 : at + 2]:
        raise RequestError(f"{OPTION} needs a folder: the one that holds model/mine.yaml")
    return words[at + 1], words[:at] + words[at + 2 :]


def _run(arguments: list[str]) -> int:
    name = "train"
    if arguments and arguments[0][0:1].isalpha() and "=" not in arguments[0]:
        name, *arguments = arguments
        if name not in COMMANDS:
            kinds = f"neither a command ({', '.join(COMMANDS)}) nor an override such as optimizer=sgd"
            raise RequestError(f"{name!r} is {kinds}{did_you_mean(name, COMMANDS)}")
    run = import_module(f"cnnbench.cli.{name.replace('-', '_')}").main
    if not is_one_of_several_ranks():
        return run(arguments)
    from cnnbench.training.train import on_every_rank

    return on_every_rank(lambda: run(arguments))


def command() -> NoReturn:
    """The installed ``cnnbench``: ``main``, then an end that does not free each module, which takes long."""
    status = 1  # of an error that nobody expected
    os.environ["PYTHONSAFEPATH"] = "1"  # processes that this starts import nothing from where it runs
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # what the terminal cannot show

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    atexit.register(leave)  # the first to be registered is the last to be called
    status = main()
    sys.exit(status)
