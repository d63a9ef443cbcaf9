"""Averaged weights: EMA and SWA, by the update rules of ``torch.optim.swa_utils``.

torch's ``AveragedModel`` asks at each update, on the device, whether it is the first; this counts in Python, so that an
update is one kernel. Running statistics of batch norm are averaged as the weights are (``use_buffers=True`` there).
"""

from collections.abc import Mapping
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from cnnbench.training.module import ImageClassifier


class WeightAveraging(Callback):
    """Keeps an average of all floating-point weights and buffers, and puts it into the network from the end of each
    training epoch to the next one's start: what evaluates, draws or saves the network finds the average there.

    ``state_dict`` in a checkpoint always has the average, which is the weights until the share ``start``, in [0, 1), of
    the run is over; the weights that training goes on with are in this callback's own state.
    """

    def __init__(self, start: float = 0.0) -> None:
        self.start = start
        self.steps = self._first = 0  # optimizer steps so far, and those left out
        self._network: dict[str, Tensor] = {}  # the network's own tensors, which share its memory
        self._other: dict[str, Tensor] = {}  # the averages while training, the weights of training while not
        self._training = False

    def average(self, averages: list[Tensor], weights: list[Tensor], count: int) -> None:
        """Take the weights into the averages of ``count`` steps before, in place: here, into their plain mean."""
        get_swa_multi_avg_fn()(averages, weights, count)

    def attach(self, network: nn.Module, total_steps: int) -> None:
        """Begin with the network's weights, or go on with those of a loaded checkpoint."""
        own = {f"network.{name}": value for name, value in network.state_dict().items() if value.is_floating_point()}
        self._network, self._first = own, round(self.start * total_steps)
        loaded, self._other = self._other, {name: value.clone() for name, value in own.items()}
        _copy(loaded, self._other)
        self._training = False

    def update(self) -> None:
        """Count an optimizer step, and average the weights that it has left."""
        self.steps += 1
        averaged = self.steps - self._first - 1
        if averaged > 0:
            self.average(list(self._other.values()), list(self._network.values()), averaged)
        elif averaged == 0:
            _copy(self._network, self._other)

    def averages(self) -> dict[str, Tensor]:
        """The averages, by the names of the classifier's ``state_dict``."""
        if self._training and self.steps <= self._first:
            _copy(self._network, self._other)
        return self._other if self._training else self._network

    def exchange(self, training: bool) -> None:
        """Put the weights of training, or the averages, into the network's own memory, which a CUDA graph reads."""
        if training == self._training:
            return
        values = self._other if training else self.averages()
        kept = {name: value.clone() for name, value in self._network.items()}
        _copy(values, self._network)
        self._other, self._training = kept, training

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        classifier = cast(ImageClassifier, pl_module)
        self.attach(classifier.network, classifier.total_steps)
        classifier.average_weights = self.update

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.exchange(training=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.is_last_batch:
            self.exchange(training=False)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        cast(ImageClassifier, pl_module).average_weights = None
        self._network, self._other = {}, {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"].update(self.averages())

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "training": self._network if self._training else self._other}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.steps, self._other = state_dict["steps"], dict(state_dict["training"])


def _copy(values: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        target[name].copy_(value)


class EMA(WeightAveraging):
    """The exponential moving average with ``decay``, in [0, 1); at the n-th update with at most (1 + n) / (10 + n), as
    TensorFlow's ``ExponentialMovingAverage`` has it: else a short run's average would be of its first weights."""

    def __init__(self, decay: float = 0.999, start: float = 0.0) -> None:
        super().__init__(start)
        self.decay = decay

    def average(self, averages: list[Tensor], weights: list[Tensor], count: int) -> None:
        get_ema_multi_avg_fn(min(self.decay, (1 + count) / (10 + count)))(averages, weights, count)


class SWA(WeightAveraging):
    """The plain mean (stochastic weight averaging, Izmailov et al. 2018, algorithm 1, with a cycle of one step)."""
