"""Batches, ready for the network: indexed, augmented and normalised on the device, several optimizer steps at a time.

A ``BatchLoader`` yields one ``BatchGroup`` a Lightning step, and iterating that gives its (images, labels) one by one. An
epoch's order and draws come from (seed, epoch) alone.
"""

import warnings
from collections.abc import Generator, Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.augment import Augment, Mixing, Normalize, epoch_generator
from cnnbench.data.stream import StreamReader

warnings.filterwarnings("ignore", message=".*not writable.*")  # maps of a set, to which nothing here writes
# Small batches are made in blocks of several, up to this many float bytes: on a CPU, so that they stay in a core's cache;
# on a GPU, so that the launches of these kernels are few.
BLOCK_BYTES, GPU_BLOCK_BYTES = 2**20, 2**26
CPU = torch.device("cpu")


@dataclass
class ImageTensors:
    """One split: images uint8 (N, H, W, C) and labels int64 (N,), both on the same device."""

    images: Tensor
    labels: Tensor
    file: str | None = None  # the .npy file that the images are mapped from, where they are

    @classmethod
    def from_arrays(cls, images: np.ndarray, labels: np.ndarray, device: torch.device) -> "ImageTensors":
        """Arrays moved to ``device``; on a CPU images are not copied, so that processes share the pages of mapped ones."""
        file = str(images.filename) if isinstance(images, np.memmap) and device.type == "cpu" else None
        return cls(torch.from_numpy(images).to(device), torch.from_numpy(np.array(labels)).to(device), file)


class BatchGroup:
    """The batches of one Lightning step; iterate for (images float (B, C, H, W) channels_last, labels (B,)) pairs."""

    def __init__(self, count: int, batches: Iterator[tuple[Tensor, Tensor]], last: bool) -> None:
        self.count, self._batches, self.last = count, batches, last

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = islice(self._batches, self.count)
        return batches if torch.get_default_dtype() == torch.float32 else _in_float32(batches)


