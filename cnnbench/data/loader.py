"""Batches, ready for the network: indexed, augmented and normalised on the device, several optimizer steps at a time.

A ``BatchLoader`` yields one ``BatchGroup`` a Lightning step, and iterating that gives its (images, labels) one by one. An
epoch's order and draws come from (seed, epoch) alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnnbench.data.augment import Augment, Normalize, epoch_generator

# Small batches are made in blocks of several, up to this many float bytes, so that they stay in a core's cache.
BLOCK_BYTES = 2**20


@dataclass
class ImageTensors:
    """One split: images uint8 (N, H, W, C) and labels int64 (N,), both on the same device."""

    images: Tensor
    labels: Tensor
    file: str | None = None  # the .npy file that the images are mapped from, where they are

    @classmethod
    def from_arrays(cls, images: np.ndarray, labels: np.ndarray) -> ImageTensors:
        """Wrap arrays; the images are not copied, so that processes share the pages of mapped ones."""
        file = str(images.filename) if isinstance(images, np.memmap) else None
        return cls(_without_copy(images), torch.from_numpy(np.array(labels)), file)

    def to(self, device: torch.device) -> ImageTensors:
        """The same split on ``device`` (itself where it is there already)."""
        file = self.file if device.type == "cpu" else None
        return ImageTensors(self.images.to(device), self.labels.to(device), file)


def _without_copy(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # the map is read-only and nothing here writes to it
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(array)


class _Rows(Dataset):
    """Raw images by row numbers, for the workers of a DataLoader: each opens a mapped file itself, and is sent none."""

    def __init__(self, data: ImageTensors) -> None:
        self.file, self.images = data.file, None if data.file else data.images

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        if self.images is None:
            self.images = _without_copy(np.load(self.file, mmap_mode="r", allow_pickle=False))  # type: ignore[arg-type]
        return self.images.index_select(0, torch.from_numpy(rows))


class BatchGroup:
    """The batches of one Lightning step; iterate for (images float (B, C, H, W) channels_last, labels (B,)) pairs."""

    def __init__(self, count: int, batches: Iterator[tuple[Tensor, Tensor]], last: bool) -> None:
        self.count, self._batches, self.last = count, batches, last

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.count):
            yield next(self._batches)


class BatchLoader:
    """An epoch of batches, in groups of ``batches_per_step``; its length is the number of groups.

    Args:
        data: a stored split.
        rows: which images of it, int64 on the CPU; None is all of them.
        batch_size: images in a batch; the last one may be smaller.
        normalize: turns uint8 batches into float ones.
        augment: None for evaluation.
        shuffle: draw a new order each epoch, or keep the order of the split.
        seed: of order and draws.
        batches_per_step: how many batches one Lightning step gets; 0 is all of them.
        device: where the batches should be.
        workers: None where the split is in memory (or mapped) and on the device; else how many processes read it.
        rank, world: of several processes that share each batch, which this one is; it is given its ``local_rows``.
    """

    def __init__(
        self,
        data: ImageTensors,
        batch_size: int,
        normalize: Normalize,
        *,
        rows: Tensor | None = None,
        augment: Augment | None = None,
        shuffle: bool = False,
        seed: int = 0,
        batches_per_step: int = 0,
        device: torch.device | str = "cpu",
        workers: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.data, self.batch_size, self.seed, self.shuffle = data, batch_size, seed, shuffle
        self.augment, self.device, self.workers = augment or None, torch.device(device), workers
        self.normalize = normalize.to(self.device)
        self.rows, self.images = rows, len(data.labels) if rows is None else len(rows)
        self.batches = -(-self.images // batch_size)
        self.batches_per_step = batches_per_step or self.batches
        self.local = local_rows(self.images, batch_size, rank, world) if world > 1 else None
        self.count = self.images if self.local is None else len(self.local)  # images that this process is given
        self.size = len(range(rank, batch_size, world))  # and those of a whole batch
        self.epoch = self.first = self.given = 0
        self._parts: list[np.ndarray] = []  # what the workers are to read in this epoch
        self._reader: DataLoader | None = None
        pixels = data.images[0].numel()
        self.block = max(1, BLOCK_BYTES // (4 * pixels * self.size)) * self.size

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
        batches = self._batches(self.epoch, first)
        for start in range(first, self.batches, self.batches_per_step):
            stop = min(start + self.batches_per_step, self.batches)
            self.given = stop
            yield BatchGroup(stop - start, batches, last=stop == self.batches)

    def _order(self, epoch: int) -> Tensor | None:
        """Row numbers in the order of this epoch, those of this process; None is all rows as they are stored."""
        order = self.local
        if self.shuffle:
            order = torch.randperm(self.images, generator=epoch_generator(self.seed, epoch, "order"))
            order = order if self.local is None else order[self.local]
        if order is None:
            return self.rows
        return order if self.rows is None else self.rows[order]

    def _batches(self, epoch: int, begin: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from number ``begin`` on, each at the same place in its block's memory as in a whole epoch."""
        draws = None
        if self.augment is not None:
            size = self.data.images.shape[1]
            draws = self.augment.draw(self.images, size, epoch_generator(self.seed, epoch, "draws"))
            draws = (draws if self.local is None else draws[self.local]).to(self.device)
        skipped, start = begin * self.size, begin * self.size // self.block * self.block
        for raw, labels in self._blocks(self._order(epoch), start):
            if self.augment is not None and draws is not None:
                raw = self.augment(raw, draws[start : start + len(raw)])
            images = self.normalize(raw)
            before = max(skipped - start, 0)
            start += len(raw)
            for first in range(before, len(labels), self.size):
                yield images[first : first + self.size], labels[first : first + self.size]

    def _blocks(self, order: Tensor | None, begin: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Raw images and labels, a block at a time, on the device, in the order of the epoch, from position ``begin``
        of it on."""
        if self.workers is not None:
            yield from self._streamed((order if order is not None else torch.arange(self.images))[begin:])
            return
        if order is not None:
            order = order.to(self.device)
        for start in range(begin, self.count, self.block):
            if order is None:
                yield self.data.images[start : start + self.block], self.data.labels[start : start + self.block]
            else:
                rows = order[start : start + self.block]
                yield self.data.images.index_select(0, rows), self.data.labels.index_select(0, rows)

    def _streamed(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, with the images read by worker processes, which stay for the next epoch."""
        if self._reader is None:
            self._reader = DataLoader(
                _Rows(self.data),
                batch_size=None,
                sampler=self._parts,
                num_workers=self.workers or 0,
                generator=torch.Generator(),  # for the workers' seeds, which would else move the global one
                persistent_workers=bool(self.workers),
                pin_memory=self.device.type == "cuda",
            )
        self._parts[:] = [part.numpy() for part in order.split(self.block)]
        labels = self.data.labels.index_select(0, order).to(self.device)
        start = 0
        for images in self._reader:
            yield images.to(self.device, non_blocking=True), labels[start : start + len(images)]
            start += len(images)


def local_rows(images: int, batch_size: int, rank: int, world: int) -> Tensor:
    """Which images of an epoch a process takes: rows rank, rank + world, ... of every batch.

    Where the last batch has fewer images than there are processes, those without one take its first, so that all go
    through the same steps; its weight in the gradient and the metrics is 0.

    Returns:
        Positions in the epoch, int64, ascending.
    """
    positions = torch.arange(images)
    local = positions[(positions % batch_size) % world == rank]
    last = images - 1 - (images - 1) % batch_size  # where the last batch begins
    return local if images - last > rank else torch.cat([local, positions[last : last + 1]])
