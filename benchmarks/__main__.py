"""``python -m benchmarks [--quick] [--peers] [--cases ...] [--rows ...]``: medians of alternating repeats, and ratios."""

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
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, GRID, ON_CPU, Case, make_data
from benchmarks.peers import CASES as PEER_CASES
from benchmarks.peers import ENVIRONMENT, PEERS, missing
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
        "--cases", nargs="+", choices=[*CASES["cpu"], "sweep", "startup", "processes"], metavar="CASE",
        help="a network and a batch size, such as tiny_cnn-64, or sweep, startup, or processes (six whole processes of each "
        f"of --peers, and a sweep of cnnbench); default: on a CPU {', '.join(ON_CPU)} (with --quick without batch 256), "
        f"sweep and startup, with --peers {', '.join(PEER_CASES)} and processes; on a GPU four networks at four sizes",
    )  # fmt: skip
    parser.add_argument(
        "--peers", action="store_true",
        help=f"other libraries, on one thread each: floor-tuned, cnnbench, {', '.join(PEERS)} (pip install -e '.[peers]')",
    )  # fmt: skip
    parser.add_argument(
        "--rows", nargs="+", choices=[*ROWS, *PEERS], metavar="ROW",
        help=f"of {', '.join([*ROWS, *PEERS])}; default: {', '.join(DEFAULT['cpu'])} (with --quick without floor); "
        f"on a GPU {', '.join(DEFAULT['cuda'])}",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, help="of each row (default 5, with --quick 2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    repeats = asked.repeats or (2 if asked.quick else 5)
    slow = {"tiny_cnn-256", "floor"} if asked.quick and asked.device == "cpu" else set()
    usual_cases = [*ON_CPU, "sweep", "startup"] if asked.device == "cpu" else GRID
    if asked.peers:
        usual_cases = [*PEER_CASES, "processes"]
    usual_rows = [BASE["cpu"], "cnnbench", *PEERS] if asked.peers else DEFAULT[asked.device]
    cases = asked.cases or [name for name in usual_cases if name not in slow]
    rows = asked.rows or [row for row in usual_rows if row not in slow]
    if asked.device == "cpu" and (wrong := [row for row in rows if row in GPU_ONLY]):
        parser.error(f"{', '.join(wrong)}: only with --device cuda")
    if why := not_measurable(rows, cases, asked.device):
        parser.exit(2, f"{parser.prog}: {why}\n")
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
            elif name == "processes":
                from benchmarks.processes import report as report_processes

                figures[name] = report_processes(rows, 1 if asked.quick else repeats, asked.quick, Path(folder))
            else:
                from benchmarks.sweep import report as report_sweep

                figures[name] = report_sweep(repeats if not asked.quick else 1, Path(folder), warm_up=not asked.quick)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


def not_measurable(rows: list[str], cases: list[str], device: str) -> str | None:
    """Why the rows of other libraries that are among these cannot be measured, in a line."""
    peers = [row for row in rows if row in PEERS]
    others = [name for name in cases if name in CASES[device] and name not in PEER_CASES]
    if peers and (others or device != "cpu"):
        what = others[0] if others else "a GPU"
        return f"{', '.join(peers)}: written for {' and '.join(PEER_CASES)} on a CPU alone, not for {what}"
    return next((why for row in peers if (why := missing(row))), None)


def compare(case: Case, rows: list[str], repeats: int, quick: bool, device: str, folder: Path) -> dict[str, Any]:
    """Let the rows of a case take turns; the first turn of each is not counted."""
    images, epochs = case.quick_images if quick else case.images, 1 if quick else 2
    data = make_data(case, images, folder)
    environment = {**os.environ, **(ENVIRONMENT if any(row in PEERS for row in rows) else {})}
    workers = {}
    for row in rows:
        command = [sys.executable, "-m", "benchmarks.worker", row, case.name, str(data), str(epochs), device]
        with (folder / f"{row}.log").open("w") as log:
            workers[row] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
    figures: dict[str, dict[str, Any]] = {
        row: {
            "seconds": [],
            "processor": [],
            "gpu_percent": [],
            "images": images,
            "steps": -(-images // case.batch_size),
        }
        for row in rows
    }
    for turn in range(repeats + 1):
        for row, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            with suppress(BrokenPipeError):  # it has died: its answer is empty
                worker.stdin.write("go\n")
                worker.stdin.flush()
            with watched(device) as utilisation:
                line = worker.stdout.readline()
            if not line:
                status, why = worker.wait(), (folder / f"{row}.log").read_text().strip()[-2000:]
                raise SystemExit(f"{row} of {case.name} ended with status {status}:\n{why}")
            answer, of_row = json.loads(line), figures[row]
            of_row["peak_mib"] = answer["peak_mib"]
            of_row.setdefault("loss", answer["loss"])  # of the first turn, which begins with new weights in every row
            if turn:
                of_row["seconds"].append(answer["seconds"] / epochs)
                of_row["processor"].append(answer["processor"] / epochs)
                of_row["gpu_percent"] += utilisation
    for worker in workers.values():
        worker.communicate()
    base = BASE[device] if BASE[device] in rows else rows[0]
    for of_row in figures.values():
        for key, ratio in (("seconds", "ratio"), ("processor", "processor_ratio")):
            pairs = zip(of_row[key], figures[base][key], strict=True)
            of_row[ratio] = statistics.median(a / max(b, 1e-9) for a, b in pairs)
    print(
        f"\n{case.name}: {images:,} images, {case.optimizer}, augment={case.augment}, on {device}; "
        f"medians of {repeats} alternating repeats of {epochs} epoch(s)"
    )
    show(figures, base)
    return figures


def show(figures: dict[str, dict[str, Any]], base: str) -> None:
    """The table of a case."""
    print(
        f"  {'row':<22} {'s/epoch':>8} {'min':>8} {'max':>8} {f'x {base}':>13} {'cpu s':>8} {'cpu x':>6} "
        f"{'images/s':>9} {'ms/step':>8} {'loss':>7} {'peak MiB':>8}"
        + f" {'busy %':>6}"
        * any(of_row["gpu_percent"] for of_row in figures.values())
    )
    for row, of_row in figures.items():
        seconds, processor = (statistics.median(of_row[key]) for key in ("seconds", "processor"))
        print(
            f"  {row:<22} {seconds:8.3f} {min(of_row['seconds']):8.3f} {max(of_row['seconds']):8.3f} "
            f"{of_row['ratio']:13.2f} {processor:8.3f} {of_row['processor_ratio']:6.2f} "
            f"{of_row['images'] / seconds:9,.0f} {1000 * seconds / of_row['steps']:8.3f} {of_row['loss']:7.4f} "
            f"{of_row['peak_mib']:8,.0f}"
            + (f" {statistics.mean(of_row['gpu_percent']):6.0f}" if of_row["gpu_percent"] else ""),
            flush=True,
        )


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - start:.0f} s in all")
