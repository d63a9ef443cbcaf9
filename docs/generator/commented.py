"""A YAML with its comments: the headline, and each key with its default as written and the comment beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

HYDRAS = ("defaults", "hydra", "_partial_")  # addressed to Hydra, not settings


@dataclass(frozen=True)
class Key:
    """A key: its name below the file's place, its default as written (empty over a block), its comment."""

    name: str
    default: str
    comment: str


@dataclass(frozen=True)
class Commented:
    """What a YAML says.

    Attributes:
        headline: the comment lines at its top, joined.
        target: what ``_target_`` at the top names; empty where there is none.
        inherits: the files that its defaults list names, without ``_self_``: ``_common``, ``/optimizer@first: adam``.
    """

    headline: str
    target: str
    inherits: tuple[str, ...]
    keys: tuple[Key, ...]


def read(path: Path) -> Commented:
    """Read a YAML of ``conf/``."""
    text = path.read_text(encoding="utf-8")
    top = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            top.append(line.lstrip("# "))
    node = yaml.compose(text)
    value = yaml.safe_load(text) or {}
    inherits = [
        item if isinstance(item, str) else ": ".join(map(str, *item.items())) for item in value.get("defaults", ())
    ]
    keys = tuple(_keys(node, text, "")) if isinstance(node, yaml.MappingNode) else ()
    return Commented(
        " ".join(top), str(value.get("_target_") or ""), tuple(name for name in inherits if name != "_self_"), keys
    )


def _keys(node: yaml.MappingNode, text: str, prefix: str) -> Iterator[Key]:
    for name, value in node.value:
        if name.value == "_target_" or (not prefix and name.value in HYDRAS):
            continue
        full = prefix + name.value
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if comment := _comment(text, name.end_mark.index + 1):
                yield Key(full, "", comment)
            yield from _keys(value, text, f"{full}.")
        else:
            written = text[value.start_mark.index : value.end_mark.index]
            yield Key(full, written, _comment(text, value.end_mark.index))


def _comment(text: str, after: int) -> str:
    """The comment that follows on the same line."""
    rest = text[after:].partition("\n")[0].strip()
    return rest.lstrip("# ") if rest.startswith("#") else ""
