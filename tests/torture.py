"""Kill runs at random moments and see that they go on to the same result: make torture ARGS="--kills 50 --seed 0"

Over optimizers, schedulers and augmentations. Each kill (SIGKILL, SIGTERM or SIGINT) hits a process at a moment drawn
from the duration of the whole run, start and test included; the run is then started again until it has completed, and
its weights (last and best), history and test metrics are compared with the uninterrupted run's, bit for bit.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from helpers import config
from same import differences

from cnnbench.config.compose import groups
from cnnbench.sweep.process import start as start_process
from cnnbench.sweep.process import warm_up
from cnnbench.sweep.worker import Job, work
from cnnbench.utils.record import read_record

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=25, help="configurations; the kills are dealt out among them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    warm_up()
    kills = identical = 0
    print("signal   at s   of s  seen as      configuration, checkpoints every ... minutes", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        took: dict[Path, float] = {}
        todo = combinations(rng)[: options.runs]
        for number in itertools.count():
            asked = todo[number % len(todo)]
            whole = Path(temporary) / f"whole-{number % len(todo)}"
            if whole not in took:
                took[whole] = finish(whole, asked)
            seconds = took[whole]
            folder = Path(temporary) / f"killed-{number}"
            minutes = rng.choice(MINUTES)
            hits = []
            while not hits or (rng.random() < 0.3 and kills < options.kills):
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
            if kills >= options.kills:
                break
    print(f"{kills} kills; {identical} went on to the identical result")
    return 0 if identical == kills else 1


def seen_as(folder: Path) -> str:
    """What a kill left: the status of its record, or none and the newest checkpoint."""
    if (folder / "result.json").exists():
        return str(read_record(folder)["status"])
    return "checkpoint" if (folder / "checkpoints" / "last.ckpt").exists() else "nothing"


if __name__ == "__main__":
    sys.exit(main())
