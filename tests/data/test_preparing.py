"""What is seen of a long preparation, and what is left of one that ends early."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import ROOT

from cnnbench.data import preparing
from cnnbench.data.cache import prepare
from cnnbench.data.preparing import show_progress
from cnnbench.data.sources import Digits
from cnnbench.utils.errors import RequestError


def test_in_a_pipe_it_is_lines_with_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = [0.0], []
    monkeypatch.setattr(preparing.time, "monotonic", lambda: now[0])
    with show_progress("set train", 1000, lines.append, bar=False) as progress:
        for now[0], done in ((1, 100), (6, 600), (7, 700), (11, 1000)):
            progress(done)
    assert lines == [
        "preparing set train: 600 of 1,000 images, 4 s left",
        "preparing set train: 1,000 of 1,000 images, 0 s left",
        "prepared set train: 1,000 images in 11 s",
    ]


def test_on_a_terminal_it_is_a_bar_that_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(preparing, "BAR_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt), show_progress("set train", 10, lines.append, bar=True) as progress:
        time.sleep(0.2)
        progress(5)
        raise KeyboardInterrupt
    shown = capsys.readouterr().err
    assert "preparing set train:  50%" in shown and "5/10" in shown and "\n" not in shown
    assert shown.endswith(" \r") and lines == []


def test_what_takes_no_time_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing.time, "monotonic", lambda: 0.0)
    prepare(Digits(), None, 8, tmp_path)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_preparation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*_: object) -> None:
        assert [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
        raise error

    monkeypatch.setattr("cnnbench.data.preparing.resize_array", interrupted)
    with pytest.raises(error):
        prepare(Digits(), None, 9, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_who_waits_for_another_process_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    with (tmp_path / ".Digits.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=prepare, args=(Digits(), None, 9, tmp_path, lines.append))
        thread.start()
        while thread.is_alive() and not lines:
            thread.join(0.05)
        assert thread.is_alive() and "waiting for another process" in lines[0]
    thread.join(600)
    assert not thread.is_alive()


def test_a_full_disk_is_reported_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(RequestError, match=r"takes 0\.0 GB.*CNNBENCH_CACHE"):
        prepare(Digits(), None, 9, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"data\.cache=.*file/cache"):
        prepare(Digits(), None, 9, tmp_path / "file" / "cache")


def test_preparing_needs_no_torch() -> None:
    code = "import sys, cnnbench.data.cache, cnnbench.data.sources; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
