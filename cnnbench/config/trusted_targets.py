"""What a saved configuration may build: objects of known packages, and of those that the user names.

A record, or the overrides kept in a folder, may come from anywhere, and Hydra calls whatever ``_target_`` names, at any
depth. So each target is looked up, and the module that it is defined in (``torch.os.system`` is of ``posix``, not of
torch) has to be in one of these packages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from hydra.utils import get_object

from cnnbench.config.settings import current_target
from cnnbench.utils.errors import RequestError

TRUSTED = ("cnnbench", "torch.nn", "torch.optim", "torchvision", "torchmetrics", "lightning")
ALLOW = "CNNBENCH_TRUST"  # an environment variable: more packages, separated by commas
TARGET = re.compile(r"_target_['\"]?\s*[=:]\s*['\"]?([\w.]*)")


def check_targets(config: Any, where: str, more: Iterable[str] = ()) -> None:
    """Check every ``_target_`` in a configuration.

    Args:
        config: mappings and lists, as they were saved.
        where: the configuration comes from, for the message.
        more: packages and modules that are trusted too.

    Raises:
        RequestError: one is of none of the trusted packages, or does not exist.
    """
    if isinstance(config, dict):
        if (target := config.get("_target_")) is not None:
            _check(str(target), where, more)
        config = list(config.values())
    for value in config if isinstance(config, (list, tuple)) else ():
        check_targets(value, where, more)


def check_overrides(overrides: Iterable[str], where: str) -> None:
    """The same for overrides: ``+callbacks.x._target_=os.system``, ``+callbacks.x={_target_: os.system}``."""
    for text in overrides:
        targets = [target for target in TARGET.findall(text) if target]
        if text.count("_target_") > len(targets):
            raise RequestError(f"{where} has {text!r}, and what that would build is not known")
        for target in targets:
            if target != "null":
                _check(target, where)


def _check(target: str, where: str, more: Iterable[str] = ()) -> None:
    target = current_target(target)
    allowed = [*TRUSTED, *filter(None, map(str.strip, os.environ.get(ALLOW, "").split(","))), *more]
    prefixes = tuple(f"{package}." for package in allowed)
    if target.startswith(prefixes):  # only then is anything imported
        try:
            found = get_object(target)
        except Exception as error:
            raise RequestError(f"{where} names {target}, which is not there ({error})") from error
        if f"{getattr(found, '__module__', None)}.".startswith(prefixes):
            return
    package = target.split(".")[0]
    raise RequestError(
        f"{where} names {target}, which is of none of the trusted packages ({', '.join(allowed)}); "
        f"the environment variable {ALLOW}={package} trusts {package} too"
    )
