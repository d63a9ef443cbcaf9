"""The hand-written loop that everything else is measured against, as a person would write it who cares for speed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import MEAN, STD, Case, arrays
from benchmarks.clock import Result, Stopwatch
from cnnbench.config.compose import compose, resolved
from cnnbench.training import build

WARM_UP = 3  # steps before a capture: they allocate what the optimizer keeps
Train = Callable[[int], Result]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def config(case: Case, data: Path, epochs: int, *more: str) -> dict[str, Any]:
    """The cnnbench configuration of a case."""
    return resolved(
        compose(
            [
                f"model={case.model}", "data=npz", f"data.path={data}", f"data.batch_size={case.batch_size}",
                f"optimizer={case.optimizer}", "scheduler=none", f"augment={case.augment}",
                f"trainer.max_epochs={epochs}", *more,
            ]
        )
    )  # fmt: skip


def parts(case: Case, data: Path, device: torch.device) -> tuple[nn.Module, Any]:
    """The network, channels_last, and the maker of its fused optimizer: the same in every row."""
    cfg = config(case, data, 1)
    network = build.build_network(cfg, build.build_data(cfg)).to(device)
    return network, build.build_optimization(cfg)["optimizer"]


def tensors(data: Path, split: str, device: torch.device, scaled: bool = True) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), channels_last in memory, float and normalised if ``scaled``; and labels."""
    images, labels = arrays(data, split)
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    if scaled:
        tensor = tensor.float().div_(255).sub_(MEAN).div_(STD)
    return tensor, torch.from_numpy(labels).to(device)


def finished(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Captured:
    """A training step recorded as a CUDA graph, as torch's documentation shows it; a smaller batch is done as it is."""

    def __init__(self, step: Step) -> None:
        self.step, self.calls = step, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        self.calls += 1
        if self.graph is None and self.calls <= WARM_UP:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                result = self.step(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            return result
        if self.graph is None:
            self.inputs = [value.clone(memory_format=torch.preserve_format) for value in inputs]
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.outputs = self.step(*self.inputs)
        elif inputs[0].shape != self.inputs[0].shape:
            return self.step(*inputs)
        for held, given in zip(self.inputs, inputs, strict=True):
            held.copy_(given)
        self.graph.replay()
        return self.outputs


def floor(case: Case, data: Path, device: torch.device, *, captured: bool = False, channels_last: bool = True) -> Train:
    """A plain loop over a tensor in memory, with one confusion matrix an epoch.

    Args:
        captured: as one CUDA graph a step.
        channels_last: the memory layout of weights and images; else torch's default.
    """
    network, make_optimizer = parts(case, data, device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(memory_format=layout)
    plain = case.augment == "none"
    sets = {split: tensors(data, split, device, scaled=plain or split == "val") for split in ("train", "val")}

    def augmented(batch: Tensor) -> Tensor:
        count, _, size, _ = batch.shape
        padded = nn.functional.pad(batch, (4, 4, 4, 4)).permute(0, 2, 3, 1)
        line = torch.arange(size, device=device)
        rows = torch.randint(9, (count, 1), device=device) + line
        flip = torch.rand(count, 1, device=device) < 0.5
        columns = torch.randint(9, (count, 1), device=device) + torch.where(flip, line.flip(0), line)
        picked = padded[torch.arange(count, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2).float().div_(255).sub_(MEAN).div_(STD)

    def train(epochs: int) -> Result:
        optimizer = make_optimizer(list(network.parameters()))
        for group in optimizer.param_groups if captured else ():
            if "capturable" in group:  # Adam refuses to be recorded without
                group["capturable"] = True

        def learn(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = network(images)
            loss = nn.functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach(), logits.detach()

        def look(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = network(images)
            return nn.functional.cross_entropy(logits, labels), logits

        steps: dict[str, Step] = {"train": Captured(learn) if captured else learn, "val": look}
        watch, mean = Stopwatch(), 0.0
        for _ in range(epochs):
            for split in ("train", "val"):
                images, labels = sets[split]
                learning = split == "train"
                network.train(learning)
                predicted = torch.empty_like(labels)
                order = (
                    torch.randperm(len(labels), device=device) if learning else torch.arange(len(labels), device=device)
                )
                size = case.batch_size if learning else 256
                losses = torch.zeros((), device=device)
                with torch.set_grad_enabled(learning):
                    for first in range(0, len(order), size):
                        rows = order[first : first + size]
                        batch = images[rows] if plain or not learning else augmented(images[rows])
                        if not channels_last:
                            batch = batch.contiguous()
                        loss, logits = steps[split](batch, labels[rows])
                        predicted[rows] = logits.argmax(1)
                        losses += loss
                torch.bincount(labels * 10 + predicted, minlength=100).reshape(10, 10).cpu()
                if learning:
                    mean = losses.item() / -(-len(order) // size)
        return watch.result(mean)

    return train
