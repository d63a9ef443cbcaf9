"""A run on several devices comes to what one process comes to, stops and goes on as one, and fails as one.

The devices are processes on the CPU here; what they do is the same on GPUs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT, SMALL, cnnbench, config
from same import differences, weights

from cnnbench.analysis.runs import read_run
from cnnbench.data.augment import Augment, Normalize
from cnnbench.data.loader import BatchLoader, ImageTensors
from cnnbench.training import preflight
from cnnbench.training import train as training
from cnnbench.training.callbacks.resume import resumable
from cnnbench.training.lr_finder import settle_lr
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record

# eight batches of 25 in each of two epochs, the last of 1; the validation set of 144 ends in a batch of 1 too
BASE = [text for text in SMALL if "limit_train" not in text]
BASE += ["data.batch_size=25", "data.limit_train=176", "data.eval_batch_size=13", "steps_per_execution=3"]
DDP = ["trainer=ddp", "trainer.accelerator=cpu"]
DROPOUT = ["model.hidden=[16]", "model.dropout=0.3"]


def fault(how: str, step: int, rank: int, folder: Path) -> list[str]:
    """Overrides that do ``how`` once, at this step of the process of this rank."""
    return [
        "+callbacks.fault._target_=faults.Fault", f"+callbacks.fault.how={how}", f"+callbacks.fault.step={step}",
        f"+callbacks.fault.rank={rank}", f"+callbacks.fault.folder='{folder}'",
    ]  # fmt: skip


def go(folder: Path, *overrides: str) -> dict[str, Any]:
    return training.train(config(*overrides, base=BASE), folder)


def epoch(batch: int, images: int, **options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of one process; the label of an image is its number, and so is its first pixel if it is not moved."""
    pixels = torch.arange(images * 16, dtype=torch.int64).remainder(251).to(torch.uint8).view(images, 4, 4, 1)
    data = ImageTensors(pixels, torch.arange(images))
    loader = BatchLoader(data, batch, Normalize([0.0], [1.0]), batches_per_step=2, **options)
    loader.set_epoch(3)
    return [(image.clone(), label.clone()) for chunk in loader for image, label in chunk]


@pytest.mark.parametrize(("batch", "images", "world"), [(8, 40, 2), (7, 37, 2), (7, 36, 3), (10, 52, 4), (9, 5, 3)])
@pytest.mark.parametrize("workers", [None, 0])
@pytest.mark.parametrize("more", [{}, {"rotate": 30.0, "policy": "trivial", "mixup": 0.4, "cutmix": 1.0}], ids=str)
def test_the_processes_share_each_batch(batch: int, images: int, world: int, workers: int | None, more: dict) -> None:
    augment = Augment(crop_padding=1, flip=0.5, **more)
    options = {"shuffle": True, "augment": augment, "workers": workers, "classes": images}
    whole = epoch(batch, images, **options)
    shares = [epoch(batch, images, rank=rank, world=world, **options) for rank in range(world)]
    assert {len(share) for share in shares} == {len(whole)}
    for number, (pixels, labels) in enumerate(whole):
        for rank, share in enumerate(shares):
            mine = slice(rank, None, world) if rank < len(labels) else slice(0, 1)  # a copy, of no weight
            assert torch.equal(share[number][0], pixels[mine]) and torch.equal(share[number][1], labels[mine])


