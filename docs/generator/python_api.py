"""The functions and classes for use from Python, from their signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import cnnbench
from cnnbench.inference.load import TrainedRun
from cnnbench.utils.errors import RequestError
from generator.text import block, document, plain

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")


def page() -> str:
    """The page of all that ``cnnbench`` offers."""
    parts = [
        "After this page you know what each function takes, gives and raises. [From Python](../python.md) shows them."
    ]
    for name in cnnbench.__all__:
        function = getattr(cnnbench, name)
        parts += [f"## cnnbench.{name}", signature(function, name), *docstring(function)]
    parts += ["## TrainedRun", "What `load_run` returns.", *docstring(TrainedRun)]
    for name, method in vars(TrainedRun).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            parts += [f"### TrainedRun.{name}", signature(method, name), *docstring(method)]
    parts += ["## cnnbench.utils.errors.RequestError", *docstring(RequestError)]
    return document("Python", *parts)


def signature(function: Any, name: str) -> str:
    """A call with its types, a parameter a line where they are many."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", f"{name}{inspect.signature(function)}")  # types without their quotes
    if len(text) > 90:
        head, _, tail = text.partition("(")
        arguments, _, result = tail.rpartition(")")
        text = f"{head}(\n    " + ",\n    ".join(re.split(r", (?=\w+:|\*)", arguments)) + f",\n){result}"
    return block(text, "python")


def docstring(thing: Any) -> list[str]:
    """A docstring of Google's style as paragraphs and lists."""
    parts: list[str] = []
    for paragraph in (inspect.getdoc(thing) or "").split("\n\n"):
        first, *lines = paragraph.split("\n")
        if SECTION.match(first):
            parts += [f"**{first[:-1]}**", entries(inspect.cleandoc("\n".join(lines)))]
        else:
            parts.append(marked(" ".join(paragraph.split())))
    return parts


def entries(text: str) -> str:
    """``name: what`` entries as a list; a text without names as it is."""
    joined: list[str] = []
    for line in text.split("\n"):
        if line.startswith(" ") and joined:
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    named = [re.match(r"([\w*, ]+): (.*)", line) for line in joined]
    if not all(named):
        return marked(" ".join(joined))
    return "\n".join(f"- `{match[1]}`: {marked(match[2])}" for match in named if match)


def marked(text: str) -> str:
    """Code in two backticks, and all else as it stands."""
    pieces = text.split("``")
    return "".join(f"`{piece}`" if place % 2 else plain(piece) for place, piece in enumerate(pieces))
