"""Runs that go on at the same time are spread over the GPUs; no GPU is needed to show it."""

from __future__ import annotations

import pytest

from cnnbench.config.compose import compose
from cnnbench.sweep.pool import GpuSlots
from cnnbench.utils.environment import cores, runs_at_once

ONE = {"accelerator": "auto", "devices": 1}


def test_as_many_runs_go_on_as_the_gpus_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3,5")
    assert runs_at_once("auto", 1) == 3 and runs_at_once("gpu", 4) == 12
    assert runs_at_once("cpu", 4) == cores()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert runs_at_once("auto", 4) == cores()


def test_no_slot_is_given_twice_and_the_gpus_fill_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    slots = GpuSlots(2)
    assert [slots.take(ONE) for _ in range(5)] == [["0"], ["3"], ["0"], ["3"], None]
    slots.free.update(["3"])
    assert slots.take(ONE) == ["3"] and slots.take(ONE) is None


def test_a_run_on_several_gpus_waits_for_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3,5")
    slots, two = GpuSlots(1), {"accelerator": "auto", "devices": 2}
    assert slots.take(two) == ["0", "3"] and slots.take(two) is None
    slots.free.update(["0", "3"])
    assert slots.take({"accelerator": "gpu", "devices": "auto"}) == ["0", "3", "5"]


@pytest.mark.parametrize(
    ("visible", "accelerator", "devices"), [("0", "auto", 1), ("0,1", "cpu", 1), ("0,1", "gpu", [1])]
)
def test_where_there_is_nothing_to_choose_nothing_is(
    monkeypatch: pytest.MonkeyPatch, visible: str, accelerator: str, devices: int | list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert GpuSlots(1).take({"accelerator": accelerator, "devices": devices}) == []


@pytest.mark.parametrize(
    ("launcher", "together"),
    [("basic", 1), ("local", 1), ("parallel hydra.launcher.n_jobs=3", 3), ("submitit_slurm", 10), ("ray", 10),
     ("joblib", cores())],
)  # fmt: skip
def test_a_search_draws_as_many_runs_as_go_on_at_a_time(launcher: str, together: int) -> None:
    asked = [f"hydra/launcher={launcher.split()[0]}", *launcher.split()[1:], "hydra/sweeper=optuna"]
    assert compose(asked, hydra=True).hydra.sweeper.at_a_time == together
