"""tiny_cnn in fastai: ``Learner.fit`` with DataLoaders that index whole batches of tensors in memory, no progress bar."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastai.callback.schedule import ParamScheduler, SchedCos, SchedExp
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from fastcore.basics import noops
from torch import Tensor, nn

from benchmarks.cases import MEAN, STD, Case, arrays
from benchmarks.clock import Result, Stopwatch
from benchmarks.peers import CLASSES, EVAL_BATCH, FILTERS, RATES

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, foreach=True),
}


class TensorLoader(DataLoader):
    """Batches as one index into the tensors, as fastai's own loader of tables does, instead of an item at a time."""

    do_item = noops

    def create_batch(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(rows)
        return self.dataset[0][index], self.dataset[1][index]


def build(case: Case, data: Path, optimizer: str = "adam", scheduler: str = "none") -> Callable[[int], Result]:
    """The training of a case."""
    loaders = []
    for split in ("train", "val"):
        images, labels = arrays(data, split)
        tensors = ((torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD, torch.from_numpy(labels))
        size, shuffle = (case.batch_size, True) if split == "train" else (EVAL_BATCH, False)
        loaders.append(TensorLoader(tensors, size, shuffle=shuffle, num_workers=0, n=len(labels), device="cpu"))
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    channels, side = case.channels, case.size
    for filters in FILTERS:
        blocks += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels, side = filters, side // 2
    network = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * side * side, CLASSES))
    learner = Learner(
        DataLoaders(*loaders), network, loss_func=nn.functional.cross_entropy, metrics=accuracy, lr=RATES[optimizer],
        opt_func=partial(OptimWrapper, opt=OPTIMIZERS[optimizer]),
    )  # fmt: skip
    learner.recorder.train_metrics = True  # the other rows have the mean loss and the accuracy in training too

    def train(epochs: int) -> Result:
        rate = RATES[optimizer]
        schedules = {"cosine": SchedCos(rate, 0), "exp": SchedExp(rate, rate * 0.9**epochs)}
        callbacks = [ParamScheduler({"lr": schedules[scheduler]})] if scheduler in schedules else []
        watch = Stopwatch()
        with learner.no_bar(), learner.no_logging():
            learner.fit(epochs, cbs=callbacks)
        return watch.result(learner.recorder.values[-1][0])

    return train
