"""Results in words: Jinja with the pages and sentences in ``templates``; a leaderboard needs none, and imports none."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.analysis import metric_names as names
from cnnbench.config.settings import show

if TYPE_CHECKING:
    from jinja2 import Environment


def sentences(macro: str, *about: Any) -> list[str]:
    """What a macro of ``sentences.txt`` says of its arguments; a paragraph is a sentence."""
    text = getattr(environment().get_template("sentences.txt").module, macro)(*about)
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


@cache
def environment() -> Environment:
    """Jinja with our words for metrics and numbers; whatever goes into a ``.html`` is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    is_html = select_autoescape(["html"], default=False)
    made = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, autoescape=is_html)
    made.filters.update(metric=names.title, unit=names.unit, number=names.number, plural=names.plural, show=show)
    made.filters["cell"] = lambda text: " ".join(text.split()).replace("|", "\\|")
    made.tests["share"] = names.is_share
    made.globals.update(names=names, say=sentences)
    return made
