"""Files of every kind, damaged in many ways: what is read is what was written, or one line names the file.

A damage that no checksum covers (a pixel of an image, a digit of a record) may go unnoticed; it must not end in anything
else than a result or that line.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import config
from PIL import Image

from cnnbench.analysis.leaderboard import build
from cnnbench.analysis.report import write as report
from cnnbench.analysis.report.text import leaderboard_text
from cnnbench.analysis.runs import collect
from cnnbench.data import cache as stores
from cnnbench.data.sources import Digits, ImageFolder, Npz, Torchvision
from cnnbench.inference.load import load_run
from cnnbench.models.weights import read_state
from cnnbench.sweep.plan import existing
from cnnbench.training import checkpoint_io
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError


def flips(content: bytes, seed: int, count: int) -> bytes:
    changed = bytearray(content)
    for _ in range(count if changed else 0):
        changed[random.Random(seed).randrange(len(changed))] ^= 1 << (seed % 8)
        seed += 1
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "a tenth": lambda content: content[: len(content) // 10],
    "half": lambda content: content[: len(content) // 2],
    "a byte short": lambda content: content[:-1],
    "a bit early": lambda content: flips(content[:40], 1, 1) + content[40:],
    "a bit late": lambda content: content[:-40] + flips(content[-40:], 2, 1),
    "a bit": lambda content: flips(content, 3, 1),
    "a hundred bits": lambda content: flips(content, 4, 100),
    "zeros": lambda content: bytes(len(content)),
    "zeros in the middle": lambda content: (
        content[: len(content) // 3] + bytes(len(content) // 3) + content[-(len(content) // 3) :]
    ),
    "noise": lambda content: random.Random(0).randbytes(len(content)),
    "noise before it": lambda content: random.Random(1).randbytes(100) + content,
    "twice": lambda content: content * 2,
    "text": lambda content: b"not what it should be\n",
}


@dataclass
class Kind:
    """A kind of file: which one is damaged, how it is used, and whether a change of any byte must be noticed."""

    file: Path
    use: Callable[[], Any]
    checked: bool = True


def arrays(store: stores.PreparedSet) -> list[Any]:
    return [store.classes, *(np.array(store.arrays[name]) for name in sorted(store.arrays))]


def prepared(source: Any, location: Path | None, folder: Path) -> list[Any]:
    stores._opened.clear()
    return arrays(stores.prepare(source, location, None, folder / "cache", lambda text: None))


def images(folder: Path, suffix: str) -> Kind:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("a", "b"):
            (folder / "set" / part / name).mkdir(parents=True)
            for number in range(2):
                picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
                picture.save(folder / "set" / part / name / f"{number}{suffix}")
    file = folder / "set" / "train" / "a" / f"1{suffix}"
    return Kind(file, lambda: prepared(ImageFolder(), folder / "set", folder), checked=False)


def npz(folder: Path) -> Kind:
    rng = np.random.default_rng(0)
    parts = {
        f"{part}_{name}": value
        for part in ("train", "test")
        for name, value in (("images", rng.integers(0, 256, (6, 8, 8), dtype=np.uint8)), ("labels", np.arange(6) % 3))
    }
    np.savez(folder / "set.npz", **parts)
    return Kind(folder / "set.npz", lambda: prepared(Npz(), folder / "set.npz", folder))


def idx(folder: Path, part: str) -> Kind:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for name, array in (("images-idx3", np.arange(20 * 784) % 256), ("labels-idx1", np.arange(20) % 10)):
            shape = (20, 28, 28) if "images" in name else (20,)
            head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
            (raw / f"{prefix}-{name}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    return Kind(raw / f"train-{part}-ubyte", lambda: prepared(Torchvision("MNIST"), folder, folder), checked=False)


def store(folder: Path, name: str) -> Kind:
    prepared(Digits(), None, folder)
    (file,) = (folder / "cache").glob(f"*/{name}")
    return Kind(file, lambda: prepared(Digits(), None, folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "run"
    train(config("trainer.max_epochs=2"), folder)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("seed: 0\nmodel: {filters: [6, 16]}\n")
    (folder / ".hydra" / "overrides.yaml").write_text("- seed=0\n- optimizer=adam\n")
    return folder


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def checkpoint(run: Path, folder: Path) -> Kind:
    mine = copy_of(run, folder)
    before = checkpoint_io.read(mine / "checkpoints" / "last.ckpt")["state_dict"]

    def use() -> Any:
        found = checkpoint_io.newest(mine / "checkpoints", lambda text: None)
        assert found is None or found[0].name in ("last.ckpt", "previous.ckpt")
        if found is not None and found[0].name == "last.ckpt":
            torch.testing.assert_close(found[1]["state_dict"], before, rtol=0, atol=0)
        return None  # the one before, or the beginning, are as good

    return Kind(mine / "checkpoints" / "last.ckpt", use)


def weights(run: Path, folder: Path) -> Kind:
    mine = copy_of(run, folder)
    return Kind(
        mine / "checkpoints" / "best.ckpt",
        lambda: [value.numpy() for value in load_run(mine).network.state_dict().values()],
    )


def init_from(run: Path, folder: Path) -> Kind:
    mine = copy_of(run, folder) / "checkpoints" / "best.ckpt"
    return Kind(mine, lambda: [value.numpy() for value in read_state(mine, "init_from").values()])


def in_a_report(run: Path, folder: Path, name: str) -> Kind:
    mine = copy_of(run, folder)
    shutil.copytree(run, folder / "sound")
    if name != "result.json":
        (mine / "result.json").unlink()  # what Hydra wrote is read where there is no record

    def use() -> None:
        runs = collect([folder])
        assert len(runs) == 2
        leaderboard_text(build(runs))
        report.build([folder], fmt="md").write(folder)
        existing(folder)

    return Kind(mine / name, use, checked=False)


def record_for_predict(run: Path, folder: Path) -> Kind:
    mine = copy_of(run, folder)
    return Kind(mine / "result.json", lambda: load_run(mine).classes and None, checked=False)


KINDS: dict[str, Callable[[Path, Path], Kind]] = {
    "png": lambda run, folder: images(folder, ".png"),
    "jpeg": lambda run, folder: images(folder, ".jpg"),
    "npz": lambda run, folder: npz(folder),
    "idx images": lambda run, folder: idx(folder, "images-idx3"),
    "idx labels": lambda run, folder: idx(folder, "labels-idx1"),
    "store images": lambda run, folder: store(folder, "train_images.npy"),
    "store meta": lambda run, folder: store(folder, "meta.json"),
    "checkpoint": checkpoint,
    "weights": weights,
    "init_from": init_from,
    "record": lambda run, folder: in_a_report(run, folder, "result.json"),
    "record for predict": record_for_predict,
    "hydra config": lambda run, folder: in_a_report(run, folder, ".hydra/config.yaml"),
    "hydra overrides": lambda run, folder: in_a_report(run, folder, ".hydra/overrides.yaml"),
}


def same(one: Any, other: Any) -> bool:
    return one == other if one is None or isinstance(one, str) else all(map(np.array_equal, one, other))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_what_was_in_it_or_a_line_that_names_it(
    run: Path, tmp_path: Path, kind: str, damage: str
) -> None:
    made = KINDS[kind](run, tmp_path)
    sound = made.use()
    if not kind.startswith("store"):  # read the file again, not what was prepared from it
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    content = made.file.read_bytes()
    made.file.write_bytes(DAMAGES[damage](content))
    try:
        result = made.use()
    except RequestError as error:
        assert "\n" not in str(error)
        assert made.file.name in str(error) or made.file.parent.name in str(error), error
    else:
        assert same(result, sound) or not made.checked
