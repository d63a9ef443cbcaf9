"""Kill runs, and sweeps, at random moments and see that they go on to the same result: make torture ARGS="--kills 50"

Over optimizers, schedulers and augmentations. Each kill (SIGKILL, SIGTERM or SIGINT) hits a process at a moment drawn
from the duration of the whole run, start and test included; the run is then started again until it has completed, and
its weights (last and best), history and test metrics are compared with the uninterrupted run's, bit for bit. Then sweeps of
three runs, two at a time, lose the sweeping process or the server that their runs are forked from, and are resumed until
they say that they are done: each run must be in its planned folder, with the uninterrupted result.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers import config
from same import differences

from cnnbench.config.groups import groups
from cnnbench.sweep.job import Job, work
from cnnbench.sweep.plan import read_plan
from cnnbench.sweep.process import start as start_process
from cnnbench.sweep.process import warm_up
from cnnbench.utils.record import RECORD_FILE, read_record

BASE = [
    "model=tiny_cnn", "model.hidden=[32]", "model.dropout=0.3", "data.image_size=12", "data.limit_train=400",
    "data.batch_size=16", "trainer.max_epochs=8", "trainer.accelerator=cpu",
    "threads=1", "logger=tensorboard",
]  # fmt: skip
STEPS = ("1", "3", "auto")  # steps_per_execution
MINUTES = ("0", "0.0005", "null")  # between two checkpoints within an epoch: after each chunk, every 30 ms, never


def combinations(rng: random.Random) -> list[list[str]]:
    """Each optimizer, scheduler and augmentation several times, with what else changes the path of a run."""
    names = groups()
    grid = list(itertools.product(names["optimizer"], names["scheduler"], names["augment"]))
    rng.shuffle(grid)
    made = []
    for number, (optimizer, scheduler, augment) in enumerate(grid):
        steps = STEPS[number % len(STEPS)]
        asked = [
            f"optimizer={optimizer}",
            f"scheduler={scheduler}",
            f"augment={augment}",
            f"steps_per_execution={steps}",
        ]
        if number % 4 == 1:
            asked += [
                "callbacks=early_stopping",
                "callbacks.early_stopping.patience=2",
                "callbacks.progress.seconds=1000",
            ]
        if number % 5 == 2:
            asked.append("trainer.accumulate_grad_batches=2")
        made.append(asked)
    return made


def start(folder: Path, asked: list[str]) -> Any:
    """A process that runs; forked from a server that has imported everything, so that most of its time is the run's."""
    job = Job(config(*asked, base=BASE), folder, asked, {})
    return start_process(work, job, {**os.environ}, Path(os.devnull))


def finish(folder: Path, asked: list[str]) -> float:
    """Run to the end; returns the seconds that it took."""
    began = time.perf_counter()
    process = start(folder, asked)
    process.join()
    record = read_record(folder)
    if record["status"] != "completed":
        raise SystemExit(f"{folder}: {record['status']} {record['error']}")
    return time.perf_counter() - began


def sweep(folder: Path, resume: bool) -> subprocess.Popen[bytes]:
    """The process of a sweep over three runs, two at a time."""
    asked = [*BASE, "logger=none", "optimizer=adam", "seed=range(3)", "hydra/launcher=local", "hydra.launcher.n_jobs=2"]
    command = ["resume", str(folder)] if resume else ["-m", *asked, f"hydra.sweep.dir={folder}"]
    log = folder.with_suffix(".log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "cnnbench", *command], stdout=log, stderr=log, start_new_session=True
    )


