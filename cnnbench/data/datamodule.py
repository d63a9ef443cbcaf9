"""The LightningDataModule: one prepared set, its splits, and the loaders over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from cnnbench.data.augment import Augment, Normalize
from cnnbench.data.cache import PreparedSet, prepare
from cnnbench.data.imageset import Source, stratified
from cnnbench.data.loader import BatchLoader, ImageTensors
from cnnbench.utils.errors import RequestError, one_of

VALIDATIONS = ("test", "own", "none")
STORAGES = ("auto", "memory", "stream")


class ImageDataModule(LightningDataModule):
    """Images of one source, split into train, val and test, in batches on the trainer's device.

    Args:
        source: where the images come from.
        root: folder of the sets that are downloaded; path: folder or file of the user's own images. A source uses one.
        cache: folder of the prepared sets.
        image_size: side in pixels to resize to; None keeps the set's own.
        mean, std: per channel, for pixels scaled to [0, 1]; one value stands for all channels.
        batch_size, eval_batch_size: images in a training batch, and in a batch of evaluation, over all devices.
        validation: a fraction of the train set (stratified, by ``split_seed``), ``test`` for the test set itself,
            ``own`` for the set's own validation split, or ``none``.
        split_seed: of the validation split and of ``limit_train``; independent of ``seed``.
        limit_train: use only this many training images (stratified); None uses all.
        shuffle: a new order of the train set each epoch.
        seed: of the order and of the augmentation.
        augment: of training batches.
        storage: ``memory`` maps the set and, on a GPU, copies it there; ``stream`` reads it with ``workers``
            processes; ``auto`` takes memory where the train set fits in ``memory_share`` of what is free.
        memory_share: of the free memory of the device.
        workers: processes that read a streamed set.
        steps_per_execution, accumulate: a training group holds this many optimizer steps of so many batches each.

    Raises:
        RequestError: a value is out of range, or the set cannot be had.
    """

    def __init__(
        self,
        source: Source,
        *,
        cache: str,
        root: str | None = None,
        path: str | None = None,
        image_size: int | None = None,
        mean: Sequence[float] | float = 0.5,
        std: Sequence[float] | float = 0.5,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        validation: float | str = 0.1,
        split_seed: int = 0,
        limit_train: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        augment: Augment | None = None,
        storage: str = "auto",
        memory_share: float = 0.5,
        workers: int = 2,
        steps_per_execution: int = 1,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        if isinstance(validation, str):
            one_of("data.validation", validation, VALIDATIONS)
        elif not 0 < validation < 1:
            raise RequestError(
                f"data.validation must be a fraction between 0 and 1, or one of {', '.join(VALIDATIONS)}; got {validation!r}"
            )
        self.source, self.cache = source, Path(cache).expanduser()
        location = path or root
        self.location = Path(location).expanduser() if location else None
        self.image_size, self.mean, self.std = image_size, mean, std
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.validation, self.split_seed, self.limit_train = validation, split_seed, limit_train
        self.shuffle, self.seed, self.augment = shuffle, seed, augment
        self.storage = one_of("data.storage", storage, STORAGES)
        self.memory_share, self.workers = memory_share, workers
        self.steps_per_execution, self.accumulate = steps_per_execution, accumulate
        self._on_device: dict[tuple[str, torch.device], ImageTensors] = {}

    @cached_property
    def prepared(self) -> PreparedSet:
        """The set from the cache, made at the first call where it is not there yet."""
        return prepare(self.source, self.location, self.image_size, self.cache)

    @cached_property
    def rows(self) -> dict[str, np.ndarray | None]:
        """Row numbers of each split within its stored one; None is all rows, in order."""
        arrays = self.prepared.arrays
        labels = arrays["train_labels"]
        rows: dict[str, np.ndarray | None] = {"train": None, "test": None}
        if isinstance(self.validation, float):
            rows["val"], rows["train"] = stratified(labels, self.validation, self.split_seed)
        elif self.validation != "none":
            if f"{self._stored('val')}_labels" not in arrays:
                raise RequestError("data.validation=own, but this set has no validation split; use data.validation=0.1")
            rows["val"] = None
        if self.limit_train is not None:
            candidates = np.arange(len(labels)) if rows["train"] is None else rows["train"]
            if self.limit_train < len(candidates):
                chosen, _ = stratified(labels[candidates], self.limit_train, self.split_seed)
                rows["train"] = candidates[chosen]
        return rows

    def _stored(self, split: str) -> str:
        """The stored split whose rows make up ``split``."""
        if split == "val":
            return {"test": "test", "own": "val"}.get(str(self.validation), "train")
        return split

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the labels."""
        return self.prepared.classes

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the train set."""
        return -(-self.count("train") // (self.batch_size * self.accumulate))

    def count(self, split: str) -> int:
        """Images in ``train``, ``val`` or ``test``; 0 where there is no such split."""
        if split not in self.rows:
            return 0
        rows = self.rows[split]
        return len(self.prepared.arrays[f"{self._stored(split)}_labels"] if rows is None else rows)

    def description(self) -> dict[str, object]:
        """What the record says of the data."""
        return {
            "name": getattr(self.source, "dataset", type(self.source).__name__),
            "classes": len(self.classes),
            **{split: self.count(split) for split in ("train", "val", "test")},
            "validation": str(self.validation),
            "image_size": self.prepared.image_size,
            "channels": self.prepared.channels,
            "fingerprint": self.prepared.fingerprint,
        }

    def statistics(self) -> tuple[list[float], list[float]]:
        """mean and std, one value a channel; raises RequestError where their number does not fit the images."""
        channels = self.prepared.channels
        both = []
        for name, value in (("mean", self.mean), ("std", self.std)):
            values = [float(value)] * channels if isinstance(value, (int, float)) else [float(v) for v in value]
            if len(values) != channels:
                raise RequestError(f"data.{name} has {len(values)} values, but the images have {channels} channels")
            both.append(values)
        return both[0], both[1]

    def raw(self, split: str, rows: np.ndarray) -> np.ndarray:
        """The images of ``split`` at these positions (N,), as they are stored: uint8 (N, H, W, C)."""
        chosen = self.rows[split]
        images = self.prepared.arrays[f"{self._stored(split)}_images"]
        return np.asarray(images[rows if chosen is None else chosen[rows]])

    def labels(self, split: str) -> np.ndarray:
        """The true classes of a split, int64 (N,)."""
        labels = np.asarray(self.prepared.arrays[f"{self._stored(split)}_labels"])
        return labels if self.rows[split] is None else labels[self.rows[split]]

    def batch(self, split: str, rows: np.ndarray) -> torch.Tensor:
        """These images as the network gets them, not augmented: float32 (N, C, H, W), on the CPU."""
        return Normalize(*self.statistics())(torch.from_numpy(self.raw(split, rows)))

    def setup(self, stage: str | None = None) -> None:
        """Open the set, making it where it is not in the cache, and split it; the same on every process."""
        assert self.rows

    def train_dataloader(self) -> BatchLoader:
        """Training batches, shuffled and augmented, in groups of ``steps_per_execution`` optimizer steps."""
        batches = self.steps_per_execution * self.accumulate
        return self._loader("train", self.batch_size, self.augment, self.shuffle, batches)

    def val_dataloader(self) -> BatchLoader | list:
        """Validation batches, all in one group; an empty list where there is no validation split."""
        return self._loader("val", self.eval_batch_size) if "val" in self.rows else []

    def test_dataloader(self) -> BatchLoader:
        """Test batches, all in one group."""
        return self._loader("test", self.eval_batch_size)

    def train_evaluation_loader(self) -> BatchLoader:
        """The train set in its own order, as it is evaluated: not augmented."""
        return self._loader("train", self.eval_batch_size)

    def _loader(
        self, split: str, batch_size: int, augment: Augment | None = None, shuffle: bool = False, batches: int = 0
    ) -> BatchLoader:
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        streaming = self._streams(device)
        return BatchLoader(
            self._tensors(split, torch.device("cpu") if streaming else device),
            batch_size,
            Normalize(*self.statistics()),
            rows=None if (rows := self.rows[split]) is None else torch.from_numpy(rows),
            augment=augment,
            shuffle=shuffle,
            seed=self.seed,
            batches_per_step=batches,
            device=device,
            workers=self.workers if streaming else None,
            rank=self.trainer.global_rank if self.trainer is not None else 0,
            world=self.trainer.world_size if self.trainer is not None else 1,
        )

    def _tensors(self, split: str, device: torch.device) -> ImageTensors:
        stored = self._stored(split)
        if (stored, device) not in self._on_device:
            arrays = self.prepared.arrays
            tensors = ImageTensors.from_arrays(arrays[f"{stored}_images"], arrays[f"{stored}_labels"])
            self._on_device[stored, device] = tensors.to(device)
        return self._on_device[stored, device]

    def _streams(self, device: torch.device) -> bool:
        if self.storage != "auto":
            return self.storage == "stream"
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
        return self.prepared.arrays["train_images"].nbytes > self.memory_share * free


def free_memory() -> int:
    """Bytes of main memory that can be taken without swapping (Linux's MemAvailable, else the free pages)."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
