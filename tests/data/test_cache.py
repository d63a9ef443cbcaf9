"""The prepared store is made once, noticed when damaged, and safe when two processes make it at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from cnnbench.data import cache as stores
from cnnbench.data.cache import prepare
from cnnbench.data.sources import Digits, ImageFolder


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_opened", {})


def only_folder(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def test_it_is_made_once_and_mapped_after_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(Digits(), None, 8, tmp_path)
    monkeypatch.setattr(stores, "_opened", {})
    monkeypatch.setattr(Digits, "read", None)  # a second reading would fail
    second = prepare(Digits(), None, 8, tmp_path)
    assert isinstance(second.arrays["train_images"], np.memmap) and not second.arrays["train_images"].flags.writeable
    assert second.fingerprint == first.fingerprint


@pytest.mark.parametrize("damage", ["flip", "truncate", "no meta", "half a meta", "another meta", "missing array"])
def test_a_damaged_store_is_reported_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    good = prepare(Digits(), None, 8, tmp_path)
    expected = np.array(good.arrays["train_images"])
    folder = only_folder(tmp_path)
    images, meta = folder / "train_images.npy", folder / "meta.json"
    content = bytearray(images.read_bytes())
    if damage == "flip":
        content[5000] ^= 1
        images.write_bytes(content)
    elif damage == "truncate":
        images.write_bytes(content[:-10])
    elif damage == "no meta":
        meta.unlink()
    elif damage == "half a meta":
        meta.write_text(meta.read_text()[:30])
    elif damage == "another meta":
        meta.write_text("[]")
    else:
        images.unlink()
    monkeypatch.setattr(stores, "_opened", {})
    lines: list[str] = []
    again = prepare(Digits(), None, 8, tmp_path, lines.append)
    assert len(lines) == 1 and "damaged" in lines[0]
    np.testing.assert_array_equal(again.arrays["train_images"], expected)


def test_it_is_made_anew_when_a_file_changes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (4, 4)).save(tmp_path / "set" / name / f"{number}.png")
    first = prepare(ImageFolder(), tmp_path / "set", None, tmp_path / "cache")
    Image.new("RGB", (4, 4), (7, 7, 7)).save(tmp_path / "set" / "a" / "0.png")
    second = prepare(ImageFolder(), tmp_path / "set", None, tmp_path / "cache")
    assert first.fingerprint != second.fingerprint


def test_another_folder_with_files_of_the_same_names_sizes_and_times_is_another_set(tmp_path: Path) -> None:
    for number, root in enumerate(("one", "two")):
        for name in ("a", "b"):
            (tmp_path / root / name).mkdir(parents=True)
            for index in range(2):
                path = tmp_path / root / name / f"{index}.bmp"
                Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
                os.utime(path, (0, 0))
    stores_ = [prepare(ImageFolder(), tmp_path / root, None, tmp_path / "cache") for root in ("one", "two")]
    assert [int(store.arrays["train_images"].max()) for store in stores_] == [0, 1]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    prepare(Digits(), None, 8, tmp_path / "other")
    stale = tmp_path / f".{only_folder(tmp_path / 'other').name}.xyz.part"
    stale.mkdir()
    (stale / "train_images.npy").write_bytes(b"half")
    prepare(Digits(), None, 8, tmp_path)
    assert not stale.exists()


def test_two_processes_at_once_make_one_good_store(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cnnbench.data.cache import prepare; "
        "from cnnbench.data.sources import Digits; print(prepare(Digits(), None, 20, Path(sys.argv[1])).fingerprint)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    fingerprints = {process.communicate(timeout=600)[0].strip() for process in processes}
    assert all(process.returncode == 0 for process in processes) and len(fingerprints) == 1
    assert only_folder(tmp_path).exists()
    assert prepare(Digits(), None, 20, tmp_path).fingerprint in fingerprints
