"""``cnnbench list``: the config groups and their choices, each with the first line of its YAML."""

from __future__ import annotations

from collections.abc import Sequence

from cnnbench.config import CONFIG_DIR, groups
from cnnbench.errors import one_of


def listing(asked: Sequence[str] = ()) -> str:
    """A text with every group, or those asked for; ``group=choice`` shows the whole YAML with its comments.

    Raises:
        RequestError: there is no such group or choice.
    """
    known = groups()
    parts = []
    for name in asked or known:
        group, _, choice = name.partition("=")
        one_of("group", group, known)
        if choice:
            one_of(group, choice, known[group])
            parts.append((CONFIG_DIR / group / f"{choice}.yaml").read_text(encoding="utf-8").rstrip())
        else:
            width = max(map(len, known[group]))
            parts.append("\n".join([group, *(f"  {c:<{width}}  {headline(group, c)}" for c in known[group])]))
    return "\n\n".join(parts)


def headline(group: str, choice: str) -> str:
    """The first comment of a choice's YAML, after what is addressed to Hydra."""
    with (CONFIG_DIR / group / f"{choice}.yaml").open(encoding="utf-8") as file:
        return next((line.lstrip("# ").strip() for line in file if not line.startswith("# @package")), "")
