"""What a saved configuration may build: objects of known packages, and of those that the user names.

A record, or the overrides kept in a folder, may come from anywhere, and Hydra calls whatever ``_target_`` names, at any
depth. So each target is looked up, and the module that it is defined in (``torch.os.system`` is of ``posix``, not of
torch) has to be in one of these packages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.utils import get_object

from cnnbench.config.settings import current_target
from cnnbench.utils.errors import RequestError

TRUSTED = ("cnnbench", "torch.nn", "torch.optim", "torchvision", "torchmetrics", "lightning")
ALLOW = "CNNBENCH_TRUST"  # an environment variable: more packages, separated by commas
TARGET = re.compile(r"_target_['\"]?\s*[=:]\s*['\"]?([\w.]*)")


def trusted() -> tuple[str, ...]:
    """The packages and modules of which objects may be built."""
    return (*TRUSTED, *(name.strip() for name in os.environ.get(ALLOW, "").split(",") if name.strip()))


def check_targets(config: Any, where: str, allowed: Iterable[str] | None = None) -> None:
    """Check every ``_target_`` in a configuration.

    Args:
        config: mappings and lists, as they were saved.
        where: it was found, for the message.
        allowed: packages and modules; by default ``trusted()``.

    Raises:
        RequestError: one is of none of them, or is not there.
    """
    for target in _targets(config):
        _check(target, where, tuple(trusted() if allowed is None else allowed))


def check_overrides(overrides: Iterable[str], where: str) -> None:
    """The same for overrides: ``+callbacks.x._target_=os.system``, ``+callbacks.x={_target_: os.system}``."""
    for text in overrides:
        targets = [target for target in TARGET.findall(text) if target]
        if text.count("_target_") > len(targets):
            raise RequestError(f"{where} has {text!r}, and what that would build cannot be told")
        for target in targets:
            if target != "null":
                _check(target, where, trusted())


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("_target_") is not None:
            yield str(node["_target_"])
        node = list(node.values())
    for value in node if isinstance(node, (list, tuple)) else ():
        yield from _targets(value)


def _check(target: str, where: str, allowed: tuple[str, ...]) -> None:
    target = current_target(target)
    if _within(target, allowed):  # only then is anything imported
        try:
            found = get_object(target)
        except Exception as error:
            raise RequestError(f"{where} names {target}, which is not there ({error})") from error
        if _within(f"{getattr(found, '__module__', None)}.", allowed):
            return
    package = target.split(".")[0]
    raise RequestError(
        f"{where} names {target}, which is of none of the trusted packages ({', '.join(allowed)}); "
        f"the environment variable {ALLOW}={package} trusts {package} too"
    )


def _within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{package}.") for package in allowed)
