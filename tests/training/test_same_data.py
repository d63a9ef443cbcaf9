"""A run that is continued, found finished or repeated has the images that it began with, or is refused."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cnnbench
from PIL import Image

from cnnbench.config.compose import compose, fingerprint, resolved
from cnnbench.data.cache import prepare
from cnnbench.data.torchvision_sets import Torchvision
from cnnbench.training.same_data import refuse_changed_data
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record, write_record

RUN = ["data=image_folder", "data.path=photos", "data.image_size=8", "data.batch_size=4", "data.validation=none",
       "objective=train/loss", "model=tiny_cnn", "trainer.max_epochs=2", "trainer.accelerator=cpu", "threads=1",
       "logger=none", "callbacks.figures.pictures=false"]  # fmt: skip


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos/train and photos/test, and a cache of its own."""
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    for seed in range(20):
        split, name = "test" if seed < 4 else "train", "dog" if seed % 2 else "cat"
        photograph(tmp_path / "photos" / split / name / f"{seed}.png", seed)
    return tmp_path


def change(here: Path) -> None:
    """Two images come, one goes, one moves from test to train, and one is of the other class now."""
    photos = here / "photos"
    photograph(photos / "train" / "cat" / "new.png", 100)
    photograph(photos / "test" / "dog" / "new.png", 101)
    (photos / "train" / "cat" / "4.png").unlink()
    (photos / "test" / "cat" / "0.png").rename(photos / "train" / "cat" / "0.png")
    (photos / "train" / "dog" / "5.png").rename(photos / "train" / "cat" / "5.png")


CHANGED = "2 images came, 1 images went, 1 images moved between splits, 1 images changed class"


def test_a_finished_run_is_not_that_of_other_images(here: Path) -> None:
    cnnbench(*RUN, "hydra.run.dir=run", cwd=here, check=0)
    assert any("train is train (16), test is test (4)" in note for note in read_record(here / "run")["data"]["notes"])
    for path in (here / "photos").rglob("*.png"):
        path.touch()  # another time, the same images
    assert "has finished already" in cnnbench(*RUN, "hydra.run.dir=run", cwd=here, check=0).stdout
    change(here)
    for command in ([*RUN, "hydra.run.dir=run"], ["resume", "run"], ["rerun", "run", "again"]):
        error = cnnbench(*command, cwd=here, check=2).stderr
        assert "run had other images than" in error and CHANGED in error and "give another folder" in error
    assert not (here / "again").exists()
    shutil.rmtree(here / "cache")
    assert "no longer in the cache" in cnnbench("resume", "run", cwd=here, check=2).stderr
    shutil.rmtree(here / "photos")
    assert "has finished already" in cnnbench("resume", "run", cwd=here, check=0).stdout


def test_a_stopped_run_does_not_go_on_with_other_images(here: Path) -> None:
    fault = ["+callbacks.fault._target_=faults.Fault", "+callbacks.fault.how=term", "+callbacks.fault.step=4"]
    cnnbench(
        *RUN, *fault, f"+callbacks.fault.folder={here}", "steps_per_execution=1", "hydra.run.dir=run", cwd=here, check=1
    )
    (here / "run" / "result.json").unlink()  # as if it had been killed
    change(here)
    assert CHANGED in cnnbench("resume", "run", cwd=here, check=2).stderr
    assert not (here / "run" / "result.json").exists()


def test_downloaded_sets_are_compared_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = here / "MNIST" / "raw"

    def write(first: int) -> None:
        for part, count in (("train", 40), ("t10k", 20)):
            pixels = np.random.default_rng(first).integers(0, 256, (count, 28, 28), dtype=np.uint8)
            labels = (np.arange(count) % 10).astype(np.uint8)
            raw.mkdir(parents=True, exist_ok=True)
            header = struct.pack(">IIII", 2051, count, 28, 28), struct.pack(">II", 2049, count)
            (raw / f"{part}-images-idx3-ubyte").write_bytes(header[0] + pixels.tobytes())
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(header[1] + labels.tobytes())

    config = resolved(compose(["data=mnist", f"data.root={here}", f"data.cache={here / 'cache'}"]))
    write(0)
    source = Torchvision("MNIST")
    known = prepare(source, here, config["data"]["image_size"], here / "cache").fingerprint
    runs = [here / "finished", here / "stopped"]
    write_record(runs[0], {"status": "completed", "data": {"fingerprint": known}})
    (runs[1] / "checkpoints").mkdir(parents=True)
    torch.save({"resume": {"sessions": [{"data": known}]}}, runs[1] / "checkpoints" / "last.ckpt")
    refuse_changed_data([(config, run) for run in runs])
    write(1)
    for run in runs:
        with pytest.raises(RequestError, match=r"40 images came, 40 images went.*give another folder"):
            refuse_changed_data([(config, run)])

    shutil.rmtree(here / "MNIST")
    asked: list[Path] = []
    monkeypatch.setattr(Torchvision, "_download", lambda _, location: asked.append(location))
    refuse_changed_data([(config, runs[0])])  # a finished run downloads nothing
    assert not asked


def test_a_sweep_does_not_go_on_with_other_images(here: Path) -> None:
    sweep = ["-m", *RUN, "trainer.max_epochs=1", "sweep.isolate=false", "hydra.sweep.dir=sweep"]
    cnnbench(*sweep, "seed=0", cwd=here, check=0)
    change(here)
    assert CHANGED in cnnbench(*sweep, "seed=0,1", cwd=here, check=2).stderr


def test_keys_that_are_new_leave_fingerprints_as_they_were() -> None:
    config = resolved(compose(["data=image_folder", "data.path=photos"]))
    known = fingerprint(config)
    for key in ("splits", "duplicates", "value_range"):
        del config["data"][key]
    del config["data"]["source"]["splits"]
    assert fingerprint(config) == known
    assert fingerprint(resolved(compose(["data=image_folder", "data.path=photos", "data.duplicates=drop"]))) != known
    chosen = compose(["data=image_folder", "data.path=photos", "data.splits={train: a, test: b}"])
    assert resolved(chosen)["data"]["source"]["splits"] == {"train": "a", "test": "b"}
    assert fingerprint(resolved(chosen)) != known


def test_a_new_run_is_compared_with_nothing_and_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cnnbench.training.same_data import refuse_changed_data as refuse; "
        f"refuse([({{'data': {{}}}}, Path({str(tmp_path)!r}))]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
