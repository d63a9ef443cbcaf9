"""``python -m benchmarks.variants [--turns 7]``: a training step in other ways than cnnbench's, on one thread.

Processor milliseconds a step (forward, backward, fused Adam) of tiny_cnn and three_layer_cnn on random images, the ways
taking turns: what a change of the memory layout, of the convolution or of the order of layers would gain.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.adam import adam

from cnnbench.models import ConvNet
from cnnbench.utils.memory import keep_freed_memory

NETWORKS = {
    "tiny_cnn": ((1, 10, 28), {"filters": [16, 4], "paddings": 1}),
    "three_layer_cnn": (
        (3, 10, 32),
        {"filters": [24, 48, 96], "kernels": [5, 3, 3], "hidden": [512], "activate": [True, True, False]},
    ),
}
CASES = (("tiny_cnn", 16), ("tiny_cnn", 64), ("tiny_cnn", 256), ("three_layer_cnn", 64))


class UnfoldedConvolution(nn.Module):
    """A convolution as the matrix product of its windows (``unfold``) and its weights; ``rows`` gathers windows by pixel
    (an (N H W, C k k) matrix and ``addmm``), else by image."""

    def __init__(self, convolution: nn.Conv2d, rows: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.rows = convolution.weight, convolution.bias, rows
        self.kernel, self.padding = convolution.kernel_size[0], int(convolution.padding[0])

    def forward(self, images: Tensor) -> Tensor:
        assert self.bias is not None
        count, _, height, width = images.shape
        size = height + 2 * self.padding - self.kernel + 1, width + 2 * self.padding - self.kernel + 1
        if not self.rows:
            windows = F.unfold(images, self.kernel, padding=self.padding)
            return (self.weight.flatten(1) @ windows + self.bias[:, None]).view(count, -1, *size)
        padded = F.pad(images, (self.padding,) * 4).permute(0, 2, 3, 1)
        windows = padded.unfold(1, self.kernel, 1).unfold(2, self.kernel, 1).reshape(count * size[0] * size[1], -1)
        return torch.addmm(self.bias, windows, self.weight.flatten(1).t()).view(count, *size, -1).permute(0, 3, 1, 2)


def apart(parameters: list[nn.Parameter]) -> Callable[[], object]:
    """Fused Adam by torch's function instead of its class: no hooks, no groups."""
    averages, squares = ([torch.zeros_like(one) for one in parameters] for _ in range(2))
    counts = [torch.tensor(0.0) for _ in parameters]

    @torch.no_grad()
    def step() -> None:
        gradients: list[Tensor] = [one.grad for one in parameters]  # type: ignore[misc]
        adam(
            list(parameters), gradients, averages, squares, [], counts, fused=True,
            lr=1e-3, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    return step


def flatten(parameters: list[nn.Parameter]) -> nn.Parameter:
    """One parameter with all weights, of which those of the network become views, and its gradient, likewise."""
    flat = nn.Parameter(torch.cat([torch.empty(one.numel()) for one in parameters]))
    flat.grad, start = torch.zeros_like(flat), 0
    for one in parameters:
        end = start + one.numel()
        values, strides = one.data, one.stride()
        one.data = flat.data[start:end].as_strided(one.shape, strides, start)
        one.data.copy_(values)
        one.grad = flat.grad[start:end].as_strided(one.shape, strides, start)
        start = end
    return flat


def make(way: str, network_name: str, batch: int) -> Callable[[], Tensor]:
    """A function that trains a step and returns the loss; the same weights and images for every way."""
    torch.manual_seed(0)
    (channels, classes, size), options = NETWORKS[network_name]
    network: nn.Module = ConvNet(channels, classes, size, **options)  # type: ignore[arg-type]
    layout = torch.contiguous_format if way == "nchw" else torch.channels_last
    network = network.to(memory_format=layout)
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        if way == "relu first" and len(block) == 3 and isinstance(block[1], nn.MaxPool2d):
            block[1], block[2] = nn.ReLU(), block[1]
        if way.startswith("unfold") and isinstance(block[0], nn.Conv2d):
            block[0] = UnfoldedConvolution(block[0], way == "unfold, rows")
    parameters = [flatten(list(network.parameters()))] if way == "flat Adam" else list(network.parameters())
    optimizer = torch.optim.Adam(parameters, fused=True)
    update = apart(parameters) if way == "Adam's function" else optimizer.step
    if way == "compiled":
        network = torch.compile(network)  # type: ignore[assignment]
    images = torch.randn(batch, channels, size, size).contiguous(memory_format=layout)
    labels = torch.randint(classes, (batch,))

    def step() -> Tensor:
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        update()
        optimizer.zero_grad(set_to_none=way not in {"gradients kept", "flat Adam"})
        return loss.detach()

    return step


WAYS = ("as cnnbench", "relu first", "nchw", "gradients kept", "unfold", "unfold, rows", "flat Adam", "Adam's function",
        "compiled")  # fmt: skip


def main() -> None:
    """Print a Markdown table: a row a case, a column a way, in processor milliseconds a step and times the first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # as a run does
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"| network, batch | {' | '.join(WAYS)} |\n|---|{'---:|' * len(WAYS)}")
    for name, batch in CASES:
        steps = {way: make(way, name, batch) for way in WAYS}
        count = max(4, 1500 // batch if name == "tiny_cnn" else 300 // batch)
        losses = {way: [step() for _ in range(5)][-1].item() for way, step in steps.items()}
        assert max(losses.values()) - min(losses.values()) < 1e-3, losses
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(turns):
            for way, step in steps.items():
                begin = time.process_time()
                for _ in range(count):
                    step()
                seconds[way].append((time.process_time() - begin) / count)
        medians = {way: 1000 * statistics.median(values) for way, values in seconds.items()}
        cells = [f"{value:.2f} ({value / medians[WAYS[0]]:.2f} x)" for value in medians.values()]
        print(f"| {name}, {batch} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
