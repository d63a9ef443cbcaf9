"""``python -m benchmarks [--quick] [--cases ...] [--rows ...]``: medians of alternating repeats, and ratios."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, Case, make_data
from benchmarks.startup import report as report_startup

ROWS = ("floor", "floor-tuned", "cnnbench", "usual")


def main() -> None:
    """Measure what was asked for, print a table a case, and keep the figures as JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sets, two repeats, fewer cases and rows: within 3 minutes"
    )
    everything = [*CASES, "sweep", "startup"]
    parser.add_argument("--cases", nargs="+", choices=everything, help="default: all; with --quick without batch 256")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="default: all; with --quick without the untuned floor")
    parser.add_argument("--repeats", type=int, help="of each row (default 5, with --quick 2)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    repeats = asked.repeats or (2 if asked.quick else 5)
    cases = asked.cases or [name for name in everything if not (asked.quick and name == "tiny_cnn-256")]
    rows = asked.rows or [row for row in ROWS if not (asked.quick and row == "floor")]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CNNBENCH_CACHE", f"{folder}/cache")
        for name in cases:
            if name in CASES:
                figures[name] = compare(CASES[name], rows, repeats, asked.quick, asked.device, Path(folder))
            elif name == "startup":
                figures[name] = report_startup(repeats)
            else:
                from benchmarks.sweep import report as report_sweep

                figures[name] = report_sweep(repeats if not asked.quick else 1, Path(folder), warm_up=not asked.quick)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


def compare(case: Case, rows: list[str], repeats: int, quick: bool, device: str, folder: Path) -> dict[str, Any]:
    """Let the rows of a case take turns; the first turn of each is not counted."""
    images = case.quick_images if quick else case.images
    data = make_data(case, images, folder)
    epochs = 1 if quick else 2
    workers = {}
    for row in rows:
        command = [sys.executable, "-m", "benchmarks.worker", row, case.name, str(data), str(epochs), device]
        workers[row] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    peak: dict[str, float] = {}
    for turn in range(repeats + 1):
        for row, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
            if not line:
                raise SystemExit(f"{row} of {case.name} ended with status {worker.wait()}")
            answer = json.loads(line)
            peak[row] = answer["peak_mib"]
            if turn:
                seconds[row].append(answer["seconds"] / epochs)
    for worker in workers.values():
        worker.communicate()
    base = "floor-tuned" if "floor-tuned" in rows else rows[0]
    print(
        f"\n{case.name}: {images:,} images, {case.optimizer}, augment={case.augment}, on {device}; "
        f"medians of {repeats} alternating repeats of {epochs} epoch(s)"
    )
    print(f"  {'row':<12} {'s/epoch':>8} {'min':>8} {'max':>8} {'images/s':>9} {f'x {base}':>14} {'peak MiB':>9}")
    figures = {}
    for row in rows:
        middle = statistics.median(seconds[row])
        ratio = statistics.median(a / b for a, b in zip(seconds[row], seconds[base], strict=True))
        print(
            f"  {row:<12} {middle:8.3f} {min(seconds[row]):8.3f} {max(seconds[row]):8.3f} {images / middle:9,.0f} "
            f"{ratio:14.2f} {peak[row]:9,.0f}",
            flush=True,
        )
        figures[row] = {"seconds": seconds[row], "ratio": ratio, "peak_mib": peak[row], "images": images}
    return figures


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - start:.0f} s in all")
