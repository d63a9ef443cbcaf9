"""What is compared in ``benchmarks/`` still runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn

from benchmarks import error_rates_choice, peers, step
from benchmarks.__main__ import not_measurable
from benchmarks.cases import CASES, GRID, Case, make_data
from benchmarks.rows import BASE, DEFAULT, GPU_ONLY, ROWS
from cnnbench.analysis.statistics import compare

CPU = torch.device("cpu")
SMALL = Case("small-16", "tiny_cnn", 1, 28, 16, 64, 64, augment="flip_crop")
PEERS_SMALL = Case("small-16", "tiny_cnn", 1, 28, 16, 320, 320)


@pytest.mark.parametrize("row", [row for row in ROWS if row not in (*GPU_ONLY, "cnnbench-compile")])
def test_every_row_trains(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    result = ROWS[row](SMALL, make_data(SMALL, 64, tmp_path), CPU)(1)
    assert result.seconds > 0 and result.processor > 0
    assert result.loss == pytest.approx(2.3, abs=0.4)  # that of ten classes before anything is learned is 2.303


def need(row: str) -> None:
    if why := peers.missing(row):
        pytest.skip(why)


@pytest.mark.parametrize("row", peers.PEERS)
def test_the_loss_of_every_other_library_falls_as_the_floors(row: str, tmp_path: Path) -> None:
    need(row)
    data = make_data(PEERS_SMALL, 320, tmp_path)
    floors, others = ROWS["floor"](PEERS_SMALL, data, CPU), peers.build(row, PEERS_SMALL, data)
    first, later = others(1), others(3)
    assert first.loss == pytest.approx(floors(1).loss, rel=0.2)  # its initial weights are other ones
    assert later.loss == pytest.approx(floors(3).loss, rel=0.35) and later.loss < 0.9 * first.loss
    assert later.seconds > 0 and later.processor > 0


@pytest.mark.parametrize("convolution", ["convolve", "multiply_patches"])
def test_jax_computes_what_torch_does(convolution: str) -> None:
    need("jax")
    from benchmarks.peers import in_jax

    weights = {key: np.array(of) for key, of in in_jax.initial_weights(1, 28).items()}
    images = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype("float32")
    expected = torch.from_numpy(images).permute(0, 3, 1, 2)
    for layer in range(2):
        kernel, bias = (torch.from_numpy(weights[f"{kind}{layer}"]) for kind in ("kernel", "bias"))
        expected = nn.functional.conv2d(expected, kernel.permute(3, 2, 0, 1), bias, padding=1)
        expected = nn.functional.max_pool2d(expected.relu(), 2)
    expected = expected.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(weights["head"])
    logits = in_jax.forward(weights, images, getattr(in_jax, convolution))
    np.testing.assert_allclose(logits, expected + torch.from_numpy(weights["bias"]), atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_jax_takes_torchs_steps(optimizer: str) -> None:
    need("jax")
    import jax.numpy as jnp

    from benchmarks.peers import in_jax

    options = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    reference = options[optimizer]([weight], peers.RATES[optimizer])
    ours, zeros = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.zeros(2)}
    state = (jnp.zeros(()), zeros, zeros)
    for gradient in ([0.5, -1.0], [0.1, 3.0], [-2.0, 0.0]):
        weight.grad = torch.tensor(gradient)
        reference.step()
        rate = jnp.float32(peers.RATES[optimizer])
        ours, state = in_jax.update(optimizer, ours, {"w": jnp.array(gradient)}, state, rate)
    np.testing.assert_allclose(ours["w"], weight.detach(), rtol=1e-5)


def test_what_other_libraries_cannot_do_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    why = not_measurable(["floor-tuned", "jax"], ["alexnet-64"], "cpu")
    assert why == "jax: written for tiny_cnn-16 and tiny_cnn-64 on a CPU alone, not for alexnet-64"
    monkeypatch.setitem(peers.PEERS, "jax", ("in_jax", {}, ("no_such_library",)))
    assert peers.missing("jax") == "jax needs no_such_library: pip install -e '.[peers]'"
    assert not_measurable(["floor-tuned", "usual"], ["alexnet-64", "sweep"], "cpu") is None


def test_learning_rates_are_those_of_torchs_schedules() -> None:
    for name in ("cosine", "exp"):
        optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
        schedulers = torch.optim.lr_scheduler
        schedule: Any = (
            schedulers.CosineAnnealingLR(optimizer, 5) if name == "cosine" else schedulers.ExponentialLR(optimizer, 0.9)
        )
        expected = []
        for _ in range(5):
            expected += schedule.get_last_lr()
            optimizer.step()
            schedule.step()
        assert peers.learning_rates(0.1, name, 5) == pytest.approx(expected)


def test_the_time_of_processes_that_outlive_their_parent_counts() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])"
    code = f"from benchmarks import processes as p; p.adopt_orphans(); p.run('-c', {parent!r}); print(p.children_seconds())"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert float(ended.stdout) > 0.3


def test_a_step_is_taken_apart(tmp_path: Path) -> None:
    case = replace(SMALL, augment="none", batch_size=10)
    columns = step.measure(case, steps=2, turns=1, peak=1e9, bandwidth=1e9)
    convolutions = 2 * 28 * 28 * 16 * 9, 2 * 14 * 14 * 4 * 16 * 9  # FLOPs of an image
    flops = 10 * (2 * convolutions[0] + 3 * convolutions[1] + 3 * 2 * 196 * 10)
    assert columns["arithmetic"] == pytest.approx(1000 * flops / 1e9)
    # outputs of convolutions, poolings (after which ReLU is in place) and the linear layer, and 2,710 parameters
    outputs = 28 * 28 * 16 + 14 * 14 * 16 + 14 * 14 * 4 + 7 * 7 * 4 + 10
    moved = 4 * (10 * (2 * 28 * 28 + 5 * outputs) + 10 * 2710)
    assert columns["memory"] == pytest.approx(1000 * moved / 1e9)
    assert sum(columns[kind] for kind in (*step.SHARES, "other")) == pytest.approx(1)
    assert columns["convolution"] > 0 and columns["of peak"] == pytest.approx(columns["arithmetic"] / columns["passes"])


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
