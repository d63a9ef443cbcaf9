"""On a GPU: the whole training step (forward, backward, optimizer) as one CUDA graph, launched at once, for a small
network's kernels are shorter than the time to launch them. The first steps of a run are done one by one (they allocate
what the optimizer keeps), then one is recorded and replayed; batches of another size are not."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cnnbench.training.optimizers import SwitchOptimizer, inner_optimizers

log = logging.getLogger(__name__)

WARM_UP = 3  # steps done one by one before the capture, as torch's documentation asks
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def capture(step: Step, optimizer: Optimizer, scheduler: Any, plain: bool, accumulate: int) -> "CapturedStep | None":
    """The step as one that is captured; None, with the reason in the log, where it cannot be."""
    if reason := reason_not_capturable(optimizer, scheduler, plain, accumulate):
        log.info("the training step is not captured as a CUDA graph: %s", reason)
        return None
    device = next(parameter.device for group in optimizer.param_groups for parameter in group["params"])
    make_capturable(optimizer, device)  # a checkpoint has brought its learning rates, on the CPU
    return CapturedStep(step, optimizer)


def reason_not_capturable(optimizer: Optimizer, scheduler: Any, plain: bool, accumulate: int) -> str | None:
    """Why a run's steps cannot be captured, in words; None where they can. ``plain`` is whether neither a gradient
    scaler nor other ranks take part in a step, ``accumulate`` the batches to an optimizer step."""
    if not plain:
        return "a gradient scaler or several devices take part in each step"
    if accumulate > 1:
        return "gradients are accumulated over several batches"
    if getattr(scheduler, "cycle_momentum", False):
        return "the schedule changes the momentum, which a captured step keeps"
    others = [type(inner).__name__ for inner in inner_optimizers(optimizer) if not _reads_rate_from_device(inner)]
    return f"{others[0]} cannot be captured" if others else None


def _reads_rate_from_device(optimizer: Optimizer) -> bool:
    """Whether it is one of torch's that do; those of other packages have their own conditions."""
    own = type(optimizer).__module__.startswith("torch.optim.")
    return own and all("capturable" in group or group.get("fused") for group in optimizer.param_groups)


def make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Let the optimizer, if it can, read its learning rate from the device, where a schedule can change it between
    replays. Call it before the schedule is made, for that remembers the learning rates as it finds them."""
    for inner in filter(_reads_rate_from_device, inner_optimizers(optimizer)):
        for group in inner.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
            if "capturable" in group:
                group["capturable"] = True


class CapturedStep:
    """Calls a training step, which returns (loss, logits) and must leave no gradients behind, or replays its graph. A
    SwitchOptimizer counts replayed steps too, and its step is captured anew when it switches."""

    def __init__(self, step: Step, optimizer: Optimizer) -> None:
        self.step = step
        self.switch = optimizer if isinstance(optimizer, SwitchOptimizer) else None
        self.inputs: tuple[Tensor, Tensor]
        self.outputs: tuple[Tensor, Tensor]
        self._reset()

    def _reset(self) -> None:
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.switched = self.switch is not None and self.switch.switched

    def __call__(self, images: Tensor, labels: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        """Train on a batch, an optimizer step of its own; the next call overwrites the returned (loss, logits)."""
        if self.switch is not None and self.switch.switched != self.switched:
            self._reset()
        if self.graph is None:
            self.calls += 1
            if self.calls <= WARM_UP:
                return self._warm_up(images, labels)
            self.graph = self._capture(images, labels)
        elif images.shape != self.inputs[0].shape:
            return self.step(images, labels)
        for static, given in zip(self.inputs, (images, labels), strict=True):
            static.copy_(given, non_blocking=True)
        self.graph.replay()
        if self.switch is not None:
            self.switch.count_step()
        return self.outputs

    def _warm_up(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step on a stream of its own, as torch's documentation asks for before a capture."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.step(images, labels)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _capture(self, images: Tensor, labels: Tensor) -> torch.cuda.CUDAGraph:
        """Record one step; nothing is computed by that."""
        self.inputs = images.clone(memory_format=torch.preserve_format), labels.clone()
        torch.clear_autocast_cache()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.outputs = self.step(*self.inputs)
        torch.clear_autocast_cache()
        return graph
