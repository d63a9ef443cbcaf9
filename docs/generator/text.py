"""Markdown from plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    """``text`` as it stands, nothing in it taken for markup."""
    return re.sub(r"([\\`*_<>\[\]|#~])", r"\\\1", text)


def code(text: str) -> str:
    """``text`` as code, also in a table."""
    shown = text.replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`" if shown else ""


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def block(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def document(title: str, *parts: str) -> str:
    """A page of paragraphs."""
    return "\n\n".join([f"# {title}", *(part for part in parts if part)]) + "\n"
