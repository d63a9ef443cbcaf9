"""On a GPU: a captured step trains as an ordinary one does, runs repeat and resume to the bit, batches are those of a CPU."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SMALL, cnnbench, config, installed
from same import differences

from cnnbench.config.groups import groups
from cnnbench.data.loader import BatchLoader, ImageTensors
from cnnbench.training import build
from cnnbench.training import train as training
from cnnbench.utils.record import read_record

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
ON_GPU = [*SMALL, "trainer.accelerator=gpu", "data.batch_size=24", "data.limit_train=184", "trainer.max_epochs=3"]


def go(folder: Path, *overrides: str) -> dict[str, Any]:
    record = training.train(config(*overrides, base=ON_GPU), folder)
    assert record["status"] == "completed", record["error"]
    assert record["environment"]["device"].startswith("cuda")
    return record


@pytest.mark.parametrize("name", [name for name in groups()["optimizer"] if installed(name)])
def test_captured_steps_train_as_ordinary_ones(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(name), replay(graph))[1])
    losses = [
        go(tmp_path / captured, f"optimizer={name}", f"cuda_graph={captured}")["history"]["train/loss"]
        for captured in ("true", "false")
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert bool(replays) == (name not in ("lamb", "lion", "muon", "sam", "schedulefree"))  # those are not torch's own


@pytest.mark.parametrize("model", ["tiny_cnn", "three_layer_cnn model.norm=batch", "lenet model.dropout=0.3"])
def test_two_runs_agree_to_the_bit_if_asked(tmp_path: Path, model: str) -> None:
    asked = [f"model={model.split()[0]}", *model.split()[1:], "data.image_size=28", "augment=flip_crop"]
    records = [go(tmp_path / name, *asked, "trainer.deterministic=true") for name in ("one", "two")]
    assert records[0]["model"]["sha256"] == records[1]["model"]["sha256"]


@pytest.mark.parametrize("asked", [
    ["optimizer=adam", "scheduler=cosine", "augment=flip_crop", "model.hidden=[16]", "model.dropout=0.3"],
    ["optimizer=switch", "scheduler=onecycle", "model.norm=batch"],
    ["optimizer=momentum", "scheduler=exp", "average=ema", "trainer.gradient_clip_val=0.5"],
    ["optimizer=rmsprop", "scheduler=plateau", "data.storage=stream", "data.workers=1"],
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("captured", ["true", "false"])
def test_a_stopped_run_goes_on_to_the_same_result(
    tmp_path: Path, asked: list[str], captured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = [
        f"+callbacks.fault.{key}" for key in ("_target_=faults.Fault", "how=term", "step=13", f"folder='{tmp_path}'")
    ]
    asked = [*asked, "trainer.deterministic=true", f"cuda_graph={captured}", "steps_per_execution=2"]
    go(tmp_path / "whole", *asked)
    part = training.train(config(*asked, *fault, base=ON_GPU), tmp_path / "part")
    assert part["status"] == "interrupted", part["error"]
    monkeypatch.setattr("cnnbench.data.loader.GPU_BLOCK_BYTES", 1)  # in blocks of another length, which must not matter
    assert go(tmp_path / "part", *asked, *fault)["resumed"]
    assert not differences(tmp_path / "whole", tmp_path / "part")


COMPILES = pytest.mark.skipif(
    not (find_spec("triton") and shutil.which("cc")), reason="torch.compile needs triton and a C compiler"
)


@pytest.mark.parametrize(
    "asked",
    ["trainer.precision=16-mixed", "trainer.precision=bf16-mixed", pytest.param("compile=true", marks=COMPILES)],
)
def test_other_precisions_and_a_compiled_network_learn_the_same(tmp_path: Path, asked: str) -> None:
    losses = [go(tmp_path / f"{bool(more)}", *more)["history"]["train/loss"] for more in ([], [asked])]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.1)  # 16-mixed leaves out its first steps, to find a scale
    assert losses[1][-1] < losses[1][0]


@pytest.mark.parametrize("augment", groups()["augment"])
def test_batches_are_those_of_a_cpu(augment: str, cache: Path) -> None:
    cfg = config(f"augment={augment}", "data.batch_size=7", "augment.flip=0.5")
    data = build.build_data(cfg)
    arrays = (data.prepared.arrays[f"train_{kind}"] for kind in ("images", "labels"))
    images, labels = (np.array(array[:40]) for array in arrays)

    def batches(device: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        where = torch.device(device)
        normalize = data.train_dataloader().normalize
        made = BatchLoader(ImageTensors.from_arrays(images, labels, where), 7, normalize, augment=data.augment,
                           classes=10, shuffle=True, device=where)  # fmt: skip
        return [(image.cpu(), label.cpu()) for group in made for image, label in group]

    level = 1.1 / 255 / min(data.statistics()[1])
    for on_cpu, on_gpu in zip(batches("cpu"), batches("cuda"), strict=True):
        differ = ~torch.isclose(on_gpu[0], on_cpu[0], rtol=1e-5, atol=level)
        assert differ.float().mean() < 0.01  # a coordinate on a half may be rounded to the other pixel
        torch.testing.assert_close(on_gpu[1], on_cpu[1])


def test_processes_of_a_sweep_train_on_the_gpu(tmp_path: Path) -> None:
    asked = ["hydra/launcher=parallel", "sweep.runs_per_gpu=3", "hydra.sweep.dir=sweep", "logger=none", "seed=range(5)"]
    cnnbench("-m", *ON_GPU, *asked, cwd=tmp_path, check=0, fresh=True, CUDA_VISIBLE_DEVICES="0")
    records = [read_record(folder.parent) for folder in (tmp_path / "sweep").rglob("result.json")]
    assert [record["environment"]["device"] for record in records] == ["cuda:0"] * 5