def _in_float32(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Make these with torch's usual default type, which in a step of trainer.precision=64-true is another: draws are the same
    in any precision."""
    default = torch.get_default_dtype()
    while True:
        torch.set_default_dtype(torch.float32)
        try:
            batch = next(batches, None)
        finally:
            torch.set_default_dtype(default)
        if batch is None:
            return
        yield batch


@dataclass(eq=False, repr=False)
class BatchLoader:
    """An epoch of batches, in groups of ``batches_per_step``; its length is the number of groups."""

    data: ImageTensors  # a stored split
    batch_size: int  # images in a batch; the last one may be smaller
    normalize: Normalize
    _: KW_ONLY
    rows: Tensor | None = None  # which images of the split, int64 on the CPU; None is all of them
    augment: Augment | None = None
    classes: int = 0  # of the set, for labels that are mixed
    shuffle: bool = False  # draw a new order each epoch, or keep that of the split
    balanced: bool = False  # draw each image anew instead, with replacement, so that the classes come equally often
    seed: int = 0  # of order and draws
    batches_per_step: int = 0  # how many batches one Lightning step gets; 0 is all of them
    device: torch.device = CPU  # where the batches should be
    workers: int | None = None  # processes that read a stream; None for a split that is on the device
    worker_seconds: float = 300.0  # for which a block of theirs is waited for
    rank: int = 0  # of ``world`` processes that share each batch, this one, which is given its ``local_rows``
    world: int = 1

    def __post_init__(self) -> None:
        data, batch_size, rank, world = self.data, self.batch_size, self.rank, self.world
        self.normalize.to(self.device)
        self.images = len(data.labels) if self.rows is None else len(self.rows)
        self.batches = -(-self.images // batch_size)
        self.batches_per_step = self.batches_per_step or self.batches
        self.local = local_rows(self.images, batch_size, rank, world)
        self.size = len(range(rank, batch_size, world))  # images of a whole batch that this process is given
        on_gpu = self.workers is None and self.device.type != "cpu"
        block_bytes = GPU_BLOCK_BYTES if on_gpu else BLOCK_BYTES
        self.block = max(1, block_bytes // (4 * data.images[0].numel() * self.size)) * self.size
        self.epoch = self.first = self.given = 0
        self._reader: StreamReader | None = None  # of a stream, once it has begun
        self._epoch_batches: Generator[tuple[Tensor, Tensor], None, None] | None = None  # of the epoch begun last

    def __len__(self) -> int:
        return -(-self.batches // self.batches_per_step)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is; its order and draws follow from that."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch have been given, 0 after the last; Lightning keeps it in its checkpoints."""
        return {"given": self.given % self.batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration, and only that one, leave out the batches that had been given."""
        self.first = state["given"]

    def __iter__(self) -> Iterator[BatchGroup]:
        first, self.first = self.first, 0
        self._epoch_batches = batches = self._batches(self.epoch, first)
        for start in range(first, self.batches, self.batches_per_step):
            stop = min(start + self.batches_per_step, self.batches)
            self.given = stop
            yield BatchGroup(stop - start, batches, last=stop == self.batches)

    def _batches(self, epoch: int, begin: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The batches from number ``begin`` on, each at the same place in its block's memory as in a whole epoch."""
        order = torch.arange(self.images)
        if self.balanced:
            labels = self.data.labels.cpu() if self.rows is None else self.data.labels.cpu()[self.rows]
            shares = 1 / labels.bincount()[labels].double()
            order = shares.multinomial(self.images, True, generator=epoch_generator(self.seed, epoch, "order"))
        elif self.shuffle:
            order = torch.randperm(self.images, generator=epoch_generator(self.seed, epoch, "order"))
        order = order if self.rows is None else self.rows[order]
        skipped, start = begin * self.size, begin * self.size // self.block * self.block
        parts, mixing = list(self.local[start:].split(self.block)), self.augment.mixing if self.augment else None
        if self.augment:
            generator = epoch_generator(self.seed, epoch, "draws")
            drawn = self.augment.draw(self.images, self.data.images.shape[1], generator, self.batch_size)
            if mixing and self.world > 1:  # the partners may be other ranks' images
                begins = torch.arange(self.images) // self.batch_size * self.batch_size
                partners = begins + drawn[:, -mixing.columns].long()
                parts = [torch.cat([part, partners[part]]) for part in parts]
            drawn = drawn[torch.cat(parts)]
            draws, done = drawn.to(self.device), 0
        for raw, labels in self._blocks([order[part] for part in parts]):
            if self.augment:
                rows = slice(done, done := done + len(raw))
                raw = self.augment(raw, draws[rows], drawn[rows])
            images = self.normalize(raw)
            if mixing:
                images, labels = self._mix(mixing, images, labels, draws[rows])
            before = max(skipped - start, 0)
            start += len(images)
            for first in range(before, len(images), self.size):
                yield images[first : first + self.size], labels[first : first + self.size]

    def _mix(self, mixing: Mixing, images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """A block with its partners: of one rank they are in the block, of several they follow it."""
        own = torch.arange(len(images) // (2 if self.world > 1 else 1), device=self.device)
        draws = draws[: len(own), -mixing.columns :]
        partner = own + len(own) if self.world > 1 else own - own % self.size + draws[:, 0].long()
        return mixing(images, labels, partner, draws, self.classes)

    def _blocks(self, parts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Raw images and labels of these rows, a block at a time, on the device."""
        sizes, order = [len(part) for part in parts], torch.cat(parts)
        if self.workers is None:
            for rows in order.to(self.device).split(sizes):
                yield self.data.images.index_select(0, rows), self.data.labels.index_select(0, rows)
            return
        self._reader = self._reader or StreamReader(self.data.images, self.data.file, self.block, self.workers,
                                                    self.worker_seconds, self.device.type == "cuda")  # fmt: skip
        labels = self.data.labels.index_select(0, order).to(self.device).split(sizes)
        for images, of_images in zip(self._reader.read([part.numpy() for part in parts]), labels, strict=True):
            yield images.to(self.device, non_blocking=True), of_images

    def close(self) -> None:
        """End the workers of a stream, which the next epoch starts anew. They end when nothing refers to their iterator;
        where garbage collection finds it in a cycle, as that of a failed epoch, it closes their queues before they are
        told, and each goes on for five seconds."""
        if self._reader is not None:
            self._reader.wake()
        if self._epoch_batches is not None:
            self._epoch_batches.close()
        self._reader = self._epoch_batches = None


def local_rows(images: int, batch_size: int, rank: int, world: int) -> Tensor:
    """Which images of an epoch a process takes: rows rank, rank + world, ... of every batch.

    Where the last batch has fewer images than there are processes, those without one take its first, so that all go
    through the same steps; its weight in the gradient and the metrics is 0. Returns positions in the epoch, ascending.
    """
    positions = torch.arange(images)
    local = positions[(positions % batch_size) % world == rank]
    last = images - 1 - (images - 1) % batch_size  # where the last batch begins
    return local if images - last > rank else torch.cat([local, positions[last : last + 1]])
