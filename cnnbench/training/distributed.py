"""One run on several devices, of one machine or more: a process each, which trains on its share of every batch.

All processes hold the same weights. Each computes the gradients of its rows of the batch, weighted so that their sum is
the gradient of the mean loss over the whole batch; they sum them, and all take the same step. The sum is taken once an
optimizer step and always over the same layout, so that a run that goes on has the same bits as one that was not stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from cnnbench.training.metrics import EpochMeter


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Place:
    """One process of a run.

    Args:
        rank: its number; the first, 0, is the one that was asked to train, and the only one that writes files.
        world: how many there are.
        store: where they meet; None where there is one alone.
        meet: waits until all are at the store, and raises where one has failed before.
        devices: processes on each machine; the first so many are those of the first.
    """

    rank: int = 0
    world: int = 1
    store: dist.Store | None = None
    meet: Callable[[], None] = _nothing
    devices: int = 1

    def seed(self, seed: int) -> None:
        """Give each process random numbers of its own, for dropout; the first goes on with those that it has."""
        if self.rank:
            state = np.random.SeedSequence([seed, self.rank]).generate_state(1, np.uint64)[0]
            torch.manual_seed(int(state) % 2**63)


class _Processes(LightningEnvironment):
    """Tells Lightning that the processes are there, and which of them this one is."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self.place.rank % self.place.devices

    def node_rank(self) -> int:
        return self.place.rank // self.place.devices


class DataParallel(DDPStrategy):
    """Lightning's ``ddp`` for processes that are there already, without DistributedDataParallel: ``sum_gradients`` is
    what it would do, at another time (see above)."""

    def __init__(self, place: Place) -> None:
        super().__init__(cluster_environment=_Processes(place))
        self.place = place

    def _configure_launcher(self) -> None:
        pass

    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        if dist.is_initialized():  # by fit, when it comes to test
            return
        self.place.meet()
        dist.init_process_group(
            self._process_group_backend,
            store=self.place.store,
            rank=self.place.rank,
            world_size=self.place.world,
            timeout=self._timeout,
            device_id=self.root_device if self.root_device.type == "cuda" else None,
        )

    def configure_ddp(self) -> None:
        assert self.model is not None
        broadcast([*self.model.parameters(), *self.model.buffers()])


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite these tensors with those of the first process."""
    with torch.no_grad():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients, which the same parameters have in every process, by their sum over the processes."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def gather(value: Any) -> list[Any]:
    """The values of all processes by rank; ``[value]`` where there is one alone."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


class SharedMeter(EpochMeter):
    """The meter of one process of several: it keeps what this one has seen at its places in the epoch, and what it
    tells, which all have to ask for together, is of the whole epoch.

    Args:
        batch_size: images in a batch, over all processes.
        rank, world: as in ``Place``.
        count, num_classes, device, recall_batch: as in ``EpochMeter``; ``count`` is over all processes.
    """

    def __init__(
        self,
        count: int,
        num_classes: int,
        device: torch.device,
        recall_batch: int | None,
        *,
        batch_size: int,
        rank: int,
        world: int,
    ) -> None:
        super().__init__(count, num_classes, device, recall_batch)
        self.predictions.zero_()
        self.targets.zero_()
        self.batch_size, self.rank, self.world = batch_size, rank, world

    def _coming(self) -> tuple[int, int]:
        """Images of the batch that comes: of this process, and of all."""
        whole = min(self.batch_size, len(self.targets) - self.seen)
        return len(range(self.rank, whole, self.world)), whole

    @property
    def share(self) -> float:
        """What part of the batch that comes is this process's."""
        mine, whole = self._coming()
        return mine / whole

    def update(self, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Add this process's rows of a batch."""
        mine, whole = self._coming()
        places = slice(self.seen + self.rank, self.seen + whole, self.world)
        self.predictions[places] = logits[:mine].argmax(dim=1)
        self.targets[places] = targets[:mine]
        if mine:
            self.loss_sum.add_(loss, alpha=mine)
        self.seen += whole

    def whole(self) -> tuple[Tensor, Tensor]:
        seen = torch.stack([self.predictions[: self.seen], self.targets[: self.seen]])
        dist.all_reduce(seen)
        return seen[0], seen[1]

    def loss(self) -> float:
        total = self.loss_sum.clone()
        dist.all_reduce(total)
        return (total / max(self.seen, 1)).item()

    def state_dict(self) -> dict[str, Tensor]:
        """What all have seen, and the sums of the losses by rank, for a sum of other parts has other bits."""
        predictions, targets = self.whole()
        sums = torch.zeros(self.world, dtype=torch.float64, device=self.loss_sum.device)
        sums[self.rank] = self.loss_sum
        dist.all_reduce(sums)
        return {"predictions": predictions.cpu(), "targets": targets.cpu(), "loss_sum": sums.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where the meters of as many processes stood."""
        super().load_state_dict({**state, "loss_sum": state["loss_sum"][self.rank]})
        if self.rank:  # the first has them all
            self.predictions.zero_()
            self.targets.zero_()
