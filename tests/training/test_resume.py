"""A run that was stopped or killed goes on to the same result, to the bit; and rerun tells whether it is."""

from __future__ import annotations

import csv
import gc
import json
import multiprocessing
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, SMALL, cnnbench, config, installed
from same import differences

from cnnbench.cli.main import main
from cnnbench.config.groups import groups
from cnnbench.training import checkpoint_io
from cnnbench.training import train as training
from cnnbench.utils.record import read_record

# eight batches of 24 (the last of 16) in each of three epochs, in chunks of two optimizer steps
BASE = [*SMALL, "trainer.max_epochs=3", "data.batch_size=24", "data.limit_train=184", "steps_per_execution=2"]
DROPOUT = ["model.hidden=[16]", "model.dropout=0.3"]


def fault(how: str, step: int, folder: Path) -> list[str]:
    """Overrides that do ``how`` once, at this step."""
    return [
        "+callbacks.fault._target_=faults.Fault", f"+callbacks.fault.how={how}",
        f"+callbacks.fault.step={step}", f"+callbacks.fault.folder='{folder}'",
    ]  # fmt: skip


def go(folder: Path, *overrides: str) -> dict[str, Any]:
    return training.train(config(*overrides, base=BASE), folder)


COMBINATIONS = [
    # what is asked for, and the step of the stop
    (["optimizer=adam", "scheduler=cosine", "augment=flip_crop", *DROPOUT], 5),
    (["optimizer=momentum", "scheduler=onecycle", "model.norm=batch"], 13),
    (["optimizer=rmsprop", "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.9"], 11),
    (["optimizer=adamw", "scheduler=step", "trainer.accumulate_grad_batches=3", "label_smoothing=0.1"], 2),
    (["optimizer=adadelta", "scheduler=exp", "trainer.gradient_clip_val=0.5", "augment.cutout=4"], 8),
    (["optimizer=sgd", "scheduler=none", "callbacks=early_stopping", "callbacks.early_stopping.patience=1",
      "optimizer.lr=1e-9", "trainer.max_epochs=6"], 10),
    (["optimizer=adam", "data.storage=stream", "data.workers=1", "augment=crop", *DROPOUT], 18),
    (["optimizer=adam", "augment=trivial", "augment.rotate=15", "augment.mixup=0.2", "augment.cutmix=1"], 8),
    (["optimizer=switch", "scheduler=onecycle", "decay_norm_and_bias=false"], 6),  # the switch is at step 12
    (["optimizer=switch", "scheduler=plateau", "scheduler.patience=0"], 16),
    (["scheduler=wsd", "scheduler.warmup=0.3", "scheduler.decay=0.5"], 6),  # the warm-up is until step 7
    (["scheduler=cosine_restarts", "optimizer=momentum", "scheduler.warmup=0.1"], 11),
    (["scheduler=poly", "optimizer=switch", "scheduler.warmup=0.6"], 13),  # until step 14
    (["optimizer=nadam", "average=ema", "model.norm=batch", "loss=focal"], 5),
    (["optimizer=lion", "average=swa", "average.start=0.2", "loss=bce", "label_smoothing=0.1"], 12),
    (["optimizer=lamb", "scheduler=wsd", "trainer.gradient_clip_val=0.5", "loss=weighted", "data.sampling=balanced"], 4),
    (["optimizer=muon", "scheduler=onecycle", "model.norm=batch", "decay_norm_and_bias=false"], 10),
    (["optimizer=schedulefree", "scheduler=none", "scheduler.warmup=0.3", "model.norm=batch", *DROPOUT], 10),
    (["optimizer=sam", "model.norm=batch", "scheduler=cosine", *DROPOUT], 13),
    (["loss=cross_entropy", "test_time_augmentation=flip", "fine_tune=head_first", "optimizer=momentum", "model.norm=batch"], 10),  # frozen until step 16
    (["fine_tune=head_first", "optimizer=momentum", "model.norm=batch", "scheduler=step"], 19),
    (["trainer.precision=64-true", "optimizer=momentum"], 10),
]  # fmt: skip


