"""Called by MkDocs: adds to the site, and to its menu, the pages that ``generator`` makes from the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from generator import pages

ROOT = Path(__file__).parent.parent
MEASURED = ("benchmarks/README.md", "benchmarks.md")  # a page that lies beside what it is about: its place, and here


def on_config(config: Any) -> None:
    """Put what is made here at the end of the menu."""
    config.nav[-2]["Ideas"].append({"Speed, measured": MEASURED[1]})
    config.nav.append({"Reference": pages.menu()})


def on_files(files: Files, config: Any) -> None:
    """Make the pages."""
    for path, text in pages.make().items():
        files.append(File.generated(config, path, content=text))
    measured = (ROOT / MEASURED[0]).read_text(encoding="utf-8").replace("](../docs/", "](")
    files.append(File.generated(config, MEASURED[1], content=measured))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to a page outside docs/, which are right in the repository, lead to its copy in the site."""
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"](../{up}{MEASURED[0]}", f"]({up}{MEASURED[1]}")


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """Refuse a page that would load anything from elsewhere: the site is to work without a network.

    Raises:
        PluginError: it would.
    """
    if found := re.search(
        r'<(?:script|img|iframe)[^>]*\bsrc="(?:https?:)?//[^>]*>|<link[^>]*\bhref="(?:https?:)?//[^>]*>', output
    ):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {found[0]}")
