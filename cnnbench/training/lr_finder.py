"""The learning-rate range test (Smith 2017, section 3.3): the loss while the learning rate rises exponentially.

Lightning's own finder takes the slope in lr, not in log(lr), and writes one rate into every parameter group.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch import Tensor

from cnnbench.data import ImageDataModule
from cnnbench.training.build import AUTO, Config
from cnnbench.training.estimate import build_classifier
from cnnbench.training.optimizers import inner_optimizers
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError, refuse

SMOOTHING = 0.9  # of the exponential moving average of the loss
EXPLODED = 4.0  # the test ends where the smoothed loss is so many times its lowest
MIN_POINTS = 10  # that it takes for a suggestion


@dataclass
class RangeTest:
    """Learning rates, the loss of the batch at each, and the smoothed loss; ``exploded`` where it ended early."""

    lrs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    exploded: bool = False

    @property
    def lowest(self) -> float:
        """The learning rate where the smoothed loss was lowest."""
        return self.lrs[int(np.argmin(self.smoothed))]

    @property
    def steepest(self) -> float:
        """The learning rate before the lowest loss where it fell fastest in log(lr)."""
        slopes = np.gradient(self.smoothed, np.log(self.lrs))
        end = min(max(self.lrs.index(self.lowest), 2), len(self.lrs) - 1)
        return self.lrs[1 + int(np.argmin(slopes[1:end]))]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest loss, or the steepest point where that is lower: two digits. Raises
        RequestError where that is below the rates tried, for the loss never fell."""
        if self.lowest / 10 < self.lrs[0]:
            wrong = f"the loss was lowest at {self.lowest:.1e}, among the first rates tried, so it never fell"
            remedy = f"more steps ({len(self.lrs)} were taken) or a lower first rate ({self.lrs[0]:.1e}) may tell more"
            raise RequestError(f"nothing to suggest: {wrong}; {remedy}")
        return float(f"{min(self.lowest / 10, self.steepest):.1e}")

    @property
    def reason(self) -> str:
        """Why, in words."""
        lowest = f"the loss is lowest at {self.lowest:.1e}, a tenth of which is {self.lowest / 10:.1e}"
        return f"{lowest}, and falls fastest at {self.steepest:.1e}; the lower of the two leaves room for the schedule"


def settle_lr(config: Config) -> tuple[Config, dict[str, Any] | None]:
    """The configuration with a number for ``optimizer.lr=auto``, and what the range test found; None without one."""
    if config["optimizer"].get("lr") != AUTO:
        return config, None
    found = range_test(config)
    result = {"lr": found.suggestion, "lowest": found.lowest, "steepest": found.steepest, "reason": found.reason}
    print_info(f"  optimizer.lr={found.suggestion:g}: {found.reason}")
    return {**config, "optimizer": {**config["optimizer"], "lr": found.suggestion}}, result


def range_test(config: Config, low: float = 1e-6, high: float = 10.0, steps: int = 120) -> RangeTest:
    """Train the configured network for ``steps`` steps in 32 bits, of one batch each, with learning rates from ``low``
    to ``high``, or until the loss explodes. Groups with another rate than the optimizer's own keep their proportion to
    it. Raises RequestError where the range is empty, or the loss exploded before it said anything."""
    if not 0 < low < high:
        raise RequestError(f"the learning rates must rise from above 0, got {low:g} to {high:g}")
    if steps < MIN_POINTS:
        raise RequestError(f"it takes at least {MIN_POINTS} steps, got {steps}")
    pl.seed_everything(config["seed"], verbose=False)
    classifier, data = build_classifier(config)
    classifier.optimizer = optimizer = inner_optimizers(classifier.build_optimizer(steps))[0]  # the one that begins
    base = float(optimizer.param_groups[0]["lr"])
    shares = [float(group["lr"]) / base for group in optimizer.param_groups]
    classifier.train()
    found, average = RangeTest(), 0.0
    for lr, (images, labels) in zip(np.geomspace(low, high, steps).tolist(), _endless_batches(data), strict=False):
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = lr * share
        loss = classifier.train_step(images.to(classifier.device), labels.to(classifier.device))[0].item()
        average, count = SMOOTHING * average + (1 - SMOOTHING) * loss, len(found.lrs)
        smoothed = average / (1 - SMOOTHING ** (count + 1))
        if not math.isfinite(loss) or (count >= MIN_POINTS and smoothed > EXPLODED * min(found.smoothed)):
            found.exploded = True
            break
        found.lrs.append(lr)
        found.losses.append(loss)
        found.smoothed.append(smoothed)
    data.teardown()
    if len(found.lrs) < MIN_POINTS:
        raise RequestError(f"the loss exploded at {lr:.1e} after {len(found.lrs)} steps; begin lower than {low:.1e}")
    return found


def plot(found: RangeTest, path: Path) -> None:
    """Draw the learning rate, on a log axis, against the loss; raises RequestError where the file cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot(found.lrs, found.losses, color="#56B4E9", alpha=0.5, linewidth=1, label="loss of the batch")
    axes.plot(found.lrs, found.smoothed, color="#0072B2", linewidth=2, label="smoothed")
    lines = ("falls fastest", "#009E73", found.steepest), ("lowest", "#D55E00", found.lowest)
    for name, colour, lr in (*lines, ("suggested", "black", found.suggestion)):
        axes.axvline(lr, color=colour, linestyle="--", linewidth=1, label=f"{name}: {lr:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Learning-rate range test")
    axes.set_ylim(0.9 * min(found.smoothed), 1.5 * max(found.smoothed[:3]))
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with refuse(f"--plot {path} cannot be written", OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _endless_batches(data: ImageDataModule) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches, epoch after epoch, without incomplete ones."""
    loader, size = data.train_dataloader(), min(data.batch_size, data.count("train"))
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from (batch for batch in itertools.chain.from_iterable(loader) if len(batch[0]) == size)