@pytest.mark.parametrize("how", ["term", "raise"])
def test_the_workers_of_a_stream_end_with_a_run_that_ends_early(tmp_path: Path, how: str) -> None:
    gc.disable()  # which would find them, and wait for five seconds
    try:
        run = go(tmp_path / "run", "data.storage=stream", "data.workers=1", *fault(how, 5, tmp_path))
        assert run["status"] == {"term": "interrupted", "raise": "failed"}[how]
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


@pytest.mark.parametrize(("asked", "step"), COMBINATIONS, ids=lambda v: " ".join(v[:2]) if isinstance(v, list) else "")
def test_a_stopped_run_goes_on_to_the_same_result(tmp_path: Path, asked: list[str], step: int) -> None:
    optimizers = [text.partition("=")[2] for text in asked if text.startswith("optimizer=")]
    if not all(map(installed, optimizers)):
        pytest.skip(f"{optimizers[0]} is of a package that is not installed")
    whole = go(tmp_path / "whole", *asked)
    part = go(tmp_path / "part", *asked, *fault("term", step, tmp_path))
    assert part["status"] == "interrupted", part["error"]
    assert len(part["history"].get("epoch", [])) < len(whole["history"]["epoch"])
    assert (part["error"]["type"], part["error"]["message"]) == ("Stopped", "stopped by SIGTERM")
    # in chunks of another length, which must not matter
    again = go(tmp_path / "part", *asked, *fault("term", step, tmp_path), "steps_per_execution=3")
    assert again["attempts"][0]["status"] == "interrupted"
    assert step <= again["resumed"][0]["step"] < step + 2 * 2
    assert not differences(tmp_path / "whole", tmp_path / "part")


def test_every_optimizer_scheduler_and_loss_is_among_the_combinations() -> None:
    asked = {text for combination, _ in COMBINATIONS for text in combination}
    assert {f"optimizer={name}" for name in groups()["optimizer"]} <= asked
    assert {f"scheduler={name}" for name in groups()["scheduler"]} <= asked
    assert {f"loss={name}" for name in groups()["loss"]} <= asked


