"""Sweeps that go on where they stopped, share a folder, and outlive their runs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import ROOT, SMALL, cnnbench, config, wait_until_free
from same import differences

from cnnbench.analysis.runs import collect
from cnnbench.cli.main import main
from cnnbench.sweep import pool
from cnnbench.sweep.launcher import launch
from cnnbench.sweep.plan import own_folder, read_plan, write_plan
from cnnbench.sweep.process import start as start_process
from cnnbench.sweep.sweep import Sweep
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record, write_record

QUIET = [*SMALL, "logger=none", "callbacks.progress.seconds=1000"]
PATH = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"


def statuses(folder: Path) -> dict[int | None, str]:
    return {run.seed: run.status for run in collect([folder])}


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """A command that goes on in the background, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cnnbench", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": PATH}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bool]], None]:
    """Lets hours pass for time limits as soon as something holds: what hangs then is ended, and no slow run before."""

    def jump_when(holds: Callable[[], bool]) -> None:
        jumping = SimpleNamespace(monotonic=lambda: time.monotonic() + 1e6 * holds(), sleep=time.sleep)
        monkeypatch.setattr(pool, "time", jumping)

    return jump_when


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


ENDS = {1: "failed", 2: "diverged", 3: "failed", 4: "failed"}
TOLD = ("it went off", "not finite in epoch 1", "killed by SIGKILL", "sweep.timeout", "cnnbench resume s")


def faults(folder: Path, text: str) -> list[str]:
    return ["+callbacks.f._target_=faults.Fault", f"+callbacks.f.{text}", f"+callbacks.f.folder='{folder}'"]


def test_no_end_of_a_run_is_the_end_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, clock: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    clock(lambda: (tmp_path / "seed4").exists())  # it hangs
    asked = [*QUIET, *faults(tmp_path, "by_seed={1:raise,2:diverge,3:kill,4:hang}"), "seed=range(6)"]
    assert main(["-m", *asked, "sweep.timeout=60", "hydra.sweep.dir=s"]) == 1
    assert statuses(tmp_path / "s") == {0: "completed", 5: "completed", **ENDS}
    output = capfd.readouterr().out
    assert all(told in output for told in TOLD), output
    before = (tmp_path / "s" / "seed=0" / "result.json").read_bytes()
    # the failed ones are repeated only when that is asked for
    assert main(["resume", "s"]) == 1
    told = capfd.readouterr().out
    assert "2 finished, 4 failed or diverged" in told and "0 to do" in told
    assert statuses(tmp_path / "s") == {0: "completed", 5: "completed", **ENDS}
    assert main(["resume", "s", "sweep.repeat_failed=true", "sweep.timeout=null"]) == 0
    assert statuses(tmp_path / "s") == dict.fromkeys(range(6), "completed")
    assert (tmp_path / "s" / "seed=0" / "result.json").read_bytes() == before
    for seed, status in ENDS.items():
        assert [end["status"] for end in read_record(tmp_path / "s" / f"seed={seed}")["attempts"]] == [status]


def write_what_is_imported(path: Path) -> None:
    path.write_text("\n".join(sys.modules))


def test_the_process_of_a_run_has_everything_imported(tmp_path: Path) -> None:
    start_process(write_what_is_imported, tmp_path / "modules").join()
    assert {"cnnbench.training.train", "cnnbench.training.figures", "lightning.pytorch"} <= set(
        (tmp_path / "modules").read_text().split()
    )


