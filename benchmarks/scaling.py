"""How cost grows with the number of runs, images, classes and cells; ``benchmarks/README.md`` has the figures.

    python -m benchmarks.scaling report 10x8x5x25     # learning rates x weight decays x dropouts x seeds
    python -m benchmarks.scaling images 60000 1000000
    python -m benchmarks.scaling classes 10 100 1000
    python -m benchmarks.scaling cells 200

Everything is made up in a folder that is removed at the end, but for the epoch that is trained. A line has the seconds
on the clock, those of the processor (user + system), and the most memory that the process had at a time.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MODEL = ["model=tiny_cnn", "threads=1", "trainer.accelerator=cpu", "logger=none"]
PLAIN = [*MODEL, "callbacks.figures.pictures=false"]
NPZ = ["data=npz", "data.validation=0.1", "data.batch_size=256", "trainer.max_epochs=1"]
KEYS = ("optimizer.lr", "optimizer.weight_decay", "model.dropout", "seed")
READ = "from cnnbench.sweep.plan import existing; import pathlib; existing(pathlib.Path({folder!r}))"
OPEN = """
import pathlib, resource, time
from cnnbench.data import cache
from cnnbench.data.sources import Npz
def opened(path):
    start, cpu = time.perf_counter(), time.process_time()
    found = cache.prepare(Npz(), pathlib.Path(path), None, pathlib.Path(path).with_suffix(".cache"))
    print(f"    in it: {{time.perf_counter() - start:.2f}} s, cpu {{time.process_time() - cpu:.2f}} s")
opened({path!r})
"""
COMPOSE = """
import time
from cnnbench.config.compose import compose, resolved
from cnnbench.config.overrides import expand
runs = expand({overrides!r})
start = time.process_time()
made = [resolved(compose(run, hydra=True)) for run in runs]
print(f"    {{(time.process_time() - start) / len(made):.3f}} s of the processor a run ({{len(made)}})")
"""


def timed(title: str, *arguments: str) -> None:
    """Run Python with these arguments, and tell what it took, and what the code of ``-c`` prints."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        out.seek(0)
        text = out.read()
    seconds, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
    print(f"{title:<44} {seconds:8.1f} s  cpu {cpu:8.1f} s  {used.ru_maxrss / 1024:8,.0f} MiB", flush=True)
    print(text if arguments[0] == "-c" else "", end="")
    if status:
        raise SystemExit(text)


def size(path: Path) -> str:
    """Of a file, in MB."""
    return f"    {path.name}: {path.stat().st_size / 1e6:.2f} MB"


def report(grids: list[str], folder: Path) -> None:
    """``cnnbench report`` and what ``cnnbench resume`` reads, over so many runs."""
    timed("one run, the template of the records", "-m", "cnnbench", *PLAIN, "data.limit_train=300",
          "trainer.max_epochs=10", f"hydra.run.dir={folder / 'template'}")  # fmt: skip
    template = json.loads((folder / "template" / "result.json").read_text())
    for grid in grids:
        runs = folder / grid
        counts = [int(count) for count in grid.split("x")]
        make_runs(runs, template, counts)
        title = f"{math.prod(counts):,} records: "
        timed(f"{title}read for resume", "-c", READ.format(folder=str(runs)))
        timed(f"{title}cnnbench report", "-m", "cnnbench", "report", str(runs))
        print(size(runs / "report.html"))


