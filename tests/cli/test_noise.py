"""``cnnbench noise``: its sweep can be repeated and extended, and its numbers are statsmodels' and NumPy's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, cnnbench
from scipy.stats import chi2
from statsmodels.stats.power import TTestIndPower

from cnnbench.analysis.images import correct_answers, split_spread
from cnnbench.analysis.power import smallest_difference
from cnnbench.analysis.runs import collect
from cnnbench.analysis.statistics import std_interval

FAST = [*SMALL, "trainer.max_epochs=1", "sweep.isolate=false", "logger=none", "callbacks.figures.pictures=false"]


def test_the_smallest_difference_is_statsmodels() -> None:
    for n in (2, 3, 5, 10, 20):
        effect = TTestIndPower().solve_power(nobs1=n, alpha=0.05, power=0.8)
        assert smallest_difference(0.004, n) == pytest.approx(0.004 * effect, rel=1e-4)


def test_the_interval_of_a_standard_deviation_holds_it_in_95_percent_of_samples() -> None:
    low, high = std_interval(2.0, 5)
    assert (low, high) == pytest.approx(tuple(2 * np.sqrt(4 / chi2.ppf([0.975, 0.025], 4))))
    drawn = np.random.default_rng(0).normal(0, 3, (4000, 5)).std(axis=1, ddof=1)
    assert np.mean([low < 3 < high for low, high in (std_interval(std, 5) for std in drawn)]) == pytest.approx(
        0.95, abs=0.015
    )


def test_noise_trains_what_is_left_and_tells_the_spread(tmp_path: Path) -> None:
    cnnbench("noise", *FAST, "--seeds", "2", cwd=tmp_path, check=0)
    (folder,) = (tmp_path / "outputs").iterdir()
    first = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    told = cnnbench("noise", *FAST, "--seeds", "3", cwd=tmp_path, check=0).stdout
    assert len(first) == 2 and "2 finished, 1 to do" in told and len([*folder.rglob("result.json")]) == 3
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())  # what is finished is kept
    runs = collect([folder])
    values = [100 * json.loads((run.path / "result.json").read_text())["metrics"]["test/accuracy"] for run in runs]
    parts = split_spread(correct_answers(runs))
    for amount in (
        f"mean test accuracy {np.mean(values):.2f} % over 3 seeds, standard deviation {np.std(values, ddof=1):.2f} points",
        f"{100 * parts.test_set:.2f} points are due to the finite test set and {100 * parts.training:.2f} points",
        *(f"n = {n}: {100 * smallest_difference(np.std(values, ddof=1) / 100, n):.2f} points" for n in (3, 5, 10, 20)),
    ):
        assert amount in told, (amount, told)
    again = cnnbench("noise", str(folder), cwd=tmp_path, check=0).stdout  # of a folder, without training
    assert re.sub(r"\s+", " ", again).strip() in re.sub(r"\s+", " ", told)
    one = cnnbench("noise", str(runs[0].path), cwd=tmp_path, check=0).stdout
    assert "over 1 seed: one has no spread" in one


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds", "1"], "--seeds must be at least 2, got 1"),
        (["seed=3"], "--seeds for that"),
        (["optimizer=sgd,adam"], "several values"),
        (["optimizer=adma"], "did you mean 'adam'?"),
        (["nope"], "neither an option nor an override"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = cnnbench("noise", *arguments, cwd=tmp_path, check=2)
    assert expected in done.stderr and done.stderr.count("\n") == 1 and not [*tmp_path.iterdir()]
