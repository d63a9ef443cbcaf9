"""The published studies: the rows of each, what they change, the reported numbers, and the claims."""

from __future__ import annotations

from typing import Any

import yaml

from cnnbench.analysis.studies.study import Study, load_study, studies
from cnnbench.config.groups import CONFIG_DIR
from generator.text import code, document, plain, table


def page() -> str:
    """The page of all studies."""
    return document(
        "Studies",
        "After this page you know which published rows can be run, as `cnnbench experiment=STUDY/ROW`, and what each "
        "study concluded. `cnnbench reproduce STUDY` runs all rows and judges the claims; what that found stands under "
        "[reproductions](../reproductions/README.md).",
        *[part for name in studies() for part in section(load_study(name))],
    )


def section(study: Study) -> list[str]:
    """One study."""
    heading = ("row", "what it changes", *(f"{column.heading}, reported" for column in study.columns))
    rows = []
    for name in study.rows:
        path = CONFIG_DIR / "experiment" / study.name / f"{name}.yaml"
        node = yaml.safe_load(path.read_text(encoding="utf-8"))["study"]
        numbers = [shown(node["reported"].get(column.key)) for column in study.columns]
        rows.append((code(name), plain(str(node["change"])), *numbers))
    claims = [(plain(claim.says), code(claim.holds)) for claim in study.claims]
    return [
        f"## {study.name}",
        plain(f"{study.title}. {study.report}."),
        table(heading, rows),
        table(("claim", "as a comparison"), claims) if claims else "",
        "\n\n".join(f"**{plain(name[0].upper() + name[1:])}.** {plain(text)}" for name, text in study.notes.items()),
    ]


def shown(reported: Any) -> str:
    """A reported number, a range of two, or nothing."""
    return " to ".join(map(str, reported)) if isinstance(reported, list) else "" if reported is None else str(reported)
