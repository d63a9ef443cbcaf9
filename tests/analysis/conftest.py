"""``runs`` writes made-up run folders below tmp_path."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import Folders


@pytest.fixture
def runs(tmp_path: Path) -> Folders:
    """Somewhere to put made-up runs."""
    return Folders(tmp_path / "sweep")


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no figure into a report: that is most of a small report's time."""
    monkeypatch.setattr("cnnbench.analysis.report.html.svg", lambda *_: "<svg></svg>")
