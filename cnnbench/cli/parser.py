"""How the options of a command are parsed, and what is wrong with them is reported."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cnnbench.utils.errors import RequestError


class Parser(argparse.ArgumentParser):
    """An argument parser of ``cnnbench VERB`` that raises RequestError where argparse would end the process."""

    def __init__(self, verb: str, description: str, epilog: str | None = None, add_help: bool = True) -> None:
        super().__init__(f"cnnbench {verb}", None, description, epilog, allow_abbrev=False, add_help=add_help)

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message} ({self.prog} --help lists the options)")

    def add_trust(self) -> None:
        """Add the option for what a saved run may name that is of none of our YAMLs."""
        text = "trust what this package defines, if the run names it; may be given more than once"
        self.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=text)

    def parse_with_overrides(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """The options, and the other arguments, which have to be overrides."""
        options, overrides = self.parse_known_args(arguments)
        for text in overrides:
            if text.startswith("-") or ("=" not in text and not text.startswith("~")):
                raise RequestError(f"{text!r} is neither an option nor an override ({self.prog} --help)")
        return options, overrides


def existing_folder(text: str) -> Path:
    """The ``type`` of an argument that names the folder of a run or a sweep."""
    if not Path(text).is_dir():
        state = "not a folder" if Path(text).exists() else "not there"
        raise argparse.ArgumentTypeError(f"this needs the folder of a run or a sweep, and {text} is {state}")
    return Path(text)