@pytest.mark.parametrize("damage", ["flipped", "cut", "both"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture, damage: str
) -> None:
    asked = ["optimizer=adam", *DROPOUT]
    go(tmp_path / "whole", *asked)
    go(tmp_path / "part", *asked, *fault("term", 19, tmp_path))
    files = tmp_path / "part" / "checkpoints"
    before = torch.load(files / "previous.ckpt", weights_only=True)["resume"]["position"]
    assert before == {"epoch": 2, "batch": 0, "step": 16}
    for path in [files / "last.ckpt", files / "previous.ckpt"][: 2 if damage == "both" else 1]:
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes(whole[:middle] if damage == "cut" else flipped)
    capsys.readouterr()
    record = go(tmp_path / "part", *asked, *fault("term", 19, tmp_path))
    told = capsys.readouterr().out
    assert "last.ckpt is damaged" in told
    assert ("going on from" in told and "epoch 3, batch 1" in told) == (damage != "both")
    assert [session["step"] for session in record["resumed"]] == ([] if damage == "both" else [16])
    assert not differences(tmp_path / "whole", tmp_path / "part")


def test_a_write_that_is_killed_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint_io.AtomicCheckpointIO().save_checkpoint({"number": torch.tensor(1)}, path)

    def killed(checkpoint: Any, target: Path) -> None:
        Path(target).write_bytes(b"PK half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_io.AtomicCheckpointIO().save_checkpoint({"number": torch.tensor(2)}, path)
    assert checkpoint_io.read(path)["number"] == 1
    assert checkpoint_io.newest(tmp_path, pytest.fail)[0] == path


def test_a_kill_between_any_two_changes_of_files_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    go(tmp_path / "whole")
    os_replace, changes, last = os.replace, 0, False
    while not last:
        left = changes

        def replace(source: Path, target: Path) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            os_replace(source, target)

        folder = tmp_path / f"killed after {changes}"
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_io.os, "replace", replace)
            try:
                go(folder)
                last = True
            except Killed:
                changes += 1
        go(folder)
        assert not differences(tmp_path / "whole", folder)
    assert changes > 2 * 3  # more than one a checkpoint


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_checkpoint_that_cannot_be_read_now_is_left_as_it_is(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        checkpoint_io.AtomicCheckpointIO().save_checkpoint({"number": torch.tensor(number)}, tmp_path / "last.ckpt")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fails)
        with pytest.raises((OSError, MemoryError)):
            checkpoint_io.newest(tmp_path, pytest.fail)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert checkpoint_io.newest(tmp_path, pytest.fail)[1]["number"] == 2


def test_a_disk_that_fills_up_leaves_the_checkpoints_that_there_were(tmp_path: Path) -> None:
    go(tmp_path / "whole")
    go(tmp_path / "part", *fault("term", 19, tmp_path))
    kept = tmp_path / "part" / "checkpoints"
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # what grows further fails as on a full disk
    try:
        with pytest.raises(OSError):  # nor is there room for the record
            go(tmp_path / "part", *fault("term", 19, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(before) > 1 and {path.name: path.read_bytes() for path in kept.iterdir()} == before
    go(tmp_path / "part", *fault("term", 19, tmp_path))
    assert not differences(tmp_path / "whole", tmp_path / "part")


def test_damaged_checkpoints_are_kept_under_another_name(tmp_path: Path) -> None:
    for name in ("last", "previous", "best"):
        (tmp_path / f"{name}.ckpt").write_bytes(name.encode())
    told: list[str] = []
    assert checkpoint_io.newest(tmp_path, told.append) is None
    assert ["kept as last.ckpt.damaged" in told[0], len(told)] == [True, 2]
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert kept == {f"{name}.ckpt.damaged": name.encode() for name in ("last", "previous", "best")}


def test_a_run_that_lacks_only_its_test_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "optimizer.lr=1e-9",
        "trainer.max_epochs=9",
        "quirks.dropout_in_evaluation=true",  # so that the test draws random numbers too
        *DROPOUT,
    ]
    whole = go(tmp_path / "whole", *asked)
    assert len(whole["history"]["epoch"]) < 9
    with monkeypatch.context() as patch:
        patch.setattr(training, "test", lambda *_: 1 / 0)
        assert go(tmp_path / "part", *asked)["status"] == "failed"
    go(tmp_path / "part", *asked)
    assert not differences(tmp_path / "whole", tmp_path / "part")


def test_a_metric_that_is_asked_for_later_is_in_the_epochs_after(tmp_path: Path) -> None:
    assert go(tmp_path, *fault("term", 10, tmp_path))["status"] == "interrupted"
    go(tmp_path, *fault("term", 10, tmp_path), "metrics=[f1]")
    values = read_record(tmp_path)["history"]["val/f1"]
    assert values[0] is None and None not in values[1:] and len(values) == 3
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["val/f1"] == "" for row in rows] == [True, False, False]


def test_tensorboard_shows_each_epoch_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    go(tmp_path, "logger=tensorboard", *fault("raise", 21, tmp_path))
    (tmp_path / "checkpoints" / "last.ckpt").unlink()  # so that the second epoch comes again, of which there is a point
    record = go(tmp_path, "logger=tensorboard", *fault("raise", 21, tmp_path))
    assert record["resumed"][0]["step"] == 8
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [point.step for point in events.Scalars("loss/val")] == [1, 2, 3]
    steps = [image.step for image in events.Images("validation/confusion")]
    assert steps == [1, 2, 3]
    files = [EventFileLoader(str(path)) for path in (tmp_path / "tensorboard").glob("events.out.tfevents.*")]
    assert sum(event.HasField("graph_def") for file in files for event in file.Load()) == 1


def test_a_killed_process_can_be_resumed_by_its_folder(tmp_path: Path) -> None:
    asked = [*BASE, "optimizer=adam", "logger=none", *DROPOUT, "checkpoint.steps=2", *fault("kill", 13, tmp_path)]
    path = f"{ROOT / 'tests'}"
    killed = cnnbench(*asked, "hydra.run.dir=run", cwd=tmp_path, fresh=True, PYTHONPATH=f"{ROOT}:{path}")
    assert killed.returncode == -9 and not (tmp_path / "run" / "result.json").exists()
    done = cnnbench("resume", "run", cwd=tmp_path, check=0, PYTHONPATH=f"{ROOT}:{path}")
    assert "going on at epoch 2, batch 5" in done.stdout  # the checkpoint after step 12; the kill came at 14
    go(tmp_path / "whole", "optimizer=adam", *DROPOUT)
    assert not differences(tmp_path / "whole", tmp_path / "run")


def test_a_finished_record_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [*SMALL, "logger=none", "hydra.run.dir=run"]
    assert main(asked) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert main(asked) == 0 and "finished already" in capsys.readouterr().out
    assert main([*asked, "seed=1"]) == 2 and "another configuration" in capsys.readouterr().err
    assert main(["resume", "run", "threads=1"]) == 0
    assert main(["resume", "run", "optimizer.lr=1"]) == 2 and "changes the result" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert before == after


def test_rerun_says_whether_the_result_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    go(tmp_path / "run", *DROPOUT)
    assert main(["rerun", "run", "same"]) == 0
    assert "to the bit" in capsys.readouterr().out
    assert not differences(tmp_path / "run", tmp_path / "same")
    record = read_record(tmp_path / "run")
    record["history"]["val/loss"][1] += 1e-12
    record["environment"]["packages"]["torch"] = "1.0"
    (tmp_path / "run" / "result.json").write_text(json.dumps(record))
    assert main(["rerun", "run", "other"]) == 1
    told = capsys.readouterr().out
    assert "history.val/loss differs from entry 1" in told and "not the same" in told and "torch was 1.0" in told


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (["optimizer.lr=1e-9"], "completed"),  # stays at ln 10
        (["optimizer.lr=1e-9", "divergence.at_chance=true", "divergence.epochs=2"], "diverged"),
        (["optimizer=sgd", "optimizer.lr=300", "divergence.epochs=2", "divergence.above=5"], "diverged"),
        (["optimizer=sgd", "optimizer.lr=300", "divergence.epochs=2", "divergence.above=null"], "completed"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_counts_as_divergence(tmp_path: Path, asked: list[str], status: str) -> None:
    record = go(tmp_path, *asked)
    assert record["status"] == status, record["error"]
    if status == "diverged":
        assert (record["error"]["epoch"], record["error"]["step"]) == (1, 16)
        assert len(record["history"]["epoch"]) == 2


def test_a_validation_loss_that_is_not_finite_is_divergence(tmp_path: Path) -> None:
    # the last step ruins the weights, so no training loss shows it
    record = go(tmp_path, "trainer.max_epochs=1", *fault("diverge", 8, tmp_path))
    assert record["status"] == "diverged" and "validation" in record["error"]["message"]


def test_a_record_says_what_ran(tmp_path: Path) -> None:
    record = go(tmp_path, "trainer.max_epochs=1")
    environment = record["environment"]
    assert environment["git"] and environment["git_dirty"] in (True, False)
    assert environment["packages"]["torch"] and environment["packages"]["hydra-core"]
    assert environment["cpu"] and environment["cores"] and environment["threads"]
    assert record["data"]["fingerprint"] and record["seed"] == 0 and len(record["model"]["sha256"]) == 64
