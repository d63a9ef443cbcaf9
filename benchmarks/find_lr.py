"""Is the learning rate that the range test suggests a good one? ``python -m benchmarks.find_lr [--seeds N]``.

Each optimizer with ``optimizer.lr=auto`` beside a coarse grid of rates, a decade apart, on the digits and, where
CNNBENCH_DATA has it, on 6,000 images of MNIST: validation accuracy of the best epoch, mean over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "adamw")
GRID = ("0.0001", "0.001", "0.01", "0.1", "1.0")
SETS = {
    "digits": ["trainer.max_epochs=8"],
    "mnist": ["data=mnist", "data.limit_train=6000", "data.batch_size=64", "trainer.max_epochs=3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    for name, overrides in SETS.items():
        if name != "digits" and not os.environ.get("CNNBENCH_DATA"):
            continue
        print(f"{name}, {' '.join(overrides)}, {seeds} seeds: validation accuracy %")
        print(
            f"  {'optimizer':<10} {'suggested':>10} {'auto':>7} {'best of grid':>13} {'its rate':>9} {'difference':>11}"
        )
        with tempfile.TemporaryDirectory() as folder:
            for optimizer, rates in measure(overrides, seeds, Path(folder)).items():
                (lr, auto), grid = rates.pop("auto"), {rate: value for rate, (_, value) in rates.items()}
                best = max(grid, key=lambda rate: grid[rate])
                told = f"{100 * auto:>7.2f} {100 * grid[best]:>13.2f} {best:>9} {100 * (auto - grid[best]):>+11.2f}"
                print(f"  {optimizer:<10} {lr:>10.2g} {told}", flush=True)


def measure(overrides: list[str], seeds: int, folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """For each optimizer and each rate asked for, (the rate that was used, accuracy), means over the seeds."""
    command = ["-m", *overrides, f"optimizer={','.join(OPTIMIZERS)}", f"optimizer.lr=auto,{','.join(GRID)}",
               f"seed=range({seeds})", "logger=none", "callbacks.figures.pictures=false", "hydra/launcher=parallel",
               f"hydra.sweep.dir={folder}"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "cnnbench", *command], check=False, capture_output=True)  # some rates diverge
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.rglob("result.json")):
        record = json.loads(path.read_text())
        asked = record["config"]["optimizer"]["lr"]
        lr = record["lr_finder"]["lr"] if record.get("lr_finder") else asked
        accuracy = record["best"].get("val/accuracy", 0.0) if record["status"] == "completed" else 0.0
        found[record["choices"]["optimizer"]][str(asked)].append((lr, accuracy))
    return {
        name: {rate: (mean(lr for lr, _ in both), mean(a for _, a in both)) for rate, both in rates.items()}
        for name, rates in sorted(found.items(), key=lambda item: OPTIMIZERS.index(item[0]))
    }


if __name__ == "__main__":
    main()
