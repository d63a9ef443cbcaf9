"""The one line of a sweep whose runs go on beside each other."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnbench.sweep import progress as progress_
from cnnbench.sweep.progress import Progress, follow_folders
from cnnbench.utils.record import Record, write_record
from cnnbench.utils.run_dir import locked


def ended(status: str, accuracy: float | None = None, metric: str = "val/accuracy") -> Record:
    error = None if status == "completed" else {"type": "RuntimeError", "message": "it went off"}
    return {"status": status, "best": {"epoch": 1, metric: accuracy}, "error": error}


def test_it_says_what_is_done_running_failed_left_and_best(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress_, "time", SimpleNamespace(time=lambda: now))
    folders = [Path(name) for name in "abcdefg"]
    progress = Progress(6, "val/accuracy")
    assert progress.line() == "0/6 done"
    for folder in folders[:3]:
        progress.start(folder)
    now += 10
    progress.end(folders[0], ended("completed", 0.5))
    now += 20
    progress.end(folders[1], ended("failed"))
    for folder in folders[3:5]:
        progress.start(folder)
    now += 5
    progress.end(folders[2], ended("completed", 0.75))
    # a run takes (10 + 30 + 35) / 3 = 25 s; two are to run 20 s more and one has not begun, with three at once
    assert progress.line() == "3/6 done, 2 running, 1 failed | 22 s left | best validation accuracy 75.00 % (c)"
    now += 30
    progress.total = 5
    assert " left" not in progress.line()  # all that run have taken longer than those that have ended
    progress.total = 6
    for folder in folders[3:6]:
        progress.end(folder, ended("completed", 0.1))
    assert progress.line() == "6/6 done, 1 failed | best validation accuracy 75.00 % (c)"
    progress.end(folders[6], {"status": "interrupted", "error": {"type": "Pruned", "message": "behind"}})
    assert "1 ended early" in progress.line()


def test_the_best_loss_is_the_smallest() -> None:
    progress = Progress(2, "val/loss")
    for name, value in (("a", 0.2), ("b", 0.1)):
        progress.end(Path(name), ended("completed", value, "val/loss"))
    assert progress.line() == "2/2 done | best validation loss 0.1000 (b)"


def test_a_narrow_terminal_has_one_line(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    progress = Progress(1, "val/accuracy")
    progress.end(Path("a" * 100), ended("completed", 0.5))
    progress.close()
    written = capsys.readouterr().out
    assert "1/1 done" in written and max(map(len, written.replace("\r", "\n").splitlines())) <= 50


def test_the_folders_of_runs_that_another_launcher_runs_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_, "CHANGED", math.inf)  # no line before the last
    folders = [tmp_path / name for name in "abc"]
    write_record(folders[2], ended("completed", 0.9))
    time.sleep(0.1)  # which was before
    progress = Progress(3, "val/accuracy")
    with follow_folders(progress, folders):
        write_record(folders[0], ended("failed"))
        write_record(folders[1], ended("completed", 0.5))
        with locked(folders[2]):
            until = time.monotonic() + 300
            while not progress.running and time.monotonic() < until:
                time.sleep(0.05)
    progress.close()
    assert capsys.readouterr().out.splitlines() == [
        "  failed: a: RuntimeError: it went off",
        "  2/3 done, 1 running, 1 failed | best validation accuracy 50.00 % (b)",
    ]