def server_of(process: subprocess.Popen[bytes]) -> int | None:
    """The process that a sweep's runs are forked from."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"forkserver" in (path.parent / "cmdline").read_bytes():
                return int(path.parent.name)
    return None


def torture_sweeps(count: int, rng: random.Random) -> int:
    """Kill each of ``count`` sweeps, or the server of its runs, up to four times until it says that it is done; returns how
    many have not come to the uninterrupted results in the folders that they had planned."""
    wrong, kills = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        began = time.perf_counter()
        if sweep(whole, resume=False).wait():
            raise SystemExit((Path(temporary) / "whole.log").read_text())
        seconds = time.perf_counter() - began
        planned = read_plan(whole)["runs"]
        for number in range(count):
            folder, hits, starts = Path(temporary) / f"sweep-{number}", list[str](), 1
            process = sweep(folder, resume=False)
            while True:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(rng.uniform(0.2, 1) * seconds if len(hits) < 4 else None)
                if process.returncode == 0:
                    break
                if process.returncode is None:
                    server = server_of(process) if rng.random() < 0.5 else None
                    hits.append("server" if server else "sweep")
                    os.kill(server or process.pid, signal.SIGKILL)
                    if server:  # the sweep starts another
                        continue
                    process.wait()
                starts += 1
                if starts > 10:
                    raise SystemExit(folder.with_suffix(".log").read_text())
                process = sweep(folder, resume=(folder / "sweep.json").exists())
            kills.update(hits)
            folders = {path.name for path in folder.iterdir() if path.is_dir()}
            is_whole = read_plan(folder)["runs"] == planned and folders == planned.keys()
            differs = [
                name
                for name in planned
                if not (is_whole and (folder / name / RECORD_FILE).exists()) or differences(whole / name, folder / name)
            ]
            print(f"sweep {number}: killed {', '.join(hits) or 'nothing'}; started {starts} times; "
                  f"{'DIFFERS' if differs else 'identical'}", flush=True)  # fmt: skip
            wrong += bool(differs)
    hit = f"{kills['sweep']} kills of the sweep, {kills['server']} of the server"
    print(f"{count} sweeps, {hit}; {count - wrong} went on to the identical results")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=25, help="configurations; the kills are dealt out among them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sweeps", type=int, default=5, help="that are killed after the single runs")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    lost = torture_runs(options.kills, options.runs, rng) if options.kills else 0
    lost += torture_sweeps(options.sweeps, rng) if options.sweeps else 0
    return min(lost, 1)


def torture_runs(count: int, configurations: int, rng: random.Random) -> int:
    """Kill single runs ``count`` times; returns how many kills did not lead to the uninterrupted result."""
    warm_up()
    kills = identical = 0
    print("signal   at s   of s  seen as      configuration, checkpoints every ... minutes", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        took: dict[Path, float] = {}
        todo = combinations(rng)[:configurations]
        for number in itertools.count():
            asked = todo[number % len(todo)]
            whole = Path(temporary) / f"whole-{number % len(todo)}"
            if whole not in took:
                took[whole] = finish(whole, asked)
            seconds = took[whole]
            folder = Path(temporary) / f"killed-{number}"
            minutes = rng.choice(MINUTES)
            hits = []
            while not hits or (rng.random() < 0.3 and kills < count):
                name = rng.choice(("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT"))
                moment = rng.uniform(0, seconds)
                process = start(folder, [*asked, f"checkpoint.minutes={minutes}"])
                process.join(moment)
                if process.exitcode is not None:  # too late: it took less time than the first
                    seconds = moment
                    break
                os.kill(process.pid, getattr(signal, name))
                process.join()
                kills += 1
                hits.append((name, moment, seen_as(folder)))
            finish(folder, [*asked, f"checkpoint.minutes={minutes}"])
            took[whole] = seconds
            wrong = differences(whole, folder)
            identical += len(hits) if not wrong else 0
            for name, moment, state in hits:
                print(f"{name:<8} {moment:5.2f}  {seconds:5.2f}  {state:<11}  {' '.join(asked)}, {minutes}", flush=True)
            if wrong:
                print(f"    DIFFERS in {', '.join(wrong)}", flush=True)
            if kills >= count:
                break
    print(f"{kills} kills; {identical} went on to the identical result")
    return kills - identical


def seen_as(folder: Path) -> str:
    """What a kill left: the status of its record, or none and the newest checkpoint."""
    if (folder / "result.json").exists():
        return str(read_record(folder)["status"])
    return "checkpoint" if (folder / "checkpoints" / "last.ckpt").exists() else "nothing"


if __name__ == "__main__":
    sys.exit(main())
