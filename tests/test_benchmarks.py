"""What is compared in ``benchmarks/`` still runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.cases import CASES, GRID, Case, make_data
from benchmarks.rows import BASE, DEFAULT, GPU_ONLY, ROWS

CPU = torch.device("cpu")
SMALL = Case("small-16", "tiny_cnn", 1, 28, 16, 64, 64, augment="flip_crop")


@pytest.mark.parametrize("row", [row for row in ROWS if row not in (*GPU_ONLY, "cnnbench-compile")])
def test_every_row_trains(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    assert ROWS[row](SMALL, make_data(SMALL, 64, tmp_path), CPU)(1) > 0


def test_rows_and_cases_that_are_compared_by_default_exist() -> None:
    assert {row for rows in DEFAULT.values() for row in rows} <= set(ROWS)
    assert all(BASE[device] in DEFAULT[device] for device in DEFAULT)
    assert set(GRID) <= set(CASES["cuda"])
    assert all(case.name == name for cases in CASES.values() for name, case in cases.items())
