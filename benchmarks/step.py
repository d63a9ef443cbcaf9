"""Where the time of a training step goes, and how far it is from what the core could do, as a Markdown table.

    python -m benchmarks.step [--cases tiny_cnn-16 ...] [--turns N]

On one thread of a CPU, in milliseconds of the processor a step, medians of turns in which the parts alternate:

- batch: cnnbench's loader and augmentation alone.
- passes: forward and backward of one batch, the loss included, in a plain loop.
- optimizer: its step and zero_grad, in the same loop.
- rest: cnnbench's step through its loader, metrics included, less these three. Lightning's share, which sixteen steps pay
  for together, is not in it.
- arithmetic: FLOPs of both passes over the peak of a product of two float32 matrices of 1024 x 1024. Backward has twice
  those of forward, less the gradient of the first convolution's input, which nobody needs.
- memory: bytes that layers and optimizer must move over the bandwidth of a copy of 64 MiB, less where caches hold them. An
  output is written, read by the next layer and by backward, its gradient written and read; parameters are read by both
  passes, their gradients written, and the optimizer reads and writes its arrays.
- of peak: arithmetic as a share of passes; above 100 % where a convolution is computed with fewer products (Winograd). Dispatch: passes of one image, most of which is the same for any batch.
- the shares of the passes, by operator, in torch.profiler's self CPU time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import CASES, Case, make_data
from benchmarks.plain import config
from cnnbench.models.profile import flops_per_image
from cnnbench.training import build
from cnnbench.training.metrics import EpochMeter
from cnnbench.training.module import ImageClassifier
from cnnbench.utils.memory import keep_freed_memory

STEPS = {"tiny_cnn-16": 100, "tiny_cnn-64": 50, "tiny_cnn-256": 16, "three_layer_cnn-64": 8, "resnet18-64": 2}
SHARES = {"convolution": ("conv",), "pooling": ("pool",), "activation": ("relu", "threshold"),
          "loss": ("softmax", "nll_loss", "nllloss", "cross_entropy")}  # fmt: skip
ARRAYS = {"adam": 7, "momentum": 5}  # of the parameters' size that an optimizer reads and writes


def milliseconds(action: Callable[[], Any], times: int = 1) -> float:
    """Of the processor, of each of so many calls."""
    start = time.process_time()
    for _ in range(times):
        action()
    return 1000 * (time.process_time() - start) / times


def peak_flops() -> float:
    """Of this core in a second: the best of some matrix products."""
    left, right = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return 2 * 1024**3 / (min(milliseconds(lambda: torch.mm(left, right)) for _ in range(12)) / 1000)


def copy_bandwidth() -> float:
    """Bytes read and written in a second: the best of some copies that no cache holds."""
    source = torch.rand(2**24)
    target = torch.empty_like(source)
    return 2 * source.nbytes / (min(milliseconds(lambda: target.copy_(source)) for _ in range(12)) / 1000)


def needed_flops(network: nn.Module, case: Case) -> int:
    """Of forward and backward of a batch."""
    first: list[int] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        first.append(2 * output[0].numel() * module.weight[0].numel())  # type: ignore[index]

    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    hook = convolution.register_forward_hook(look)
    forward = flops_per_image(network, case.channels, case.size)
    hook.remove()
    return case.batch_size * (3 * forward - first[0])


def moved_bytes(network: nn.Module, images: Tensor, arrays: int) -> int:
    """That a step moves at least, as the module's docstring counts; a layer that changes its input in place has none."""
    outputs: list[int] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(0 if output.data_ptr() == inputs[0].data_ptr() else output.nbytes)

    hooks = [module.register_forward_hook(look) for module in network.modules() if not list(module.children())]
    network(images)
    for hook in hooks:
        hook.remove()
    return 2 * images.nbytes + 5 * sum(outputs) + (3 + arrays) * sum(p.nbytes for p in network.parameters())