def test_nor_is_it_where_runs_are_parallel(tmp_path: Path, clock: Callable) -> None:
    here = tmp_path / "o'brien"  # a path that has to be quoted
    here.mkdir()
    clock(lambda: (tmp_path / "seed4").exists() and (here / "s" / "seed=5" / "result.json").exists())
    asked = [*QUIET, *faults(tmp_path, "by_seed={1:raise,2:diverge,3:kill,4:hang}"), "seed=range(6)"]
    done = cnnbench(
        "-m", *asked, "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "sweep.timeout=60", "hydra.sweep.dir=s",
        cwd=here, check=1,
    )  # fmt: skip
    assert statuses(here / "s") == {0: "completed", 5: "completed", **ENDS}
    assert all(told in done.stdout for told in TOLD), done.stdout
    assert "6/6 done, 4 failed" in done.stdout and "| train loss" not in done.stdout  # one line, no run's own
    assert "epoch 2/2" in (here / "s" / "seed=0" / "output.log").read_text()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder that outlives a test: joblib keeps its worker processes, and they keep theirs."""
    return tmp_path_factory.mktemp("lasting")


@pytest.mark.parametrize("launcher", ["joblib", "basic"])
def test_other_launchers_give_a_whole_leaderboard(tmp_path: Path, lasting: Path, launcher: str) -> None:
    there = tmp_path / "s"
    asked = [*QUIET, *faults(tmp_path, "by_seed={1:raise,2:diverge}"), "seed=range(4)", f"hydra.sweep.dir={there}"]
    jobs = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    done = cnnbench("-m", *asked, f"hydra/launcher={launcher}", *jobs, cwd=lasting, check=1)
    assert statuses(there) == {0: "completed", 1: "failed", 2: "diverged", 3: "completed"}
    assert all(told in done.stdout for told in ("it went off", "not finite in epoch 1", f"cnnbench resume {there}"))
    if launcher == "joblib":
        assert "4/4 done, 2 failed" in done.stdout and "| train loss" not in done.stdout
    with (there / "leaderboard.csv").open() as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["2"]


def test_what_a_launcher_that_gave_up_has_left_is_resumed(tmp_path: Path, lasting: Path) -> None:
    """joblib gives up when one of its workers is killed."""
    there = tmp_path / "s"
    asked = [*QUIET, *faults(tmp_path, "by_seed={1:kill}"), "seed=range(4)", "hydra.launcher.n_jobs=2"]
    done = cnnbench("-m", *asked, "hydra/launcher=joblib", f"hydra.sweep.dir={there}", cwd=lasting, check=1)
    assert "the launcher gave up" in done.stdout and f"cnnbench resume {there}" in done.stdout
    assert len(read_plan(there)["runs"]) == 4 and (tmp_path / "seed1").exists()  # it had begun
    cnnbench("resume", "s", "hydra/launcher=local", cwd=tmp_path, check=0)
    assert statuses(tmp_path / "s") == dict.fromkeys(range(4), "completed")


def test_a_single_run_can_be_given_a_time_limit_and_a_second_try(tmp_path: Path, clock: Callable) -> None:
    clock(lambda: (tmp_path / "seed0").exists())  # the first try hangs
    hangs = ["+callbacks.f._target_=faults.Fault", "+callbacks.f.how=hang", f"+callbacks.f.folder='{tmp_path}'"]
    asked = [*QUIET, *hangs, "sweep.timeout=0.5", "sweep.retries=1", "hydra.run.dir=run"]
    done = cnnbench(*asked, cwd=tmp_path, check=0)
    assert "it had not ended after 0.5 minutes (sweep.timeout)" in done.stdout and "trying again" in done.stdout
    assert read_record(tmp_path / "run")["status"] == "completed"


def test_a_failed_run_is_tried_again_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["-m", *QUIET, *faults(tmp_path, "how=exit"), "sweep.retries=1", "hydra.sweep.dir=s"]) == 0
    told = capfd.readouterr().out
    assert "ended itself with status 3" in told and "trying again" in told


def test_a_sweep_that_grew_runs_the_new_cells_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    count = ["+callbacks.count._target_=faults.Count", f"+callbacks.count.file='{tmp_path / 'began'}'"]
    command = ["-m", *QUIET, *count, "sweep.isolate=false", "hydra.sweep.dir=s"]
    assert main([*command, "optimizer=sgd,adam"]) == 0
    assert main([*command, "optimizer=sgd,adam"]) == 0
    assert "2 runs: 2 finished, 0 to do" in capsys.readouterr().out
    assert main([*command, "optimizer=adam,sgd", "seed=0,1"]) == 0  # which also names the folders in another way
    assert "4 runs: 2 finished, 2 to do" in capsys.readouterr().out
    assert Counter((tmp_path / "began").read_text().split()) == {"0": 2, "1": 2}
    assert len(collect([tmp_path / "s"])) == 4
    # another configuration whose folder would have the name of a finished one
    assert main([*command, "optimizer=sgd,adam", "trainer.max_epochs=1"]) == 0
    folders = {path.name for path in (tmp_path / "s").iterdir() if path.is_dir()}
    assert {"optimizer=sgd", "optimizer=sgd_2"} <= folders and len(collect([tmp_path / "s"])) == 6
    # all the commands together
    assert main(["resume", "s"]) == 0
    assert "6 runs: 6 finished, 0 to do" in capsys.readouterr().out


def test_two_processes_on_one_folder_share_its_runs(tmp_path: Path) -> None:
    count = ["+callbacks.count._target_=faults.Count", f"+callbacks.count.file='{tmp_path / 'began'}'"]
    command = ["-m", *QUIET, *count, "seed=range(4)", "hydra.sweep.dir=s"]
    both = [start(*command, cwd=tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=300)[0] for process in both]
    assert Counter((tmp_path / "began").read_text().split()) == {str(seed): 1 for seed in range(4)}, told
    assert set(statuses(tmp_path / "s").values()) == {"completed"}


def test_control_c_ends_a_sweep_in_good_order_and_resume_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*SMALL, "logger=none", "trainer.max_epochs=3", "optimizer=adam", "model.hidden=[16]", "model.dropout=0.3"]
    waits = faults(tmp_path, "by_seed={0:wait}")  # for a stop, after its first steps
    process = start("-m", *asked, *waits, "+callbacks.f.step=7", "seed=0,1", "hydra.sweep.dir=s", cwd=tmp_path)
    wait_for(tmp_path / "seed0", process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "`cnnbench resume s` goes on" in told
    assert statuses(tmp_path / "s") == {0: "interrupted"}
    monkeypatch.chdir(tmp_path)
    assert main(["resume", "s"]) == 0
    assert statuses(tmp_path / "s") == {0: "completed", 1: "completed"}
    resumed = tmp_path / "s" / "seed=0"
    assert read_record(resumed)["attempts"][0]["status"] == "interrupted"
    train(config(*asked, base=[]), tmp_path / "whole")
    assert not differences(tmp_path / "whole", resumed)


def test_control_c_twice_ends_at_once_even_a_run_that_hangs(tmp_path: Path) -> None:
    process = start("-m", *QUIET, *faults(tmp_path, "how=hang"), "seed=0", "hydra.sweep.dir=s", cwd=tmp_path)
    wait_for(tmp_path / "seed0", process)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert any("again stops at once" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == -signal.SIGINT
    wait_until_free(tmp_path / "s")
    assert main(["resume", f"{tmp_path / 's'}"]) == 0
    assert statuses(tmp_path / "s") == {0: "completed"}


def test_two_sweeps_of_the_same_second_have_a_folder_each(tmp_path: Path) -> None:
    assert [own_folder(tmp_path / "now").name for _ in range(3)] == ["now", "now_2", "now_3"]


def test_two_runs_of_the_same_second_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: datetime(2026, 1, 2)))
    for seed in range(2):
        assert launch([*QUIET, f"seed={seed}"]) == 0
    folders = sorted((tmp_path / "outputs" / "cnnbench").iterdir())
    assert [read_record(folder)["seed"] for folder in folders] == [0, 1]


def test_a_sweep_does_not_take_runs_of_another_of_the_same_second_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: datetime(2026, 1, 2)))
    for _ in range(2):
        assert launch(["-m", *QUIET, "seed=0,1", "sweep.isolate=false"]) == 0
    folders = [*(tmp_path / "outputs" / "cnnbench").iterdir()]
    assert [statuses(folder) for folder in folders] == [{0: "completed", 1: "completed"}] * 2


@pytest.mark.parametrize("more", [["-m", "seed=0,1"], []])
def test_a_time_limit_needs_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"sweep\.isolate=true"):
        launch([*QUIET, "sweep.timeout=1", "sweep.isolate=false", *more])


def test_runs_that_differ_in_speed_alone_are_all_run(tmp_path: Path) -> None:
    asked = ["-m", *QUIET, "steps_per_execution=1,2", "seed=0,1", "hydra.sweep.dir=s", "sweep.isolate=false"]
    twice = "label_smoothing=0.1,1e-1"  # which is one value
    done = cnnbench(*asked, twice, cwd=tmp_path, check=0)
    assert "4 runs" in done.stdout and len(read_plan(tmp_path / "s")["runs"]) == len(collect([tmp_path / "s"])) == 4


def test_a_dry_run_checks_and_writes_nothing(tmp_path: Path) -> None:
    asked = ["-m", *QUIET, "seed=0,1", "hydra.sweeper.dry_run=true", "hydra.sweep.dir=s", "sweep.isolate=false"]
    cnnbench(*asked, cwd=tmp_path, check=0)
    cnnbench(*asked, "data.image_size=1", cwd=tmp_path, check=2)
    assert not list(tmp_path.iterdir())


def test_the_commands_of_a_sweep_are_kept_once(tmp_path: Path) -> None:
    for overrides in (["seed=0,1"], ["seed=0,1", "hydra.sweep.dir=elsewhere"], ["seed=0,1,2"]):
        write_plan(tmp_path, overrides, [], {})
    assert read_plan(tmp_path)["commands"] == [["seed=0,1"], ["seed=0,1,2"]]
    (tmp_path / "sweep.json").write_text(json.dumps([{"flags": ["-m"], "overrides": ["seed=0"]}]))  # of version 1
    assert read_plan(tmp_path) == {"commands": [["seed=0"]], "runs": {}}
    (tmp_path / "sweep.json").write_text(json.dumps({"commands": [], "runs": {"../x": "0", "/x": "1", "a/x": "2"}}))
    assert read_plan(tmp_path)["runs"] == {"a/x": "2"}
    (tmp_path / "sweep.json").write_text(json.dumps([{}]))
    with pytest.raises(RequestError, match="cannot be read"):
        read_plan(tmp_path)


def test_a_folder_that_was_begun_belongs_to_its_configuration_whatever_is_left_in_it(tmp_path: Path) -> None:
    asked = ["-m", *QUIET, "seed=0,1", "hydra.sweep.dir=s", "sweep.isolate=false"]
    cnnbench(*asked, cwd=tmp_path, check=0)
    begun = tmp_path / "s" / "seed=1"
    (begun / "result.json").unlink()
    (begun / ".hydra" / "config.yaml").write_text("")  # as a kill may leave it
    cnnbench("resume", "s", cwd=tmp_path, check=0)
    assert {path.name for path in (tmp_path / "s").iterdir() if path.is_dir()} == {"seed=0", "seed=1"}
    assert read_record(begun)["status"] == "completed"


def test_a_sweep_is_done_whatever_another_has_left_in_its_folder(tmp_path: Path) -> None:
    asked = ["-m", *QUIET, "seed=0,1", "hydra.sweep.dir=s", "sweep.isolate=false"]
    cnnbench(*asked, cwd=tmp_path, check=0)
    record = {**read_record(tmp_path / "s" / "seed=0"), "fingerprint": "other"}
    write_record(tmp_path / "s" / "another", {**record, "status": "failed", "error": "x"})
    (tmp_path / "s" / "running").mkdir()
    assert "not all runs completed" not in cnnbench(*asked, cwd=tmp_path, check=0).stdout


def test_a_sweep_is_done_only_when_each_of_its_runs_has_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["-m", *QUIET, "seed=0,1", "hydra.sweep.dir=s", "sweep.isolate=false"]
    monkeypatch.setattr(Sweep, "launch", lambda self, runs: None)
    done = cnnbench(*asked, cwd=tmp_path, check=1)
    assert "not all runs completed: `cnnbench resume s` goes on" in done.stdout


def test_a_killed_server_takes_no_run_with_it(tmp_path: Path) -> None:
    asked = [*QUIET, *faults(tmp_path, "by_seed={1:kill_server}"), "seed=range(3)", "hydra.sweep.dir=s"]
    cnnbench("-m", *asked, cwd=tmp_path, check=0)
    assert statuses(tmp_path / "s") == dict.fromkeys(range(3), "completed")


def test_after_kills_of_its_server_and_of_itself_a_parallel_sweep_is_done_in_the_folders_that_it_planned(
    tmp_path: Path,
) -> None:
    asked = [*QUIET, *faults(tmp_path, "by_seed={1:kill_server,2:hang}"), "seed=range(4)", "hydra.sweep.dir=s"]
    process = start("-m", *asked, "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", cwd=tmp_path)
    for seed in (1, 2):  # the server has been killed, and a run is hanging
        wait_for(tmp_path / f"seed{seed}", process)
    process.kill()
    process.wait()
    wait_until_free(tmp_path / "s")
    owners = read_plan(tmp_path / "s")["runs"]
    assert owners.keys() == {f"seed={seed}" for seed in range(4)}  # the file is there before the runs are
    cnnbench("resume", "s", cwd=tmp_path, check=0)
    folders = [path for path in (tmp_path / "s").iterdir() if path.is_dir()]
    assert {path.name: read_record(path)["fingerprint"] for path in folders} == owners
    assert statuses(tmp_path / "s") == dict.fromkeys(range(4), "completed")


def test_folds_are_swept_continued_and_reported_as_one_configuration(tmp_path: Path) -> None:
    folds = ["-m", *QUIET, "trainer.max_epochs=1", "sweep.isolate=false", "data.folds=3", "hydra.sweep.dir=s"]
    cnnbench(*folds, "data.fold=0,1", cwd=tmp_path, check=0)
    done = cnnbench(*folds, "data.fold=range(3)", cwd=tmp_path, check=0).stdout
    assert "2 finished, 1 to do" in done and "seeds and splits (n: runs)" in " ".join(done.split())
    assert {run.path.name for run in collect([tmp_path / "s"])} == {f"data.fold={fold}" for fold in range(3)}
    (row,) = csv.DictReader((tmp_path / "s" / "leaderboard.csv").read_text().splitlines())
    assert row["n"] == "3" and "data.fold" not in row
    assert "0 to do" in cnnbench("resume", "s", cwd=tmp_path, check=0).stdout
    page = (tmp_path / "s" / "report.html").read_text()
    assert "(3 runs on 3 splits," in page and "saw different data" not in page
