"""What a run ran on: versions, code and hardware, for its record."""

import os
import platform
import re
import subprocess
import time
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from cnnbench.utils.console import print_info

GPU_ACCELERATORS = ("auto", "gpu", "cuda")  # values of trainer.accelerator that take a GPU where there is one


@lru_cache(maxsize=1)
def code_version() -> tuple[str | None, bool | None]:
    """The git commit of this code and whether the tree differs from it; (None, None) outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None, None
    command = ["git", "status", "--porcelain=v2", "--branch"]
    try:
        lines = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return lines[0].removeprefix("# branch.oid "), not all(line.startswith("#") for line in lines)


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; does not import torch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    return [str(number) for number, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runs_at_once(accelerator: str, runs_per_gpu: int) -> int:
    """How many runs this machine takes at a time: ``runs_per_gpu`` a GPU, or without one a run a core."""
    places = len(gpus()) * runs_per_gpu if accelerator in GPU_ACCELERATORS else 0
    return places or cores()


def available_cores() -> int:
    """CPU threads that a run takes by default: OMP_NUM_THREADS, in a job of Slurm the cores of its task, or all cores."""
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        threads = os.environ.get(name, "")
        if threads.isdecimal() and int(threads) > 0:
            return int(threads)
    return cores()


class CoreUse:
    """What other processes have used of the cores that this process may use, since this was made."""

    def __init__(self) -> None:
        self._wall, self._own, self._busy = time.perf_counter(), time.process_time(), _busy_seconds()

    def others(self) -> float:
        """Cores, on average; 0.0 where the system does not say it."""
        wall, own = time.perf_counter() - self._wall, time.process_time() - self._own
        return max(_busy_seconds() - self._busy - own, 0.0) / wall


def _busy_seconds(file: Path = Path("/proc/stat")) -> float:
    """Processor seconds that all processes but those of low priority have used of this process's cores."""
    try:
        lines = [line.split() for line in file.read_text().splitlines() if line.startswith("cpu")]
        used = {name: int(user) + int(system) for name, user, _, system, *_ in lines}
        return sum(used[f"cpu{core}"] for core in os.sched_getaffinity(0)) / os.sysconf("SC_CLK_TCK")
    except (OSError, KeyError, ValueError, AttributeError):
        return 0.0


def idle_cores(seconds: float = 0.1) -> int:
    """``available_cores`` without those that other processes keep busy, measured over so many seconds; prints which.

    A thread that shares its core with another process makes all others wait at each operation: two threads of which one
    does are slower than a single one, by far.
    """
    available = available_cores()
    if available == 1 or available != cores():  # something else has said how many
        return available
    use = CoreUse()
    time.sleep(seconds)
    busy = min(round(use.others()), available - 1)
    if busy:
        left = f"are left them (threads={available} takes all)"
        print_info(f"  other programs keep {busy} of {available} cores busy, and {left}")
    return available - busy


def is_one_of_several_ranks() -> bool:
    """Whether torchrun or srun has started several of this process, one a device; does not import torch."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"]) > 1
    return "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1  # a batch script is no step


@lru_cache(maxsize=1)
def packages() -> dict[str, str]:
    """The installed version of cnnbench and of each package that it depends on."""
    names = {"cnnbench", "torch", "torchvision", "lightning", "numpy"}
    with suppress(PackageNotFoundError):
        names |= {re.split(r"[^\w.-]", text)[0] for text in requires("cnnbench") or () if "extra ==" not in text}
    versions = dict.fromkeys(sorted(names), "unknown")
    for package in versions:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def environment(device: str | None = None) -> dict[str, Any]:
    """The record's ``environment``; ``device`` is torch's name of the one trained on. Without it torch is not imported."""
    commit, dirty = code_version()
    gpu = threads = None
    if device is not None:
        import torch

        gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
        threads = torch.get_num_threads()
    main = {package: packages()[package] for package in ("torch", "torchvision", "lightning", "cnnbench")}
    return {
        "python": platform.python_version(), **main, "packages": packages(), "device": device, "gpu": gpu,
        "cpu": processor(), "cores": available_cores(), "threads": threads, "system": platform.platform(),
        "git": commit, "git_dirty": dirty,
    }  # fmt: skip
