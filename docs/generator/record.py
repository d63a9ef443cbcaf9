"""The fields of ``result.json``."""

from __future__ import annotations

from cnnbench.analysis.fields import FIELDS
from cnnbench.utils.record import SCHEMA
from generator.text import code, document, plain, table


def page() -> str:
    """The page of the record."""
    return document(
        "result.json",
        f"After this page you can read the record that every run leaves (schema {SCHEMA}). It is written whole or not "
        "at all, and what is not a finite number is null. `cnnbench.load_results` makes one table of many.",
        table(("field", "meaning"), [(code(name), plain(meaning)) for name, meaning in FIELDS.items()]),
    )
