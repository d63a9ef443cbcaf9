"""Results in sentences, which ``templates/sentences.txt`` words."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from cnnbench.analysis import metric_names


def sentences(macro: str, subject: Any) -> list[str]:
    """What a macro of the template says about ``subject``; a paragraph is a sentence."""
    paragraphs = re.split(r"\n\s*\n", getattr(_macros(), macro)(subject))
    return [" ".join(text.split()) for text in paragraphs if text.strip()]


@cache
def _macros() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=templates, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(plural=metric_names.plural, metric=metric_names.title)
    environment.globals["names"] = metric_names
    return environment.get_template("sentences.txt").module
