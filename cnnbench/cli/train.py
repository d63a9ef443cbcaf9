"""``cnnbench OVERRIDES``: train once, sweep with -m, or answer Hydra's own questions about a configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO

from cnnbench.cli.main import COMMANDS
from cnnbench.config.groups import CONFIG_DIR
from cnnbench.config.overrides import without_shorthand
from cnnbench.sweep.launcher import launch, through_hydra
from cnnbench.sweep.search_space import corners

# Nothing is run for these.
QUESTIONS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
COMP_LINE = "COMP_LINE"  # where the shell's completion has the line so far
WITH_OVERRIDES = ("train", "find-lr", "reproduce")


def main(arguments: Sequence[str]) -> int:
    """Train, sweep or answer; returns 0, or 1 when a run did not complete.

    Raises:
        RequestError: what was asked for is wrong; nothing has been started.
    """
    if COMP_LINE in os.environ and any(text.startswith("query=") for text in arguments):
        _complete(arguments)
    elif any(text.partition("=")[0] in QUESTIONS for text in arguments):
        through_hydra(_of_one_run(arguments))
    else:
        return launch(arguments)
    return 0


def _of_one_run(arguments: Sequence[str]) -> list[str]:
    """The same for the first run of a sweep, for Hydra answers questions about single runs alone."""
    if not {"-m", "--multirun"} & {*arguments}:
        return list(arguments)
    overrides = [text for text in arguments if "=" in text and not text.startswith("-")]
    others = [text for text in arguments if text not in (*overrides, "-m", "--multirun")]
    return [*others, *corners(without_shorthand(overrides))[0]]


def _complete(arguments: Sequence[str]) -> None:
    """Print what may follow in the shell's line: commands and studies, and overrides by Hydra, which knows no others."""
    line = os.environ[COMP_LINE]
    words = line.split()[1:]
    word = words.pop() if words and not line[-1].isspace() else ""
    plain = [text for text in words if not text.startswith("-")]
    if plain == ["reproduce"]:
        print("\n".join(sorted(path.stem for path in (CONFIG_DIR / "study").glob(f"{word}*.yaml"))))
    elif not word.startswith("-") and (not plain or "=" in plain[0] or plain[0] in WITH_OVERRIDES):
        print("\n".join(name for name in COMMANDS if not plain and name.startswith(word)))
        os.environ[COMP_LINE] = " ".join(["cnnbench", *(text for text in plain if "=" in text), word])
        with suppress(SystemExit), redirect_stderr(StringIO()):  # what is wrong in the line is told when it is run
            through_hydra(arguments)
