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

from benchmarks.cases import CASES, GRID, ON_CPU, Case, make_data
from benchmarks.rows import BASE, DEFAULT, GPU_ONLY, ROWS
from benchmarks.startup import report as report_startup
from benchmarks.utilisation import watched


def main() -> None:
    """Measure what was asked for, print a table a case, and keep the figures as JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sets, two repeats, fewer cases and rows: within 3 minutes"
    )
    parser.add_argument(
        "--cases", nargs="+", choices=[*CASES["cpu"], "sweep", "startup"], metavar="CASE",
        help="a network and a batch size, such as tiny_cnn-64, or sweep, or startup; default: on a CPU "
        f"{', '.join(ON_CPU)} (with --quick without batch 256), sweep and startup; on a GPU four networks at four sizes",
    )  # fmt: skip
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, metavar="ROW",
        help=f"of {', '.join(ROWS)}; default: {', '.join(DEFAULT['cpu'])} (with --quick without floor); "
        f"on a GPU {', '.join(DEFAULT['cuda'])}",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, help="of each row (default 5, with --quick 2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    repeats = asked.repeats or (2 if asked.quick else 5)
    slow = {"tiny_cnn-256", "floor"} if asked.quick and asked.device == "cpu" else set()
    usual_cases = [*ON_CPU, "sweep", "startup"] if asked.device == "cpu" else GRID
    cases = asked.cases or [name for name in usual_cases if name not in slow]
    rows = asked.rows or [row for row in DEFAULT[asked.device] if row not in slow]
    if asked.device == "cpu" and (wrong := [row for row in rows if row in GPU_ONLY]):
        parser.error(f"{', '.join(wrong)}: only with --device cuda")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CNNBENCH_CACHE", f"{folder}/cache")
        for name in cases:
            if name in CASES[asked.device]:
                figures[name] = compare(
                    CASES[asked.device][name], rows, repeats, asked.quick, asked.device, Path(folder)
                )
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
    busy: dict[str, list[float]] = {row: [] for row in rows}
    peak: dict[str, float] = {}
    for turn in range(repeats + 1):
        for row, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            with watched(device) as utilisation:
                line = worker.stdout.readline()
            if not line:
                raise SystemExit(f"{row} of {case.name} ended with status {worker.wait()}")
            answer = json.loads(line)
            peak[row] = answer["peak_mib"]
            if turn:
                seconds[row].append(answer["seconds"] / epochs)
                busy[row] += utilisation
    for worker in workers.values():
        worker.communicate()
    base = BASE[device] if BASE[device] in rows else rows[0]
    print(
        f"\n{case.name}: {images:,} images, {case.optimizer}, augment={case.augment}, on {device}; "
        f"medians of {repeats} alternating repeats of {epochs} epoch(s)"
    )
    print(
        f"  {'row':<22} {'s/epoch':>8} {'min':>8} {'max':>8} {'images/s':>9} {'ms/step':>8} {f'x {base}':>13} "
        f"{'peak MiB':>8}" + f" {'busy %':>6}" * (device == "cuda")
    )
    steps = -(-images // case.batch_size)
    figures = {}
    for row in rows:
        middle = statistics.median(seconds[row])
        ratio = statistics.median(a / b for a, b in zip(seconds[row], seconds[base], strict=True))
        print(
            f"  {row:<22} {middle:8.3f} {min(seconds[row]):8.3f} {max(seconds[row]):8.3f} {images / middle:9,.0f} "
            f"{1000 * middle / steps:8.3f} {ratio:13.2f} {peak[row]:8,.0f}"
            + (f" {statistics.mean(busy[row]):6.0f}" if busy[row] else ""),
            flush=True,
        )
        figures[row] = {
            "seconds": seconds[row], "ratio": ratio, "peak_mib": peak[row], "images": images, "steps": steps,
            "gpu_percent": busy[row],
        }  # fmt: skip
    return figures


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - start:.0f} s in all")
