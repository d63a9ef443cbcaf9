"""The learning-rate range test (Smith 2017, section 3.3): the loss while the learning rate rises exponentially.

Lightning's own finder differentiates by the linear learning rate and writes one rate into every parameter group; here
the slope is in log(lr), and groups keep their proportions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnnbench.data import ImageDataModule
from cnnbench.training.build import AUTO, build_classifier, build_data, build_network
from cnnbench.training.module import ImageClassifier
from cnnbench.training.optimizers import build_optimizer, parameter_groups, parts
from cnnbench.utils.errors import RequestError

SMOOTHING = 0.9  # of the exponential moving average of the loss
EXPLODED = 4.0  # the test ends where the smoothed loss is so many times its lowest
LEAST = 10  # points that it takes for a suggestion


@dataclass(frozen=True)
class RangeTest:
    """Learning rates, the loss of the batch at each, and the smoothed loss; ``exploded`` where it ended early."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    exploded: bool

    @property
    def lowest(self) -> float:
        """The learning rate where the smoothed loss was lowest."""
        return self.lrs[min(range(len(self.lrs)), key=lambda i: self.smoothed[i])]

    @property
    def steepest(self) -> float:
        """The learning rate before the lowest loss where it fell fastest in log(lr)."""
        end = max(self.lrs.index(self.lowest), 2)
        logs = [math.log(lr) for lr in self.lrs]
        slopes = {
            i: (self.smoothed[i + 1] - self.smoothed[i - 1]) / (logs[i + 1] - logs[i - 1])
            for i in range(1, min(end, len(self.lrs) - 1))
        }
        return self.lrs[min(slopes, key=lambda i: slopes[i])]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest loss, or the steepest point where that is lower: two digits.

        Raises:
            RequestError: that is below the rates tried, for the loss never fell.
        """
        if self.lowest / 10 < self.lrs[0]:
            raise RequestError(
                f"nothing to suggest: the loss was lowest at {self.lowest:.1e}, among the first rates tried, so it never "
                f"fell; more steps ({len(self.lrs)} were taken) or a lower first rate ({self.lrs[0]:.1e}) may tell more"
            )
        return float(f"{min(self.lowest / 10, self.steepest):.1e}")

    @property
    def reason(self) -> str:
        """Why, in words."""
        return (
            f"the loss is lowest at {self.lowest:.1e}, a tenth of which is {self.lowest / 10:.1e}, and falls fastest at "
            f"{self.steepest:.1e}; the lower of the two leaves room for the schedule"
        )


def settle_lr(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The configuration with a number for ``optimizer.lr=auto``, and what the range test found; None without one."""
    if config["optimizer"].get("lr") != AUTO:
        return config, None
    found = range_test(config)
    told = {"lr": found.suggestion, "lowest": found.lowest, "steepest": found.steepest, "reason": found.reason}
    return {**config, "optimizer": {**config["optimizer"], "lr": found.suggestion}}, told


def range_test(config: dict[str, Any], low: float = 1e-6, high: float = 10.0, steps: int = 120) -> RangeTest:
    """Train the configured network for ``steps`` steps in 32 bits, of one batch each, with rising learning rates.

    Args:
        config: a resolved configuration.
        low, high: the first and the last learning rate of a group that has the optimizer's own rate; others keep their
            proportion to it.
        steps: at most; the test ends earlier where the loss explodes.

    Raises:
        RequestError: the range is empty, or the loss exploded before it said anything.
    """
    if not 0 < low < high:
        raise RequestError(f"the learning rates must rise from above 0, got {low:g} to {high:g}")
    if steps < LEAST:
        raise RequestError(f"it takes at least {LEAST} steps, got {steps}")
    import lightning.pytorch as pl

    pl.seed_everything(config["seed"], verbose=False)
    data = build_data(config)
    device = _device(config)
    classifier = build_classifier(config, build_network(config, data), data).to(device)
    groups = parameter_groups(classifier.network, classifier.decay_norm_and_bias, classifier.backbone_lr_factor)
    optimizer = parts(build_optimizer(classifier.make_optimizer, groups, steps))[0]  # of a switch: the one that begins
    base = float(optimizer.param_groups[0]["lr"])
    shares = [float(group["lr"]) / base for group in optimizer.param_groups]
    classifier.train()
    lrs: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average, exploded = 0.0, False
    batches = _endless(data)
    for step in range(steps):
        lr = low * (high / low) ** (step / (steps - 1))
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = lr * share
        loss = _step(classifier, optimizer, *(tensor.to(device) for tensor in next(batches)))
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        corrected = average / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(loss) or (step >= LEAST and corrected > EXPLODED * min(smoothed)):
            exploded = True
            break
        lrs.append(lr)
        losses.append(loss)
        smoothed.append(corrected)
    if len(lrs) < LEAST:
        raise RequestError(f"the loss exploded at {lr:.1e} after {len(lrs)} steps; begin lower than {low:.1e}")
    return RangeTest(lrs, losses, smoothed, exploded)


def _step(classifier: ImageClassifier, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = classifier.train_loss(classifier.network(images), labels)
    loss.backward()
    if classifier.gradient_clip_val is not None:
        torch.nn.utils.clip_grad_norm_(classifier.network.parameters(), classifier.gradient_clip_val)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _endless(data: ImageDataModule) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches as training has them, epoch after epoch, without incomplete ones."""
    loader = data.train_dataloader()
    for epoch in range(10**9):
        loader.set_epoch(epoch)
        for chunk in loader:
            for images, labels in chunk:
                if len(images) == data.batch_size or data.count("train") < data.batch_size:
                    yield images, labels


def _device(config: dict[str, Any]) -> torch.device:
    gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] in ("auto", "gpu", "cuda")
    return torch.device("cuda" if gpu else "cpu")
