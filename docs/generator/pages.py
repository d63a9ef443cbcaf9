"""All the reference pages: their paths in the site, their order in the menu, their text."""

from __future__ import annotations

from typing import Any

from generator import commands, configuration, python_api, record, studies

FOLDER = "reference"


def menu() -> list[Any]:
    """The pages as MkDocs' ``nav`` has them."""
    groups = [{group: f"{FOLDER}/config/{group}.md"} for group in configuration.groups_shown()]
    return [
        {"Commands": f"{FOLDER}/commands.md"},
        {"Configuration": [f"{FOLDER}/config/index.md", *groups]},
        {"Studies": f"{FOLDER}/studies.md"},
        {"Python": f"{FOLDER}/python.md"},
        {"result.json": f"{FOLDER}/record.md"},
    ]


def make() -> dict[str, str]:
    """Markdown by path in the site."""
    made = {
        "commands.md": commands.page(),
        "config/index.md": configuration.overview(),
        "studies.md": studies.page(),
        "python.md": python_api.page(),
        "record.md": record.page(),
    }
    made |= {f"config/{group}.md": configuration.page(group) for group in configuration.groups_shown()}
    return {f"{FOLDER}/{path}": text for path, text in made.items()}
