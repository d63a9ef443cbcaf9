"""What many small runs cost as one stacked network, against one after the other and against several processes.

    python -m benchmarks.stacked [--device cuda] [--model tiny_cnn] [--batch-size 64] [--runs 8 32 128] [--processes 4 8]

Every way trains the same networks, which differ in seed, data order and learning rate, each with its own fused Adam, by
a plain loop without evaluation (on a GPU captured as a CUDA graph); the seconds are those of an epoch of all of them.
On a GPU the processes share it as they come and, where nvidia-cuda-mps-control is there, by MPS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import CASES, Case, make_data
from benchmarks.plain import Captured, finished, parts, tensors
from benchmarks.stack import Stack

RATES = (1e-3, 3e-4, 1e-4, 3e-3)  # of the runs in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", default="tiny_cnn", choices=("tiny_cnn", "three_layer_cnn", "alexnet", "resnet18"))
    parser.add_argument("--batch-size", type=int, default=64, choices=(16, 64, 256, 1024))
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--runs", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--processes", type=int, nargs="+", default=[os.cpu_count() or 1])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    case = CASES[asked.device][f"{asked.model}-{asked.batch_size}"]
    if device.type == "cpu":
        torch.set_num_threads(1)  # as runs that share a machine have; a stack may take all, see below
    print(f"{case.model}, batch {case.batch_size}, {asked.images:,} images, on {device}; medians of {asked.repeats}")
    print(f"  {'runs':>5} {'way':<28} {'s/epoch of all':>14} {'x one alone':>12} {'ms/step':>8}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CNNBENCH_CACHE", f"{folder}/cache")
        data = make_data(case, asked.images, Path(folder))
        steps = asked.images // case.batch_size
        alone = statistics.median(separate(case, data, device, [0], asked.repeats))
        tell(1, "alone", alone, alone, steps)
        for runs in asked.runs:
            tell(runs, "one after the other", runs * alone, alone, steps)
            for threads in sorted({1, os.cpu_count() or 1}) if device.type == "cpu" else [0]:
                if threads:
                    torch.set_num_threads(threads)
                way = "stacked" + f", {threads} thread{'s' * (threads > 1)}" * bool(threads)
                tell(runs, way, statistics.median(stacked(case, data, device, runs, asked.repeats)), alone, steps)
            for count in asked.processes:
                for mps in (
                    (False, True) if device.type == "cuda" and shutil.which("nvidia-cuda-mps-control") else [False]
                ):
                    with sharing() if mps else nullcontext():
                        seconds = together(case, data, device, runs, min(count, runs), asked.repeats)
                    tell(runs, f"{min(count, runs)} processes" + ", MPS" * mps, seconds, alone, steps)


def tell(runs: int, way: str, seconds: float, alone: float, steps: int) -> None:
    """A line of the table."""
    ratio = seconds / alone
    print(f"  {runs:>5} {way:<28} {seconds:14.3f} {ratio:12.2f} {1000 * seconds / steps:8.2f}", flush=True)


def order(count: int, size: int, seed: int, device: torch.device) -> Tensor:
    """The rows of each whole batch of an epoch, (batches, size)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[: count // size * size].view(-1, size).to(device)


def network(case: Case, data: Path, device: torch.device, seed: int) -> tuple[Any, Any]:
    """A network of that seed, and its optimizer."""
    torch.manual_seed(seed)
    made, make = parts(case, data, device)
    optimizer = make(list(made.parameters()))
    for group in optimizer.param_groups:
        group["lr"] = RATES[seed % len(RATES)]
    return made.train(), optimizer


def separate(case: Case, data: Path, device: torch.device, seeds: Sequence[int], repeats: int) -> list[float]:
    """Seconds of an epoch of these networks, one after the other; the first epoch is not counted."""
    images, labels = tensors(data, "train", device)
    steps = []
    for seed in seeds:
        made, optimizer = network(case, data, device, seed)

        def learn(batch: Tensor, targets: Tensor, made: Any = made, optimizer: Any = optimizer) -> tuple:
            logits = made(batch)
            loss = torch.nn.functional.cross_entropy(logits, targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach(), logits.detach()

        steps.append(Captured(learn) if device.type == "cuda" else learn)
    seconds = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        for seed, step in zip(seeds, steps, strict=True):
            for rows in order(len(labels), case.batch_size, seed + 1000 * repeat, device):
                step(images[rows], labels[rows])
        finished(device)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def stacked(case: Case, data: Path, device: torch.device, runs: int, repeats: int) -> list[float]:
    """Seconds of an epoch of ``runs`` networks as one; the first epoch is not counted."""
    images, labels = tensors(data, "train", device)
    networks, optimizers = zip(*(network(case, data, device, seed) for seed in range(runs)), strict=True)
    stack = Stack(networks)

    def learn(batch: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        result = stack.backward(batch, targets)
        for optimizer in optimizers:
            optimizer.step()
        stack.zero_grad()
        return result

    step = Captured(learn) if device.type == "cuda" else learn
    seconds = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        orders = [order(len(labels), case.batch_size, seed + 1000 * repeat, device) for seed in range(runs)]
        for rows in torch.stack(orders, dim=1):
            step(images[rows], labels[rows])
        finished(device)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def together(case: Case, data: Path, device: torch.device, runs: int, processes: int, repeats: int) -> float:
    """Median seconds in which ``processes`` processes, started and warm, train an epoch of ``runs`` networks."""
    context = multiprocessing.get_context("spawn")
    shares = [list(range(runs))[first::processes] for first in range(processes)]
    gate = context.Barrier(processes)
    with context.Pool(processes, _enter, (gate,)) as pool:
        found = pool.starmap(_share, [(case, data, device.type, share, repeats) for share in shares], chunksize=1)
    return statistics.median(max(times) for times in zip(*found, strict=True))


_gate: Any = None  # where the processes of a pool wait for one another


def _enter(gate: Any) -> None:
    global _gate
    _gate = gate
    torch.set_num_threads(1)


def _share(case: Case, data: Path, device: str, seeds: Sequence[int], repeats: int) -> list[float]:
    separate(case, data, torch.device(device), seeds[:1], 1)  # warm
    _gate.wait()
    return separate(case, data, torch.device(device), seeds, repeats)


@contextmanager
def sharing() -> Iterator[None]:
    """NVIDIA's multi-process service, for the processes started within."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(CUDA_MPS_PIPE_DIRECTORY=f"{folder}/pipe", CUDA_MPS_LOG_DIRECTORY=f"{folder}/log")
        subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True)
        try:
            yield
        finally:
            subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", text=True, check=False)
            del os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]


if __name__ == "__main__":
    main()
