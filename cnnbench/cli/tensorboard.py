"""``cnnbench tensorboard [DIR…]``: TensorBoard over runs, each called by what varies: a folder of links has it say
``sgd seed=0`` where it would say ``optimizer=sgd,seed=0/tensorboard``, the folder of the event files."""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from cnnbench.cli.parser import Parser
from cnnbench.config.groups import groups
from cnnbench.utils.errors import RequestError

LOCALHOST = "127.0.0.1"
OUTPUTS = "outputs"  # where runs are unless they were sent elsewhere
SECONDS = 5.0  # until new runs are looked for


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[Path], list[str]]:
    """Our options, the folders, and behind them TensorBoard's own options, whose values only TensorBoard can tell."""
    parser = Parser(
        "tensorboard",
        "Browse runs in TensorBoard, each called by what varies; runs that begin later appear too. "
        f"Each DIR has runs in it, or is one; without any it is {OUTPUTS}.",
        "OPTION is TensorBoard's own, such as --reload_interval 5; they come last.",
    )
    parser.usage = "%(prog)s [DIR ...] [--host HOST] [--port PORT] [OPTION ...]"
    host_help = f"the address to listen at; for this machine alone ({LOCALHOST})"
    parser.add_argument("--host", default=LOCALHOST, help=host_help)
    parser.add_argument("--port", default="6006", help="(6006)")
    options, rest = parser.parse_known_args(arguments)
    folders = list(takewhile(lambda text: not text.startswith("-"), rest))
    return options, [Path(name) for name in folders or [OUTPUTS]], rest[len(folders) :]


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C; returns TensorBoard's exit status, and 0 after Ctrl-C."""
    options, folders, rest = parse(arguments)
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}: nothing to browse")
    if not name_runs(folders):
        print("no event files yet: runs appear here when they begin", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # raises KeyboardInterrupt
    with tempfile.TemporaryDirectory(prefix="cnnbench-tensorboard-") as links:
        link_runs(Path(links), folders)
        own = ["--logdir", links, "--host", options.host, "--port", options.port]
        process = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *own, *rest])
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(SECONDS)
                link_runs(Path(links), folders)
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()
            process.wait()


def link_runs(links: Path, folders: Sequence[Path]) -> None:
    """Link each run below ``folders`` that has no link in ``links`` yet; raises RequestError where it cannot."""
    for name, folder in name_runs(folders).items():
        link = links / name
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            with suppress(FileExistsError):
                link.symlink_to(folder.resolve(), target_is_directory=True)
        except OSError as error:
            raise RequestError(f"cannot make links ({error.strerror}); tensorboard --logdir DIR needs none") from error


def name_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders with event files by unique names, relative to the one of ``folders`` that each is in."""
    named, count = dict[str, Path](), Counter[str]()
    for top in folders:
        for path in sorted({file.parent for file in top.rglob("events.out.tfevents.*")}):
            run = (path.parent if path.name == "tensorboard" and path != top else path).resolve()
            above = run.relative_to(top.resolve()).parts
            prefix = [top.resolve().name] if len(folders) > 1 and above else []
            name = "/".join([*prefix, *above[:-1], short_name(run.name)])
            count[name] += 1
            named[name if count[name] == 1 else f"{name} ({count[name]})"] = path
    return named


def short_name(folder: str) -> str:
    """``adam seed=0 norm=batch`` for a sweep's folder ``optimizer=adam,seed=0,model.norm=batch``; others stay."""
    pairs = [text.partition("=")[::2] for text in re.split(r",(?![^[]*])", folder)]  # a comma in a list stays
    if not all(value for _, value in pairs):
        return folder
    leaves = [key.lstrip("+").rpartition(".")[2] for key, _ in pairs]
    names = [leaf if leaves.count(leaf) == 1 else key for (key, _), leaf in zip(pairs, leaves, strict=True)]
    named = zip(pairs, names, strict=True)
    words = [value if key in groups() else f"{name}={value}" for (key, value), name in named]
    return folder if set(words) & {".", ".."} else " ".join(words)
