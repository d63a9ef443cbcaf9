"""What the title of a table says of a budget, read from the records of made-up runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnbench.analysis.runs import Run
from cnnbench.analysis.studies.budget import budget, common_overrides, is_short, overrides
from cnnbench.analysis.studies.study import Row

MNIST = {"source": {"_target_": "cnnbench.data.sources.Torchvision", "dataset": "MNIST"}}
ROW = Row("plain", "", {}, {"trainer": {"max_epochs": 30}, "data": {**MNIST, "validation": 0.1, "limit_train": None}})


def run(
    status: str = "completed",
    epochs: int = 30,
    images: int = 54_000,
    data: str = "MNIST",
    steps: int = 844,
    **more: Any,
) -> Run:
    """A run of ROW as published, or as asked for."""
    record = {
        "config": {"trainer": {"max_epochs": more.get("max_epochs", 30)}, "data": {"batch_size": 64}},
        "data": {"name": data, "train": images},
        "history": {"step": [steps * (epoch + 1) for epoch in range(epochs)]},
        "overrides": more.get("overrides", []),
    }
    return Run(Path("/runs/0"), status, record, {})


@pytest.mark.parametrize(
    "asked, told",
    [
        ({}, ""),
        ({"images": 54_010}, ""),  # a stratified split is not exact
        ({"epochs": 2}, "a smaller budget: 2 of 30 epochs"),  # stopped early, though 30 were asked for
        ({"epochs": 50}, "a larger budget: 50 of 30 epochs"),
        ({"images": 160, "steps": 3}, "a smaller budget: 160 of 54,000 training images"),
        ({"epochs": 50, "images": 160, "steps": 3}, "another budget: 50 of 30 epochs, 160 of 54,000 training images"),
        (
            {"data": "Digits", "images": 1_000, "steps": 3},
            "a smaller budget: 3 of 16 steps an epoch; other images: Digits instead of MNIST (1,000 training images)",
        ),
        ({"data": "ImageFolder"}, "other images: ImageFolder instead of MNIST (54,000 training images)"),
        ({"steps": 10}, "a smaller budget: 10 of 844 steps an epoch"),
        ({"status": "diverged", "epochs": 1}, ""),
        ({"status": "failed", "epochs": 0}, ""),
        ({"status": "diverged", "epochs": 1, "max_epochs": 3}, "a smaller budget: 3 of 30 epochs"),
    ],
)
def test_the_title_says_how_the_budget_differs(asked, told):
    assert budget([ROW], {"plain": [run(**asked)]}) == told


def test_short_is_less_training_on_whatever_set():
    assert not is_short(ROW, [run(), run(epochs=50), run(images=54_010), run(data="ImageFolder")])
    assert is_short(ROW, [run(), run(epochs=29)])
    assert is_short(ROW, [run(images=160, steps=3)])
    assert is_short(ROW, [run(data="ImageFolder", images=5_000, steps=79)])
    assert is_short(ROW, [run(steps=10)])
    assert not is_short(ROW, [run(status="diverged", epochs=1)])


def test_runs_of_different_budgets_are_all_told():
    runs = {"plain": [run(epochs=4), run(epochs=50), run(epochs=7), run(epochs=5)]}
    assert budget([ROW], runs) == "another budget: 4 to 7 of 30 epochs, 50 of 30 epochs"


def test_overrides_are_those_that_are_not_the_study_s_own():
    own = ["experiment=s/plain", "seed=1", "study.form=published", "sweep.repeat_failed=true"]
    runs = [
        run(overrides=[*own, "data.path=/home/me/set", "optimizer.lr=0.1"]),
        run(overrides=[*own, "data.path=/home/me/set"]),
    ]
    assert overrides({"plain": runs}) == ["data.path=set", "optimizer.lr=0.1"]
    assert common_overrides(runs) == ["data.path=/home/me/set"]
