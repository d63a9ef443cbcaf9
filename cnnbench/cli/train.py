"""``cnnbench OVERRIDES``: train once, sweep with -m, or answer Hydra's own questions about a configuration."""

import os
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO

from cnnbench.cli.main import COMMANDS
from cnnbench.cli.parser import Parser
from cnnbench.config.groups import CONFIG_DIR
from cnnbench.config.overrides import without_shorthand
from cnnbench.sweep.launcher import answer, call_hydra, launch

# Nothing is run for these.
QUESTIONS = ("--help", "-h", "--hydra-help", "--version", "--info", "-i", "--shell-completion", "-sc")
SHOW = ("--cfg", "-c")
COMP_LINE = "COMP_LINE"  # where the shell's completion has the line so far
WITH_OVERRIDES = ("train", "find-lr", "reproduce")


def main(arguments: Sequence[str]) -> int:
    """Train, sweep or answer; returns 0, or 1 when a run did not complete."""
    if COMP_LINE in os.environ and any(text.startswith("query=") for text in arguments):
        _complete(arguments)
    elif any(text.partition("=")[0] in SHOW for text in arguments):
        _show_configuration(arguments)
    elif any(text.partition("=")[0] in QUESTIONS for text in arguments):
        answer(arguments)
    else:
        return launch(arguments)
    return 0


def _show_configuration(arguments: Sequence[str]) -> None:
    """Print the configuration of a run, or of a sweep's first; Hydra itself shows those of single runs alone."""
    parser = Parser("train", "Show the configuration of a run, or of the first run of a sweep.")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument(*SHOW, choices=("job", "hydra", "all"))
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(arguments)
    from cnnbench.sweep.optuna_search import corners

    first = corners(without_shorthand(options.overrides))[0]
    call_hydra("show_cfg", overrides=first, cfg_type=options.cfg, package=options.package, resolve=options.resolve)


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
            answer(arguments)