SAME = [
    "optimizer=momentum", "optimizer.lr=0.1", "scheduler=onecycle", "augment=flip_crop", "label_smoothing=0.1",
    "trainer.gradient_clip_val=1", "trainer.accumulate_grad_batches=3", "quirks.batch_recall=true",
    "quirks.train_in_eval_mode=true", "logger=tensorboard", "fine_tune=head_first", "fine_tune.frozen_epochs=1",
    "average=ema",
    "loss=weighted", "data.sampling=balanced", "metrics=[precision,f1,kappa,top5_accuracy,auroc,calibration_error,brier]",
]  # fmt: skip


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run in one process and in two."""
    folder = tmp_path_factory.mktemp("same")
    assert go(folder / "one", *SAME)["status"] == "completed"
    two = go(folder / "two", *SAME, *DDP)
    assert two["status"] == "completed", two["error"]
    return folder / "one", folder / "two"


def close(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(close(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(close, one, two))
    return one == two or one == pytest.approx(two, rel=1e-5, abs=1e-7)


def test_two_processes_learn_what_one_learns(one_and_two: tuple[Path, Path]) -> None:
    first, second = map(weights, one_and_two)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6, msg=name)


def test_their_metrics_are_those_of_the_whole_set(one_and_two: tuple[Path, Path]) -> None:
    one, two = map(read_record, one_and_two)
    assert {"train_eval/recall", "val/batch_recall", "train/loss"} <= one["history"].keys()
    for part in ("history", "metrics", "best", "confusion_matrix", "per_class"):
        assert close(one[part], two[part]), (part, one[part], two[part])
    for split in ("val", "test"):
        first, second = (read_run(folder).predictions(split) for folder in one_and_two)
        assert first is not None and second is not None and first.keys() == second.keys()
        assert all(np.allclose(first[name], second[name], rtol=1e-2, atol=1e-3) for name in first)
    assert [one["environment"]["devices"], two["environment"]["devices"]] == [1, 2]


def test_they_leave_one_set_of_files(one_and_two: tuple[Path, Path]) -> None:
    one, two = (
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "events" not in path.name)
        for folder in one_and_two
    )
    assert one == two and "result.json" in one and "checkpoints/best.ckpt" in one
    assert len(list((one_and_two[1] / "tensorboard").glob("events*"))) == len(
        list((one_and_two[0] / "tensorboard").glob("events*"))
    )


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    asked = [*DDP, "trainer.devices=3", "optimizer=adam", "model.norm=batch", "average=ema", *DROPOUT]
    go(tmp_path / "whole", *asked)
    part = go(tmp_path / "part", *asked, *fault("term", 10, 0, tmp_path))
    assert part["status"] == "interrupted" and "SIGTERM" in part["error"]["message"], part["error"]
    with pytest.raises(RequestError, match=r"on 3 devices in all; it goes on with as many only"):
        resumable(tmp_path / "part", part["fingerprint"], devices=2)
    again = go(tmp_path / "part", *asked, *fault("term", 10, 0, tmp_path), "steps_per_execution=2")
    assert again["resumed"][0]["batch"] and again["resumed"][0]["devices"] == 3
    assert not differences(tmp_path / "whole", tmp_path / "part")
    saved = torch.load(tmp_path / "part" / "checkpoints" / "last.ckpt", weights_only=True)["resume"]
    states = [saved["random"], *saved["random_of_others"]]
    seeds = {tuple(state["torch"][:8].tolist()) for state in states}  # a generator's state begins with its seed
    assert len(seeds) == 3  # no two drop the same units


def test_a_stop_that_only_another_process_hears_stops_all(tmp_path: Path) -> None:
    record = go(tmp_path, *DDP, "optimizer.lr=auto", *fault("term", 5, 1, tmp_path))
    assert record["lr_finder"]["lr"] == settle_lr(config("optimizer.lr=auto", base=BASE))[0]["optimizer"]["lr"]
    assert record["status"] == "interrupted" and not record["history"], record["error"]


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ("raise", "failed", "RuntimeError: rank 1 of 2: it went off"),
        ("build", "failed", "RuntimeError: rank 1 of 2: it was not built"),
        ("kill", "failed", "ProcessEnded: rank 1 of 2: killed by SIGKILL (often: the system had run out of memory)"),
        ("diverge", "diverged", "Diverged: the training loss is not finite in epoch 1, step 8"),
    ],
)
def test_what_one_process_fails_with_ends_the_run(tmp_path: Path, how: str, status: str, told: str) -> None:
    record = go(tmp_path, *DDP, *fault(how, 5, 1, tmp_path))
    assert (record["status"], f"{record['error']['type']}: {record['error']['message']}") == (status, told)
    assert "in on_train_batch_end" in record["error"]["traceback"] or how not in ("raise", "diverge")
    assert read_record(tmp_path)["status"] == status


def test_a_sweep_of_such_runs(tmp_path: Path) -> None:
    asked = [*BASE, *DDP, "logger=none", *DROPOUT]
    done = cnnbench(
        "-m", *asked, "seed=0,1", "hydra.sweep.dir=s", "+callbacks.f._target_=faults.Fault",
        "+callbacks.f.by_seed={1:exit}", "+callbacks.f.rank=1", cwd=tmp_path, check=1,
        PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}",
    )  # fmt: skip
    assert "rank 1 of 2: the process ended itself with status 3" in done.stdout
    assert read_record(tmp_path / "s" / "seed=1")["status"] == "failed"
    go(tmp_path / "alone", *asked)
    assert not differences(tmp_path / "alone", tmp_path / "s" / "seed=0")
    assert not done.stderr


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["data.batch_size=1"], r"data\.batch_size=1 is shared by 2 devices, so it must be at least 2"),
        (["data.eval_batch_size=1"], r"data\.eval_batch_size=1 is shared"),
        (["trainer.sync_batchnorm=true"], r"sync_batchnorm=true needs GPUs"),
        (["trainer.num_nodes=2"], r"trainer\.num_nodes=2, but .* on 1: .* torchrun --nnodes=2 --nproc-per-node=2 "),
        (["trainer.accelerator=auto"], r"trainer\.devices=2, but this machine has 1 GPU"),
    ],
)
def test_what_devices_cannot_do_is_told_before(asked: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RequestError, match=told):
        preflight.check_devices(config(*DDP, *asked), 2)
