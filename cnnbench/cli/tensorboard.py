"""``cnnbench tensorboard [DIR…]``: TensorBoard over runs, each called by what varies."""

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from cnnbench.cli.parser import Parser
from cnnbench.training.event_files import find_event_folders, link_runs
from cnnbench.utils.errors import RequestError

LOCALHOST = "127.0.0.1"
OUTPUTS = "outputs"  # where runs are unless they were sent elsewhere
SECONDS = 5.0  # until new runs are looked for


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[Path], list[str]]:
    """Our options, the folders, and TensorBoard's own options, with which the folders end: whether a word behind one of
    those is its value only TensorBoard knows."""
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
    if not any(map(find_event_folders, folders)):
        print("no event files yet: runs appear here when they begin", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # raises KeyboardInterrupt
    with tempfile.TemporaryDirectory(prefix="cnnbench-tensorboard-") as links:
        link_runs(Path(links), folders)
        own = ["--logdir", links, "--host", options.host, "--port", options.port]
        process = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *own, *rest])
        try:
            while True:
                try:
                    return process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    link_runs(Path(links), folders)
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()
            process.wait()
