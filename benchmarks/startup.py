"""How long the program takes before it does anything."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "list": ["-m", "cnnbench", "list"],
    "--help": ["-m", "cnnbench", "--help"],
    "import of torch alone": ["-c", "import torch"],
    "imports of a run": ["-c", "import cnnbench.training.train"],
    "a wrong choice": ["-m", "cnnbench", "optimizer=adma"],
}


def report(repeats: int) -> dict[str, float]:
    """Print and return the median seconds of each command, as a whole process."""
    print(f"\nstart-up: whole processes, medians of {repeats}")
    figures = {}
    for name, command in COMMANDS.items():
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True)
            seconds.append(time.perf_counter() - start)
        figures[name] = statistics.median(seconds)
        print(f"  {name:<24} {figures[name]:6.2f} s", flush=True)
    return figures
