"""The one line of a sweep whose runs go on beside each other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cnnbench.sweep.progress import Progress, pause, told
from cnnbench.utils.record import write_record
from cnnbench.utils.run_dir import locked


def end(folder: Path, status: str, accuracy: float | None = None) -> None:
    error = None if status == "completed" else {"type": "RuntimeError", "message": "it went off"}
    write_record(folder, {"status": status, "best": {"epoch": 1, "val/accuracy": accuracy}, "error": error})


def begin(folder: Path, epochs: int) -> None:
    with locked(folder):
        (folder / "metrics.csv").write_text("epoch\n" + "0\n" * epochs)


def test_it_says_what_is_done_running_failed_left_and_best(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcdef"]
    progress = Progress(lambda: folders, 6, "val/accuracy", epochs=10, since=time.time() - 30)
    assert progress.look() == [] and progress.line() == "0/6 done"
    end(folders[0], "completed", 0.5)
    end(folders[1], "failed")
    end(folders[2], "completed", 0.75)
    begin(folders[3], epochs=5)
    begin(folders[4], epochs=5)
    assert progress.look() == folders[:3] and progress.look() == []  # each is news once
    # four of six runs' worth of epochs took 30 s, so the other two take 15
    assert progress.line() == "3/6 done, 2 running, 1 failed | 15 s left | best validation accuracy 75.00 % (c)"
    for folder in folders[3:]:
        end(folder, "completed", 0.1)
    progress.look()
    assert progress.line() == "6/6 done, 1 failed | best validation accuracy 75.00 % (c)"


def test_a_line_for_a_terminal_is_cut_in_the_name_first(tmp_path: Path) -> None:
    folder = tmp_path / "optimizer=adam,seed=0"
    progress = Progress(lambda: [folder], 1, "val/accuracy", epochs=1)
    end(folder, "completed", 0.5)
    progress.look()
    whole = progress.line()
    assert progress.line(len(whole)) == whole
    assert progress.line(61) == "1/1 done | best validation accuracy 50.00 % (optimizer=adam…)"
    assert progress.line(48) == "1/1 done | best validation accuracy 50.00 %"
    assert progress.line(20) == whole[:20]


def test_a_narrow_terminal_has_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    folder = tmp_path / ("a" * 100)
    with told(Progress(lambda: [folder], 1, "val/accuracy", epochs=1)):
        end(folder, "completed", 0.5)
    written = capsys.readouterr().out
    assert "50.00 %" in written and max(map(len, written.replace("\r", "\n").splitlines())) < 50


def test_the_best_loss_is_the_smallest_and_what_ended_before_is_not_of_now(tmp_path: Path) -> None:
    progress = Progress(lambda: [tmp_path / "a", tmp_path / "b"], None, "val/loss", epochs=1)
    for name, value in (("a", 0.2), ("b", 0.1)):
        write_record(tmp_path / name, {"status": "completed", "best": {"epoch": 0, "val/loss": value}})
    progress.since = time.time() + 60
    assert progress.look() == [] and progress.line() == "0 done"
    progress.since = 0
    progress.look()
    assert progress.line() == "2 done | best validation loss 0.1000 (b)"


def test_long_looks_leave_the_disk_to_the_runs() -> None:
    assert pause(0.001) == pause(0.0) == 0.5
    assert pause(2.0) / (2.0 + pause(2.0)) > 0.95


def test_failures_are_told_when_they_happen_and_a_file_gets_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    with told(Progress(lambda: folders, 2, "val/accuracy", epochs=1)):
        end(folders[0], "failed")
        end(folders[1], "completed", 0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "  failed: a: RuntimeError: it went off",
        "  2/2 done, 1 failed | best validation accuracy 50.00 % (b)",
    ]
