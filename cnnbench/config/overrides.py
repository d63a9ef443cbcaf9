"""Overrides, read by Hydra's own parser: one, all runs of a grid, and how a text is written in one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from cnnbench.config.groups import groups
from cnnbench.utils.errors import RequestError, did_you_mean, one_line, refuse

GLOBAL = "experiment"  # the group whose choices set keys anywhere in the configuration
SEVERAL = ("callbacks", "logger")  # groups of which a run may have several
OPTIONAL = (*SEVERAL, "model", "optimizer", "scheduler", "augment", "loss", "average")  # nodes of arguments

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


def parse(text: str) -> Override:
    """What Hydra makes of one override; raises RequestError where it cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        key, _, value = text.partition("=")
        reason = one_line(error).partition(" See https:")[0].rpartition("HydraException while ")[2]
        hint = f'; such a value needs two kinds of quotation marks: "{key}={quoted(value)}"' if value else ""
        raise RequestError(f"{text} cannot be read ({reason}){hint}") from error


def override_key(text: str) -> str:
    """``optimizer.lr`` of ``++optimizer.lr=0.1``."""
    return text.partition("=")[0].strip().lstrip("+~")


@lru_cache(2**14)  # thousands of runs share a few overrides
def parse_override(text: str) -> tuple[str, Any]:
    """``("optimizer.lr", 0.1)`` of ``optimizer.lr=0.1``; a sweep, and what cannot be read, is left as text."""
    key, value = override_key(text).split("@")[0], text.partition("=")[2]
    try:
        override = parse(text)
    except RequestError:
        return key, value
    return key, value if override.is_sweep_override() else override.value()


def parse_value(text: str) -> Any:
    """A value as the command line writes it: a number, true, false, null, a list, or else text."""
    return parse_override(f"value={text.strip()}")[1]


def without_shorthand(overrides: Sequence[str]) -> list[str]:
    """The same overrides in what Hydra knows: globs of choices written out (its own do not look into folders), and
    ``none`` for ``null`` where a group has that choice. Raises RequestError where one cannot be read, or matches nothing.
    """
    written, known = [], groups()
    for text in overrides:
        key, _, value = text.partition("=")
        override, choices, named = parse(text), known.get(key, []), parse_value(value)
        is_group = bool(choices) or key.startswith(("hydra/", "+hydra/"))
        no_names = any(isinstance(one, (int, float, dict)) for one in (named if isinstance(named, list) else [named]))
        is_node = key in ("hydra", "study", "sweep") and not isinstance(named, dict)
        if not override_key(text).strip("@") or (is_group and no_names) or is_node:
            raise RequestError(f"{text} names no {'choice' if is_group else 'key'}")
        node, dot, _ = override.key_or_group.partition(".")
        if override.is_delete() and not (node in OPTIONAL and dot):
            kept = f"only keys of {', '.join(OPTIONAL)} can be removed"
            raise RequestError(f"{text}: {kept}; choose another value: {override.key_or_group}=...")
        if choices and isinstance(named, list) and len(named) > 1 and key not in (*SEVERAL, GLOBAL):
            one = f"{key}={named[0]}, or a sweep over them: -m {key}={','.join(map(str, named))}"
            raise RequestError(f"{text}: a run has one {key}, so that the last would cover the others; choose {one}")
        for name in value.split(",") if key.lstrip("+") == GLOBAL and re.fullmatch(r"[\w/.,-]+", value) else ():
            if name not in ("null", *known[GLOBAL]):  # which Hydra would leave out in silence
                raise RequestError(f"{name} is not a choice of {GLOBAL}{did_you_mean(name, known[GLOBAL])}")
        if choices and value.startswith("glob("):
            glob: Any = parse(text).value()
            included = {name for name in choices for pattern in glob.include if fnmatchcase(name, pattern)}
            excluded = {name for name in choices for pattern in glob.exclude if fnmatchcase(name, pattern)}
            if not included - excluded:
                raise RequestError(f"{text} matches none of {', '.join(choices)}")
            text = f"{key}={','.join(sorted(included - excluded))}"
        elif "none" in choices:
            text = f"{key}={','.join('none' if part == 'null' else part for part in value.split(','))}"
        elif choices and value == "null":
            raise RequestError(f"{text} is not a choice of {key}: {', '.join(choices)}")
        written.append(text)
    return written


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every run of a grid; the last key varies fastest. Raises RequestError where an override cannot be
    read, or is no grid (an interval)."""
    values: dict[str, list[str]] = {}  # of a key that is given twice the last
    for text in without_shorthand(overrides):
        override, key = parse(text), text.partition("=")[0]
        values[key] = [text]
        if override.is_interval_sweep():
            raise RequestError(f"{text}: an interval is for a search: add hydra/sweeper=optuna")
        if override.is_sweep_override():
            values[key] = without_shorthand([f"{override.get_key_element()}={value}" for value in swept(override)])
    return [list(run) for run in product(*values.values())]


def first_run(overrides: Sequence[str]) -> list[str]:
    """The overrides of a grid's first run, or of one of a search with the low end of each interval; raises as ``expand``."""
    parsed: list[Any] = [parse(text) for text in overrides]
    return expand([f"{one.get_key_element()}={one.value().start}" if one.is_interval_sweep() else one.input_line
                   for one in parsed])[0]  # fmt: skip


def swept(override: Override) -> list[str]:
    """The values of a sweep, as they are written; raises RequestError where there is none."""
    from hydra.errors import HydraException

    # of range(0,3,0); of a glob where there are no choices
    with refuse(f"{override.input_line} cannot be written out", ValueError, HydraException):
        values = [str(value) for value in override.sweep_string_iterator()]
    if not values:
        raise RequestError(f"{override.input_line} has no value")
    return values


def quoted(text: object) -> str:
    """A text as the value of an override, whatever is in it."""
    # a backslash is one but before a quotation mark
    return "'" + re.sub(r"(\\+)(?='|$)|'", lambda found: 2 * found[1] if found[1] else r"\'", str(text)) + "'"
