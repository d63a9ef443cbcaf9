"""``cnnbench OVERRIDES``: train once, sweep with -m, or answer Hydra's own questions about a configuration."""

import os
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO

from omegaconf import OmegaConf

from cnnbench.cli.main import COMMANDS
from cnnbench.cli.parser import Parser
from cnnbench.config.compose import compose
from cnnbench.config.groups import CONFIG_DIR
from cnnbench.config.overrides import first_run
from cnnbench.utils.environment import packages
from cnnbench.utils.errors import RequestError

# What is asked instead of a run, by the names of Hydra's flags.
QUESTIONS = ("help", "hydra_help", "version", "shell_completion", "cfg", "info")
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
COMP_LINE = "COMP_LINE"  # where the shell's completion has the line so far
WITH_OVERRIDES = ("train", "find-lr", "noise", "reproduce")
SHELLS = [f"{step}={shell}" for step in ("install", "uninstall") for shell in ("bash", "fish", "zsh")]


def main(arguments: Sequence[str]) -> int:
    """Train, sweep or answer; returns 0, or 1 when a run did not complete. Raises as ``launch`` does, and RequestError
    where a flag is none of Hydra's that have a use here, or two exclude each other."""
    if COMP_LINE in os.environ and any(text.startswith("query=") for text in arguments):
        _complete(arguments)
        return 0
    options = _parse(arguments)
    if options.question == "help" and not options.overrides:
        text = OmegaConf.load(CONFIG_DIR / "hydra" / "help" / "cnnbench.yaml")
        print(OmegaConf.create({"hydra": {"help": text}}).hydra.help.template)
        return 0
    if options.question == "version" and not options.overrides:
        print(f"cnnbench {packages()['cnnbench']}")
        return 0
    from cnnbench.sweep.launcher import answer, call_hydra, launch  # imports NumPy

    if options.question is None:
        return launch(["-m"] * options.multirun + options.overrides)
    if options.question == "shell_completion":
        if len(options.overrides) != 1 or options.overrides[0] not in SHELLS:
            raise RequestError(f"--shell-completion needs one of {', '.join(SHELLS)}")
        answer(arguments)
        return 0
    first = first_run(options.overrides)  # Hydra answers for single runs alone
    if options.question == "cfg":
        if options.package is not None and OmegaConf.select(compose(first, hydra=True), options.package) is None:
            raise RequestError(f"--package={options.package} is not a node of the configuration")
        call_hydra("show_cfg", overrides=first, cfg_type=options.cfg, package=options.package, resolve=options.resolve)
    else:
        compose(first)  # which says what is wrong
        answer([text for text in arguments if text not in options.overrides] + first)
    return 0


def _parse(arguments: Sequence[str]) -> Namespace:
    """Hydra's flags that have a use here; ``question`` is the flag, by Hydra's name, that is given instead of a run."""
    parser = Parser("train", "", add_help=False)
    mode, question = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    mode.add_argument("-r", "--run", action="store_true")
    mode.add_argument("-m", "--multirun", action="store_true")
    for flags in (("-h", "--help"), ("--hydra-help",), ("--version",), ("-sc", "--shell-completion")):
        question.add_argument(*flags, action="store_true")
    question.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    question.add_argument("-i", "--info", nargs="?", const="all", choices=INFORMATION)
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        known = "-m for a sweep, and those that --hydra-help lists"
        raise RequestError(f"{unknown[0]} is no flag of a run: there are {known}")
    options.question = next((name for name in QUESTIONS if getattr(options, name)), None)
    if options.question != "cfg" and (options.package is not None or options.resolve):
        raise RequestError("--package and --resolve are of --cfg")
    return options


def _complete(arguments: Sequence[str]) -> None:
    """Print what may follow in the shell's line: commands and studies of ours, and overrides by Hydra."""
    line = os.environ[COMP_LINE]
    words = line.split()[1:]
    word = words.pop() if words and not line[-1].isspace() else ""
    plain = [text for text in words if not text.startswith("-")]
    if plain == ["reproduce"]:
        print("\n".join(sorted(path.stem for path in (CONFIG_DIR / "study").glob(f"{word}*.yaml"))))
    elif not word.startswith("-") and (not plain or "=" in plain[0] or plain[0] in WITH_OVERRIDES):
        print("\n".join(name for name in COMMANDS if not plain and name.startswith(word)))
        from cnnbench.sweep.launcher import answer

        os.environ[COMP_LINE] = " ".join(["cnnbench", *(text for text in plain if "=" in text), word])
        with suppress(SystemExit), redirect_stderr(StringIO()):  # what is wrong in the line is told when it is run
            answer(arguments)
