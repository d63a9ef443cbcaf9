"""What is compared in ``benchmarks/`` still runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import error_rates_choice
from benchmarks.cases import CASES, GRID, Case, make_data
from benchmarks.rows import BASE, DEFAULT, GPU_ONLY, ROWS
from cnnbench.analysis.statistics import compare

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


def test_error_rates_of_a_choice_and_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    by_val, by_test = (error_rates_choice.choose((5, 5), by, 10_000, random) for by in ("val", "test"))
    assert by_val.different < 0.05 + 0.007  # three standard errors
    assert by_test.test > by_val.test > 0.1 and by_val.optimism > 2 * by_val.test
    unequal = error_rates_choice.choose((5, 1), "test", 10_000, random)
    assert unequal.different > 0.06 and unequal.better > 0.025 + 0.03
    assert error_rates_choice.any_false_pair(10_000, random) < 0.05 + 0.007
    assert error_rates_choice.any_false_pair(10_000, random, corrected=False) > 0.3


def test_the_error_rates_are_of_the_reports_own_test() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, (4, 5))
    expected = [compare(dict(enumerate(row)), dict.fromkeys(range(5), 0.0)).p for row in differences.tolist()]
    assert error_rates_choice.p_values(differences) == pytest.approx(expected)
