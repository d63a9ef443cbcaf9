"""Runs that go on at the same time are spread over the GPUs; no GPU is needed to show it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnnbench.config.compose import compose
from cnnbench.sweep.gpus import own_gpus
from cnnbench.utils.environment import cores, runs_at_once

CONFIG = {"trainer": {"accelerator": "auto", "devices": 1}, "sweep": {"runs_per_gpu": 2}}


def test_as_many_runs_go_on_as_the_gpus_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3,5")
    assert runs_at_once("auto", 1) == 3 and runs_at_once("gpu", 4) == 12
    assert runs_at_once("cpu", 4) == cores()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert runs_at_once("auto", 4) == cores()


def test_no_place_is_given_twice_and_the_gpus_fill_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    lock, running, seen = threading.Lock(), Counter[str](), []

    def run(number: int) -> None:
        with own_gpus(tmp_path, CONFIG) as environ:
            name = environ["CUDA_VISIBLE_DEVICES"]
            with lock:
                running[name] += 1
                seen.append((name, dict(running)))
            time.sleep(0.05)
            with lock:
                running[name] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(16)))
    assert all(count <= 2 for _, counts in seen for count in counts.values())
    assert {name for name, _ in seen[:2]} == {"0", "3"}
    assert len(seen) == 16


def test_a_run_on_several_gpus_waits_for_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3,5")
    config = {"trainer": {"accelerator": "auto", "devices": 2}, "sweep": {"runs_per_gpu": 1}}
    lock, running, seen = threading.Lock(), Counter[str](), []

    def run(number: int) -> None:
        with own_gpus(tmp_path, config) as environ:
            names = environ["CUDA_VISIBLE_DEVICES"].split(",")
            with lock:
                running.update(names)
                seen.append((len(set(names)), max(running.values())))
            time.sleep(0.05)
            with lock:
                running.subtract(names)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert seen == [(2, 1)] * 4


def test_where_there_is_nothing_to_choose_nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with own_gpus(tmp_path, CONFIG) as environ:
        assert environ == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with own_gpus(tmp_path, {**CONFIG, "trainer": {"accelerator": "cpu", "devices": 1}}) as environ:
        assert environ == {}


@pytest.mark.parametrize(
    ("launcher", "together"),
    [("basic", 1), ("parallel hydra.launcher.n_jobs=3", 3), ("submitit_slurm", 10), ("ray", 10), ("joblib", cores())],
)
def test_a_search_draws_as_many_runs_as_go_on_at_a_time(launcher: str, together: int) -> None:
    asked = [f"hydra/launcher={launcher.split()[0]}", *launcher.split()[1:], "hydra/sweeper=optuna"]
    assert compose(asked, hydra=True).hydra.sweeper.at_a_time == together
