"""Who is stopped by a signal: a worker alone, a sweep with all its runs; and a run saves before its job is requeued."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from helpers import config

from cnnbench.results.record import read_record
from cnnbench.stopping import STOP_FILE, listening, put_off, requested
from cnnbench.sweep.isolate import Job, run_isolated


def test_a_worker_stops_alone_and_a_sweep_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = tmp_path / "stop"
    monkeypatch.setenv(STOP_FILE, str(stop))
    with listening():  # a worker's
        signal.raise_signal(signal.SIGTERM)
        assert requested() == "SIGTERM" and not stop.exists()
    assert requested() is None
    with listening(tell=stop):  # the sweep's
        with listening():
            signal.raise_signal(signal.SIGTERM)
        assert requested() == "SIGTERM" and stop.exists()


def test_nothing_is_put_off_that_nobody_handles() -> None:
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    with put_off() as noted:
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    assert noted == []


def test_a_run_has_saved_before_whoever_requeues_its_job_hears_that_the_time_is_up(tmp_path: Path) -> None:
    cfg = config(
        "+callbacks.f._target_=faults.Fault", "+callbacks.f.how=wait", "+callbacks.f.step=3", f"+callbacks.f.folder={tmp_path}"
    )  # fmt: skip
    folder, heard = tmp_path / "run", []

    def requeue(number: int, frame: object) -> None:
        heard.append(read_record(folder)["status"])

    def time_is_up() -> None:
        while not (tmp_path / "seed0").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        threading.Thread(target=time_is_up, daemon=True).start()
        record = run_isolated(Job(cfg, folder, [], {}))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == ["interrupted"] and record["status"] == "interrupted"
    assert (folder / "checkpoints" / "last.ckpt").exists()
