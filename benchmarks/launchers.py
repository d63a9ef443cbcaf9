"""The same sweep by every launcher, as whole processes: ``python -m benchmarks.launchers [--repeats N] [--images N]``.

The six-run digits sweep, and 24 runs on MNIST (CNNBENCH_DATA), on an otherwise idle machine. Slurm is one of this
machine (tests/slurm.py); launchers that are not installed are left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAUNCHERS = ("basic", "parallel", "joblib", "ray", "submitit_slurm")
PACKAGES = {"joblib": "hydra_joblib_launcher", "ray": "hydra_ray_launcher", "submitit_slurm": "hydra_submitit_launcher"}
DIGITS = ["optimizer=sgd,adam,rmsprop", "scheduler=cosine,exp"]
MNIST = ["data=mnist", "model=tiny_cnn", "data.batch_size=64", "trainer.max_epochs=3", "optimizer=sgd,momentum,adam",
         "scheduler=cosine,exp", "seed=range(4)"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--images", type=int, default=12000, help="of MNIST's train set")
    asked = parser.parse_args()
    sweeps = {"digits, 6 runs": DIGITS}
    if os.environ.get("CNNBENCH_DATA"):
        sweeps["MNIST, 24 runs"] = [*MNIST, f"data.limit_train={asked.images}"]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        environ = {**os.environ, **slurm(Path(folder), stack)}
        for name, overrides in sweeps.items():
            print(f"{name}: whole process, and its ratio to the training of all runs one after the other", flush=True)
            bare = None
            for launcher in LAUNCHERS:
                if (why := missing(launcher, environ)) is not None:
                    print(f"  {launcher:<16} not measured: {why}", flush=True)
                    continue
                times = [run(overrides, launcher, Path(folder) / f"{len(overrides)}-{launcher}-{repeat}", environ)
                         for repeat in range(asked.repeats)]  # fmt: skip
                bare = bare or times[0][1]  # of the basic launcher, whose runs have the machine to themselves
                whole = statistics.median(seconds for seconds, _ in times)
                print(f"  {launcher:<16} {whole:6.1f} s   {whole / bare:5.2f} x {bare:.1f} s", flush=True)


def slurm(folder: Path, stack: ExitStack) -> dict[str, str]:
    """Start a Slurm where one can be; the environment variables of its commands."""
    sys.path.insert(0, str(ROOT / "tests"))
    from slurm import missing as lacking  # type: ignore[import-not-found]
    from slurm import slurm as started

    return {} if lacking() else stack.enter_context(started(folder / "slurm", os.cpu_count() or 1))


def missing(launcher: str, environ: Mapping[str, str]) -> str | None:
    """Why a launcher cannot be measured."""
    import importlib.util

    package = PACKAGES.get(launcher)
    if package and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
        return "not installed"
    return "no Slurm on this machine" if launcher == "submitit_slurm" and "SLURM_CONF" not in environ else None


def run(overrides: list[str], launcher: str, folder: Path, environ: Mapping[str, str]) -> tuple[float, float]:
    """(seconds of the whole process, seconds of training of all its runs)."""
    more = ["hydra.launcher.cpus_per_task=1"] if launcher == "submitit_slurm" else []
    command = ["-m", "cnnbench", "-m", *overrides, f"hydra/launcher={launcher}", *more, f"hydra.sweep.dir={folder}"]
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=dict(environ), cwd=folder.parent)
    seconds = time.perf_counter() - start
    records = [json.loads(path.read_text()) for path in folder.rglob("result.json")]
    return seconds, sum(record["time"]["fit_seconds"] for record in records)


if __name__ == "__main__":
    main()
