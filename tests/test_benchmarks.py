"""What is compared in ``benchmarks/`` still runs, and a stack of networks learns what each of them would learn alone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from helpers import config

from benchmarks.cases import CASES, GRID, Case, make_data
from benchmarks.rows import BASE, DEFAULT, GPU_ONLY, ROWS
from benchmarks.stack import Stack
from benchmarks.stacked import network, separate, stacked
from cnnbench.training import build

CPU = torch.device("cpu")
SMALL = Case("small-16", "tiny_cnn", 1, 28, 16, 64, 64, augment="flip_crop")
NETWORKS = {
    "tiny_cnn": ["tiny_cnn"],
    "batch norm": ["three_layer_cnn", "model.norm=batch"],
    "separable": ["tiny_cnn", "model.groups=separable"],
    "sigmoid": ["mlp", "model.hidden=[64,64]"],
}


@pytest.mark.parametrize("row", [row for row in ROWS if row not in (*GPU_ONLY, "cnnbench-compile")])
def test_every_row_trains(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    assert ROWS[row](SMALL, make_data(SMALL, 64, tmp_path), CPU)(1) > 0


def test_rows_and_cases_that_are_compared_by_default_exist() -> None:
    assert {row for rows in DEFAULT.values() for row in rows} <= set(ROWS)
    assert all(BASE[device] in DEFAULT[device] for device in DEFAULT)
    assert set(GRID) <= set(CASES["cuda"])
    assert all(case.name == name for cases in CASES.values() for name, case in cases.items())


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_stack_learns_as_its_networks_do_alone(kind: str) -> None:
    model, *more = NETWORKS[kind]
    cfg = config(f"model={model}", "data.image_size=28", *more)
    data = build.build_data(cfg)
    networks, optimizers = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        networks.append(build.build_network(cfg, data).train())
    alone = copy.deepcopy(networks)
    stack = Stack(networks)
    for group in (networks, alone):
        optimizers.append(
            [torch.optim.SGD(one.parameters(), lr=0.01 * (seed + 1), momentum=0.9) for seed, one in enumerate(group)]
        )
    store = data.prepared
    for _ in range(3):
        images = torch.randn(3, 8, store.channels, store.image_size, store.image_size)
        labels = torch.randint(len(data.classes), (3, 8))
        losses, logits = stack.backward(images, labels)
        for seed, one in enumerate(alone):
            own = one(images[seed])
            loss = torch.nn.functional.cross_entropy(own, labels[seed])
            loss.backward()
            torch.testing.assert_close(logits[seed], own, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(losses[seed], loss, rtol=1e-3, atol=1e-4)
        for of_stack, of_one in zip(*optimizers, strict=True):
            of_stack.step()
            of_one.step()
            of_one.zero_grad()
        stack.zero_grad()
    for together, one in zip(networks, alone, strict=True):
        for (name, value), own in zip(together.state_dict().items(), one.state_dict().values(), strict=True):
            torch.testing.assert_close(value, own, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_stacked_runs_and_separate_ones_are_the_same_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    data = make_data(SMALL, 64, tmp_path)
    rates = [network(SMALL, data, CPU, seed)[1].param_groups[0]["lr"] for seed in range(3)]
    assert len(set(rates)) == 3
    assert len(separate(SMALL, data, CPU, [0, 1], 2)) == len(stacked(SMALL, data, CPU, 2, 2)) == 2