def operator_shares(step: Callable[[], Any], steps: int) -> dict[str, float]:
    """Of the time within operators, by their kind; the rest is ``other``."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    whole, shares = sum(times.values()), {}
    for kind, words in SHARES.items():
        names = [name for name in times if any(word in name.lower() for word in words)]
        shares[kind] = sum(times.pop(name) for name in names) / whole
    return shares | {"other": sum(times.values()) / whole}


class Parts:
    """What is timed, of one case."""

    def __init__(self, case: Case, steps: int, folder: Path) -> None:
        self.steps, images = steps, case.batch_size * steps
        path = make_data(case, max(images, 10), folder)
        cfg = config(case, path, 1, "trainer.accelerator=cpu", "threads=1", f"data.cache={folder / 'cache'}")
        data = build.build_data(cfg)
        network = build.build_network(cfg, data)
        self.module = ImageClassifier(cfg, network, data.class_counts())
        self.module.train()
        self.optimizer = self.module.build_optimizer(steps)
        self.loader = data.train_dataloader()
        self.images, self.labels = next(self.batches())

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch of the loader."""
        return chain.from_iterable(self.loader)

    def batch(self) -> float:
        return milliseconds(lambda: [None for _ in self.batches()]) / self.steps

    def passes(self, images: Tensor, labels: Tensor) -> None:
        nn.functional.cross_entropy(self.module.network(images), labels).backward()

    def both(self) -> tuple[float, float]:
        """Both passes, and the optimizer, in the steps of a plain loop."""
        once = partial(self.passes, self.images, self.labels)
        spent = [(milliseconds(once), milliseconds(self.update)) for _ in range(self.steps)]
        return statistics.fmean(one for one, _ in spent), statistics.fmean(two for _, two in spent)

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def dispatch(self) -> float:
        spent = milliseconds(partial(self.passes, self.images[:1], self.labels[:1]), self.steps)
        self.optimizer.zero_grad()
        return spent

    def whole(self) -> float:
        """cnnbench's step, as ``ImageClassifier.training_step`` takes it, with batches of the loader."""

        def epoch() -> None:
            meter = EpochMeter(self.loader.images, 10, torch.device("cpu"))
            for images, labels in self.batches():
                loss, logits = self.module.train_step(images, labels)
                meter.update(logits, labels, loss)

        return milliseconds(epoch) / self.steps


def measure(case: Case, steps: int, turns: int, peak: float, bandwidth: float) -> dict[str, float]:
    """The columns of a case, on a core of this many FLOPs and bytes a second."""
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(case, steps, Path(folder))
        rows = [(parts.batch(), *parts.both(), parts.whole(), parts.dispatch()) for _ in range(turns + 1)]
        batch, passes, optimizer, whole, dispatch = map(statistics.median, zip(*rows[1:], strict=True))
        rest = statistics.median(row[3] - sum(row[:3]) for row in rows[1:])
        network = parts.module.network
        arithmetic = 1000 * needed_flops(network, case) / peak
        memory = 1000 * moved_bytes(network, parts.images, ARRAYS[case.optimizer]) / bandwidth
        shares = operator_shares(lambda: parts.passes(parts.images, parts.labels), steps)
    spent = {"whole": whole, "batch": batch, "passes": passes, "optimizer": optimizer, "rest": rest}
    limits = {"arithmetic": arithmetic, "memory": memory, "of peak": arithmetic / passes, "dispatch": dispatch}
    return spent | limits | shares


def shown(value: float, is_share: bool) -> str:
    """A cell: per cent, or milliseconds in three digits."""
    if is_share:
        return f"{100 * value:.0f} %"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=STEPS, default=list(STEPS), metavar="CASE", help=", ".join(STEPS))
    parser.add_argument("--turns", type=int, default=7, help="that are counted, after one that is not (default 7)")
    asked = parser.parse_args()
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # as a run does
    torch.set_num_threads(1)
    keep_freed_memory()
    peak, bandwidth = peak_flops(), copy_bandwidth()
    print(f"Peak {peak / 1e9:.0f} GFLOP/s, copies {bandwidth / 1e9:.1f} GB/s, {asked.turns} turns.\n")
    for number, name in enumerate(asked.cases):
        columns = measure(CASES["cpu"][name], STEPS[name], asked.turns, peak, bandwidth)
        shares = {"of peak", *SHARES, "other"}
        if not number:
            print(f"| ms of a step | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
        cells = [shown(value, key in shares) for key, value in columns.items()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
