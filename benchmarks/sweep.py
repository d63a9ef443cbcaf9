"""The six-run digits sweep as a whole process, against the bare training time of its runs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = ["-m", "cnnbench", "-m", "optimizer=sgd,adam,rmsprop", "scheduler=cosine,exp"]


def report(repeats: int, folder: Path, warm_up: bool) -> dict[str, float]:
    """Print and return median seconds: of the process, of training alone in it, and of the imports of a run."""
    whole, bare, imports = [], [], []
    for repeat in range(repeats + warm_up):  # the first prepares the data and is not counted
        sweep = folder / f"sweep{repeat}"
        start = time.perf_counter()
        subprocess.run([sys.executable, *COMMAND, f"hydra.sweep.dir={sweep}"], check=True, capture_output=True)
        whole.append(time.perf_counter() - start)
        records = [json.loads(path.read_text()) for path in sweep.rglob("result.json")]
        assert len(records) == 6
        bare.append(sum(sum(record["time"]["epoch_seconds"]) for record in records))
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import cnnbench.training.train"], check=True)
        imports.append(time.perf_counter() - start)
    figures = {
        "whole process": statistics.median(whole[warm_up:]),
        "training alone": statistics.median(bare[warm_up:]),
        "imports": statistics.median(imports[warm_up:]),
    }
    figures["(whole - imports) / training"] = (figures["whole process"] - figures["imports"]) / figures[
        "training alone"
    ]
    print(f"\nsix-run digits sweep: medians of {repeats}")
    for name, value in figures.items():
        print(f"  {name:<28} {value:6.2f}", flush=True)
    return figures
