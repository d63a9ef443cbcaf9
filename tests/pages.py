"""The pages of the documentation as the tests read them: their blocks, and their links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from helpers import ROOT

# Pages under docs/reproductions are written by `cnnbench reproduce`, with the command that made them.
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "reproductions" not in path.parts),
]


def name(page: Path) -> str:
    """The page as a test names it."""
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A block of code: its language, the file that its title names (or nothing), and what is in it."""

    language: str
    title: str
    text: str

    def commands(self) -> list[str]:
        """The command lines of a block of shell commands."""
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    found = re.findall(r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [Block(*groups) for groups in found]


def links(page: Path) -> list[str]:
    """What the links and pictures outside blocks lead to, but for addresses in the web."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """The places of a page's headings, as GitHub and MkDocs name them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