def make_runs(folder: Path, template: dict[str, Any], counts: list[int]) -> None:
    """Write the run folders of a grid, as the template's run would have left them with these settings and some luck."""
    from cnnbench.config.compose import fingerprint
    from cnnbench.config.resolvers import run_folder

    levels = [[round(0.001 * (place + 1), 6) for place in range(count)] for count in counts[:3]] + [range(counts[3])]
    draw = random.Random(0)
    for values in itertools.product(*levels):
        record = copy.deepcopy(template)
        for key, value in zip(KEYS, values, strict=True):
            *parents, leaf = key.split(".")
            node = record["config"]
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        record.update(seed=values[-1], overrides=[f"{key}={v}" for key, v in zip(KEYS, values, strict=True)])
        record["fingerprint"] = fingerprint(record["config"])
        shift = 5 * values[0] - 3 * values[1] + draw.gauss(0, 0.01)
        for part in (record["metrics"], record["best"]):
            part.update({key: value + shift for key, value in part.items() if key != "epoch"})
        record["history"].update({key: [value + shift + draw.gauss(0, 0.005) for value in series]
                                  for key, series in record["history"].items() if "/" in key})  # fmt: skip
        path = folder / run_folder(",".join(record["overrides"]))
        for name in ("checkpoints", "figures", "tensorboard", ".hydra"):
            (path / name).mkdir(parents=True)
        (path / ".hydra" / "overrides.yaml").write_text(json.dumps(record["overrides"]))
        (path / "result.json").write_text(json.dumps(record, indent=1))


def write_npz(path: Path, images: int, classes: int) -> None:
    """Noise of 28 x 28 gray pixels with a brighter row that tells the class, and a hundredth as many to test on."""
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", images), ("test", max(images // 100, classes))):
        labels = np.arange(count) % classes
        pixels = draw.integers(0, 128, (count, 28, 28), dtype=np.uint8)
        pixels[np.arange(count), labels % 28] += 100
        arrays.update({f"{split}_images": pixels, f"{split}_labels": labels})
    np.savez(path, **arrays)


def images(counts: list[int], folder: Path) -> None:
    """A store of so many images: made, opened, and trained on for an epoch."""
    for count in counts:
        path = folder / f"{count}.npz"
        write_npz(path, count, 10)
        for what in ("make the store", "open the store"):
            timed(f"{count:,} images: {what}", "-c", OPEN.format(path=str(path)))
        run = folder / f"run{count}"
        timed(f"{count:,} images: an epoch", "-m", "cnnbench", *PLAIN, *NPZ, f"data.path={path}",
              f"data.cache={path.with_suffix('.cache')}", f"hydra.run.dir={run}")  # fmt: skip
        seconds = json.loads((run / "result.json").read_text())["time"]["epoch_seconds"][0]
        print(f"    training alone: {seconds:.1f} s, {1e6 * seconds / (0.9 * count):.0f} microseconds an image")


def classes(counts: list[int], folder: Path) -> None:
    """A run on 20,000 images of so many classes: the record, the end-of-run figures and the report of it."""
    for count in counts:
        path, run = folder / f"{count}.npz", folder / f"run{count}"
        write_npz(path, 20_000, count)
        for figures in ("false", "true"):
            timed(f"{count:,} classes: a run, figures={figures}", "-m", "cnnbench", *MODEL, *NPZ,
                  f"data.path={path}", f"data.cache={path.with_suffix('.cache')}", f"callbacks.figures.pictures={figures}",
                  f"hydra.run.dir={run / figures}")  # fmt: skip
        print(size(run / "true" / "result.json"))
        for picture in sorted((run / "true" / "figures").glob("*.png")):
            print(size(picture))
        timed(f"{count:,} classes: cnnbench report", "-m", "cnnbench", "report", str(run / "true"))
        print(size(run / "true" / "report.html"))


def cells(counts: list[int], folder: Path) -> None:
    """Compose a grid of so many cells, as a sweep does before its first run."""
    for count in counts:
        overrides = ["optimizer=sgd,adam", "scheduler=cosine,exp", f"seed=range({count // 4})"]
        timed(f"{count:,} cells: composed", "-c", COMPOSE.format(overrides=overrides))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("report", "images", "classes", "cells"))
    parser.add_argument("counts", nargs="+", help="of report: grids, such as 10x8x5x25")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        if asked.what == "report":
            report(asked.counts, Path(folder))
        else:
            {"images": images, "classes": classes, "cells": cells}[asked.what](
                [int(count) for count in asked.counts], Path(folder)
            )


if __name__ == "__main__":
    main()
