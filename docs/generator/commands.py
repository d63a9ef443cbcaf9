"""What each command says when it is asked for help."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from unittest.mock import patch

from cnnbench.cli.main import COMMANDS, main
from generator.text import block, document


def page() -> str:
    """The page of all commands."""
    parts = [
        "After this page you know each command and its options. `cnnbench OVERRIDES` is short for "
        "`cnnbench train OVERRIDES`; `cnnbench -m OVERRIDES` sweeps.",
        "The exit status is 0 when everything that was asked for was done, 1 when a run failed, diverged or was interrupted "
        "(or images could not be read, or a repeated run was not the same), and 2 when the request was wrong; then one line says "
        "what would be right.",
    ]
    for name, summary in COMMANDS.items():
        parts += [f"## {name}", summary, block(printed(main, [name, "--help"]))]
    return document("Commands", *parts)


def printed(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> str:
    """What a command prints, in lines of 80 characters.

    Raises:
        ValueError: it does not end well.
    """
    out = io.StringIO()
    with redirect_stdout(out), patch.dict(os.environ, COLUMNS="80"):
        status = command(arguments)
    if status:
        raise ValueError(f"cnnbench {' '.join(arguments)}: status {status}")
    return out.getvalue()
