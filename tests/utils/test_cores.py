"""How many threads a run takes by itself: those of idle cores, and of a small network one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import config

from cnnbench.training.train import train
from cnnbench.utils import environment


def test_a_core_that_another_process_keeps_busy_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(environment, "cores", lambda: 4)
    used = iter([100.0, 100.0 + 2.1])  # of others, in a second; this process sleeps
    monkeypatch.setattr(environment, "_busy_seconds", lambda: next(used))
    clock = iter([0.0, 1.0])
    monkeypatch.setattr(environment.time, "perf_counter", lambda: next(clock))
    assert environment.idle_cores(0.0) == 4 - 2
    assert "2 of 4 cores" in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # who says how many is taken at his word
    assert environment.idle_cores() == 3


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux alone says how busy cores are")
def test_a_busy_process_counts_and_one_of_low_priority_does_not(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    # user, nice, system, idle, ... in hundredths of a second, here as elsewhere
    tick = os.sysconf("SC_CLK_TCK")
    other = f"cpu{max(os.sched_getaffinity(0)) + 1} 900 0 900 0 0 0 0 0 0 0\n"
    lines = [f"cpu{one} {3 * tick} {50 * tick} {2 * tick} 7 0 0 0 0 0 0\n" for one in os.sched_getaffinity(0)]
    (tmp_path / "stat").write_text("".join(["cpu  1 2 3 4 5 6 7 8 9 10\n", *lines, other, "ctxt 5\n"]))
    assert environment._busy_seconds(tmp_path / "stat") == 5 * len(os.sched_getaffinity(0))
    loop = f"""
import os, time
os.sched_setaffinity(0, {{{core}}})
print(flush=True)
until = time.process_time() + 0.3
while time.process_time() < until: pass
print(flush=True)
while True: pass"""
    with subprocess.Popen([sys.executable, "-c", loop], stdout=subprocess.PIPE) as busy:
        assert busy.stdout and busy.stdout.readline()
        began, use = time.perf_counter(), environment.CoreUse()
        assert busy.stdout.readline()
        seconds = use.others() * (time.perf_counter() - began)
        busy.kill()
    # of the 0.3 that it has taken, or more where the tests are not alone; where they are of low priority, so is it
    assert seconds > 0.2 or os.nice(0) > 0


def test_a_small_network_trains_with_one_thread_and_a_resumed_run_keeps_its_own(tmp_path: Path) -> None:
    base = ["model=mlp", "data.limit_train=64", "trainer.max_epochs=1", "trainer.accelerator=cpu", "callbacks=none"]
    asked = config("data.batch_size=16", base=base)
    assert asked["threads"] is None
    assert train(asked, tmp_path / "small")["environment"]["threads"] == 1
    asked = config("data.batch_size=16", "threads=2", base=base)
    assert train(asked, tmp_path / "asked")["environment"]["threads"] == 2
