"""``sweep.stop_on_failure=N``: a fault common to all runs ends a sweep early, and it can be gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import SMALL, cnnbench

from cnnbench.analysis.runs import collect
from cnnbench.sweep.progress import Progress
from cnnbench.sweep.run_summary import given_up

ASKED = ["-m", *SMALL, "trainer.max_epochs=1", "logger=none", "callbacks.figures.pictures=false", "callbacks.progress.seconds=1000",
         "hydra.sweep.dir=s", "sweep.stop_on_failure=2", "+callbacks.f._target_=faults.Fault"]  # fmt: skip
GOES_ON = "`cnnbench resume s sweep.repeat_failed=true`"


def statuses(folder: Path) -> dict[int | None, str]:
    return {run.seed: run.status for run in collect([folder])}


def test_two_failures_in_a_row_end_a_sweep_and_resume_does_the_rest(tmp_path: Path) -> None:
    fault = [
        f"+callbacks.f.by_seed={{{','.join(f'{seed}:raise' for seed in (0, 2, 3))}}}",
        f"+callbacks.f.folder='{tmp_path}'",
    ]
    done = cnnbench(*ASKED, "seed=range(6)", *fault, cwd=tmp_path, check=1)
    assert statuses(tmp_path / "s") == {0: "failed", 1: "completed", 2: "failed", 3: "failed"}
    assert done.stdout.count("2 runs in a row failed with RuntimeError: it went off\n") == 1 and GOES_ON in done.stdout
    cnnbench("resume", "s", "sweep.repeat_failed=true", cwd=tmp_path, check=0)
    assert statuses(tmp_path / "s") == dict.fromkeys(range(6), "completed")


def test_so_does_one_of_parallel_runs(tmp_path: Path) -> None:
    more = ["hydra.launcher.n_jobs=2", "+callbacks.f.how=raise", "seed=range(9)"]
    done = cnnbench(*ASKED, *more, cwd=tmp_path, check=1)
    assert 2 <= list(statuses(tmp_path / "s").values()).count("failed") < 9
    assert "in a row failed with RuntimeError: it went off\n" in done.stdout and GOES_ON in done.stdout


def test_another_launcher_is_stopped_too_and_what_was_running_can_go_on(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    faults = ",".join(f"{seed}:{'raise' if seed < 2 else 'wait'}" for seed in range(5))  # wait for the stop
    asked = [
        item.replace("max_epochs=1", "max_epochs=2") for item in ASKED
    ]  # what waits in one epoch stops before the next
    more = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"+callbacks.f.by_seed={{{faults}}}", "seed=range(5)"]
    done = cnnbench(*asked, *more, cwd=tmp_path, check=1, fresh=True)
    ended = statuses(tmp_path / "s")
    assert ended.pop(0) == ended.pop(1) == "failed" and 4 not in ended and {*ended.values()} <= {"interrupted"}
    assert "2 runs in a row failed with RuntimeError: it went off\n" in done.stdout and GOES_ON in done.stdout


def test_what_ended_otherwise_is_no_failure(tmp_path: Path) -> None:
    progress = Progress(9, "val/accuracy", in_turn=True)
    progress.stop_on_failure = 2
    for status, kind, expected in (
        ("failed", "A", False), ("diverged", "Diverged", False), ("interrupted", "Stopped", False),
        ("failed", "Pruned", False), ("failed", "B", True),
    ):  # fmt: skip
        progress.end(tmp_path, {"status": status, "error": {"type": kind, "message": "text"}})
        assert progress.has_given_up() == expected
    assert given_up(["A: 1", "B: 2", "B: 2"], tmp_path).startswith("3 runs in a row failed, 2 of them with B: 2\n")
    again = given_up(["A: 1"], Path("s"), is_search=True)  # whose failed trials are not repeated
    assert again.endswith("Once the cause is gone, `cnnbench resume s` draws the rest")
