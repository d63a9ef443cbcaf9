"""How a verb's options are parsed, what is wrong told as everything else is."""

from __future__ import annotations

import argparse
from typing import NoReturn

from cnnbench.utils.errors import RequestError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a RequestError, which the command line shows as one line with exit status 2.

    Args:
        verb: as in ``cnnbench VERB``.
        description, epilog: before and after the options in ``--help``.
    """

    def __init__(self, verb: str, description: str, epilog: str | None = None) -> None:
        super().__init__(prog=f"cnnbench {verb}", description=description, epilog=epilog, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise a RequestError instead of ending the process."""
        raise RequestError(f"{message} ({self.prog} --help lists the options)")
