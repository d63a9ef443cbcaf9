"""``cnnbench tensorboard [DIR…]``: TensorBoard over runs, each called by what varies.

TensorBoard calls a run by the folder of its event files: ``optimizer=sgd,seed=0/tensorboard``. It is given a folder of
links instead, one a run: ``sgd seed=0``.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from cnnbench.config.compose import groups
from cnnbench.utils.errors import RequestError

HERE = "127.0.0.1"
EVENTS, OWN = "events.out.tfevents.", "tensorboard"  # of an event file's name; the folder in a run's
OUTPUTS = "outputs"  # where runs are without another wish
SECONDS = 5.0  # until new runs are looked for


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message} (cnnbench tensorboard --help lists the options)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cnnbench tensorboard",
        description="Browse runs in TensorBoard, each called by what varies; runs that begin later appear too. "
        f"Each DIR has runs in it, or is one; without any it is {OUTPUTS}.",
        usage="%(prog)s [DIR ...] [--host HOST] [--port PORT] [OPTION ...]",
        epilog="OPTION is TensorBoard's own, such as --reload_interval 5; they come last.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default=HERE, help=f"the address to listen at; for this machine alone ({HERE})")
    parser.add_argument("--port", default="6006", help="(6006)")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line; returns TensorBoard's exit status, and 0 after Ctrl-C.

    Raises:
        RequestError: a folder is not there, or links cannot be made.
    """
    asked, folders, rest = parse(argv)
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}: nothing to browse")
    if not any(True for folder in folders for _ in find(folder)):
        print("no event files yet: runs appear here when they begin", flush=True)
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(prefix="cnnbench-tensorboard-") as links:
        refresh(Path(links), folders)
        where = ["--logdir", links, "--host", asked.host, "--port", asked.port]
        process = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *where, *rest])
        try:
            while True:
                try:
                    return process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    refresh(Path(links), folders)
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()
            process.wait()


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[Path], list[str]]:
    """What is asked for, the folders, and TensorBoard's own options, with which the folders end: whether a word behind
    one of those is its value only TensorBoard knows."""
    asked, rest = _parser().parse_known_args(list(argv))
    folders = list(takewhile(lambda text: not text.startswith("-"), rest))
    return asked, [Path(name) for name in folders or [OUTPUTS]], rest[len(folders) :]


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def refresh(links: Path, folders: Sequence[Path]) -> None:
    """Add a link for each run that has none yet.

    Raises:
        RequestError: this system makes no links.
    """
    for name, folder in named(folders).items():
        link = links / name
        if link.is_symlink():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(folder.resolve(), target_is_directory=True)
        except OSError as error:
            raise RequestError(f"cannot make links ({error.strerror}); tensorboard --logdir DIR needs none") from error


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders with event files by the name that each is to have: unique, and relative to the one of ``folders``
    that it is in."""
    found: dict[str, Path] = {}
    for top in folders:
        for path in find(top):
            run = path.parent if path.name == OWN else path
            above = run.resolve().relative_to(top.resolve()).parts
            parts = [*above[:-1], short(run.resolve().name)]
            if len(folders) > 1 and above:
                parts.insert(0, top.resolve().name)
            name = wanted = "/".join(parts)
            number = 1
            while name in found:
                number += 1
                name = f"{wanted} ({number})"
            found[name] = path
    return found


def find(top: Path) -> Iterator[Path]:
    """Folders with event files, in the order of their paths."""
    for here, below, files in os.walk(top):
        below.sort()
        if any(name.startswith(EVENTS) for name in files):
            yield Path(here)


def short(folder: str) -> str:
    """``adam seed=0 norm=batch`` for ``optimizer=adam,seed=0,model.norm=batch``, as a sweep names its folders; other
    names stay as they are."""
    pairs = [text.partition("=")[::2] for text in re.split(r",(?![^[]*])", folder)]  # a comma in a list stays
    if not all(value for _, value in pairs):
        return folder
    leaves = [key.lstrip("+").rpartition(".")[2] for key, _ in pairs]
    words = [
        value if key in groups() else f"{leaf if leaves.count(leaf) == 1 else key}={value}"
        for (key, value), leaf in zip(pairs, leaves, strict=True)
    ]
    return " ".join(words)
