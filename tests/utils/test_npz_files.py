"""An .npz file that claims more than it has, or unpacks to more than there is, is refused before an array is made."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from cnnbench.analysis.runs import read_run
from cnnbench.data.sources import Npz
from cnnbench.utils import npz_files
from cnnbench.utils.errors import RequestError
from cnnbench.utils.npz_files import read_npz


def member(shape: tuple[int, ...], dtype: str = "|u1", content: int = 0, version: int = 1) -> bytes:
    """A .npy file of so many zero bytes behind its header."""
    head = {"descr": dtype, "fortran_order": False, "shape": shape}
    (npy.write_array_header_1_0 if version == 1 else npy.write_array_header_2_0)(file := io.BytesIO(), head)
    return file.getvalue() + bytes(content)


def write(path: Path, kind: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


HOSTILE: dict[str, dict[str, Any]] = {
    "shorter than its header says": {"x": member((10**9,), content=10**6)},
    "is shorter than its header": {"x": member((2**40, 2**40), "<f8", 100)},  # 0 elements in 64 bits
    "x.npy is shorter": {"x": member((-(10**12),)), "y": member((10**7,), content=10**7)},  # less than nothing
    "x.npy is shorter than": {"x": member((10**12,), "|V0")},  # elements of no bytes
    "1.1 GB of memory, where 0.0 GB": {"x": member((2**25, 1, 1), content=2**25)},  # as int64, sorted
    "0.1 GB of memory, where 0.0 GB": {"x": member((2, 2**26), content=2**27, version=2)},
    "EOF: reading array header": {"x": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(10**6)},  # a header of 2 GB
    "not compressed as numpy does": {"kind": zipfile.ZIP_BZIP2, "x": member((2**20,), content=2**20)},
    "magic string is not correct": {"x": b"an array"},
}  # fmt: skip


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 MB are free, and no array may be read."""
    monkeypatch.setattr(npz_files, "free_memory", lambda: 2**25)
    monkeypatch.setattr(npy, "read_array", lambda *_, **__: pytest.fail("an array was read"))


@pytest.mark.parametrize("message", HOSTILE)
def test_a_bomb_is_refused_before_an_array_is_made(
    tmp_path: Path, unread: None, message: str, capsys: pytest.CaptureFixture
) -> None:
    path = write(tmp_path / "predictions.npz", **HOSTILE[message])
    assert path.stat().st_size < 10**6
    with pytest.raises(RequestError, match=message):
        read_npz(path)
    write(path, **{f"test_{name}" if name != "kind" else name: of for name, of in HOSTILE[message].items()})
    for _ in range(2):
        assert read_run(tmp_path).predictions() is None
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"left out: {path} cannot be read" in told  # once, of however many sections
    with pytest.raises(RequestError, match=r"predictions\.npz cannot be read as an .npz of plain arrays") as error:
        Npz().read(path)
    assert "\n" not in str(error.value)


def test_what_fits_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    arrays = {"a_x": np.arange(6.0).reshape(2, 3), "a_y": np.asfortranarray(np.eye(3, 4)), "a_none": np.zeros((0, 5)),
              "a_text": np.array(["ä", "bc"]), "a_one": np.int8(3), "b_x": np.arange(3)}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        found = read_npz(tmp_path / "x.npz", "a_")
        with np.load(tmp_path / "x.npz", allow_pickle=False) as expected:
            assert [*found] == [name for name in expected.files if name.startswith("a_")]
            for name, array in found.items():
                np.testing.assert_array_equal(array, expected[name], strict=True)
    with pytest.raises(RequestError, match=r"0\.0 GB of memory, where 0\.0 GB may be used"):
        read_npz(tmp_path / "x.npz", most=200)


def test_a_million_names_of_classes_are_not_made(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez_compressed(tmp_path / "x.npz", classes=np.zeros((2000, 2000), "S1"), **arrays)
    with pytest.raises(RequestError, match=r"x\.npz has 4,000,000 classes"):
        Npz().read(tmp_path / "x.npz")
