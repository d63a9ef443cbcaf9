"""The LightningDataModule: one prepared set, its splits, and the loaders over them."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from cnnbench.data.augment import Augment, Normalize
from cnnbench.data.cache import PreparedSet, prepare
from cnnbench.data.imageset import Source, check_folds, fold_rows, stratified
from cnnbench.data.loader import BatchLoader, ImageTensors
from cnnbench.utils.errors import RequestError
from cnnbench.utils.memory import free_memory


@dataclass(eq=False, repr=False)
class ImageDataModule(LightningDataModule):
    """Images of one source, split into train, val and test, in batches on the trainer's device.

    Its arguments are the keys of a YAML in ``conf/data``, which explains them, and ``augment`` of training batches, and that
    a training group holds ``steps_per_execution`` optimizer steps of ``accumulate`` batches each.
    """

    source: Source
    _: KW_ONLY
    cache: str
    root: str | None = None
    path: str | None = None
    splits: object = None  # the source's, and only named here
    name: str | None = None  # the source's too
    duplicates: str = "warn"
    value_range: Sequence[float] | None = None
    image_size: int | None = None
    mean: Sequence[float] | float = 0.5
    std: Sequence[float] | float = 0.5
    batch_size: int = 64
    eval_batch_size: int = 256
    validation: float | str = 0.1
    folds: int | None = None
    fold: int | None = None
    split_seed: int = 0
    limit_train: int | None = None
    shuffle: bool = True
    sampling: str = "uniform"
    seed: int = 0
    augment: Augment | None = None
    storage: str = "auto"
    memory_share: float = 0.5
    workers: int = 2
    worker_seconds: float = 300.0
    steps_per_execution: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        super().__init__()
        check_folds(self.folds, self.fold, self.validation)
        self._on_device: dict[tuple[str, torch.device], ImageTensors] = {}
        self._loaders: list[BatchLoader] = []
        self._train_evaluation: BatchLoader | None = None

    @cached_property
    def prepared(self) -> PreparedSet:
        """The set from the cache, made at the first call where it is not there yet."""
        named, cache = self.path or self.root, Path(self.cache).expanduser()
        at, size = Path(named).expanduser() if named else None, self.image_size
        return prepare(self.source, at, size, cache, duplicates=self.duplicates, value_range=self.value_range)

    @cached_property
    def rows(self) -> dict[str, np.ndarray | slice]:
        """Row numbers of each split within its stored one, or a slice of all of them, in order."""
        labels = self.prepared.arrays["train_labels"]
        rows: dict[str, np.ndarray | slice] = {"train": slice(None), "test": slice(None)}
        if isinstance(self.validation, float):
            rows["val"], rows["train"] = chosen, _ = stratified(labels, self.validation, self.split_seed)
            if len(chosen) == 0:
                why = f"data.validation={self.validation} takes no image of {len(labels)}, for a class of one image keeps it"
                raise RequestError(f"{why}: give a larger fraction or more images, or use data.validation=none")
        elif self.folds is not None:
            if "val_labels" in self.prepared.arrays:
                why = f"data.folds={self.folds}, but this set has a validation split"
                raise RequestError(f"{why}; use data.validation=own")
            rows["val"], rows["train"] = fold_rows(labels, self.classes, self.folds, self.fold, self.split_seed)
        elif self.validation != "none":
            if f"{self._stored('val')}_labels" not in self.prepared.arrays:
                raise RequestError("data.validation=own, but this set has no validation split; use data.validation=0.1")
            rows["val"] = slice(None)
        if self.limit_train is not None:
            candidates = np.arange(len(labels))[rows["train"]]
            if self.limit_train < len(candidates):
                chosen, _ = stratified(labels[candidates], self.limit_train, self.split_seed)
                rows["train"] = candidates[chosen]
        return rows

    def _stored(self, split: str) -> str:
        """The stored split whose rows make up ``split``."""
        return {"test": "test", "own": "val"}.get(str(self.validation), "train") if split == "val" else split

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
        return len(self.labels(split)) if split in self.rows else 0

    def class_counts(self) -> list[int]:
        """Training images of each class."""
        return np.bincount(self.labels("train"), minlength=len(self.classes)).tolist()

    def description(self) -> dict[str, object]:
        """What the record says of the data."""
        known = ("image_size", "channels", "fingerprint", "notes", "value_range")
        name, parts = getattr(self.source, "dataset", type(self.source).__name__), ("train", "val", "test")
        return {
            "name": name, "classes": len(self.classes), **{split: self.count(split) for split in parts},
            "validation": str(self.validation), **({"folds": self.folds, "fold": self.fold} if self.folds else {}),
            **{key: value for key in known if (value := getattr(self.prepared, key))},
        }  # fmt: skip

    def statistics(self) -> tuple[list[float], list[float]]:
        """mean and std, one value a channel; raises RequestError where their number does not fit the images."""
        channels = self.prepared.channels
        each = ([v] * channels if isinstance(v, (int, float)) else v for v in (self.mean, self.std))
        mean, std = ([float(number) for number in values] for values in each)
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != channels:
                raise RequestError(f"data.{name} has {len(values)} values, but the images have {channels} channels")
        return mean, std

    def raw(self, split: str, rows: np.ndarray) -> np.ndarray:
        """The images of ``split`` at these positions (N,), as they are stored: uint8 (N, H, W, C)."""
        return np.asarray(self.prepared.arrays[f"{self._stored(split)}_images"][self.row_numbers(split)[rows]])

    def row_numbers(self, split: str) -> np.ndarray:
        """Where the images of a split are in the set's own train, validation or test part, int64 (N,)."""
        stored = self.prepared.arrays[f"{self._stored(split)}_labels"]
        return np.arange(len(stored))[self.rows[split]]

    def files(self, split: str) -> np.ndarray | None:
        """The files of a split, paths below ``data.path``, unicode (N,); None where the images come from no files."""
        stored = self.prepared.arrays.get(f"{self._stored(split)}_files")
        return None if stored is None else np.char.decode(stored[self.rows[split]], "utf-8")

    def labels(self, split: str) -> np.ndarray:
        """The true classes of a split, int64 (N,)."""
        return np.asarray(self.prepared.arrays[f"{self._stored(split)}_labels"][self.rows[split]])

    def batch(self, split: str, rows: np.ndarray) -> torch.Tensor:
        """These images as the network gets them, not augmented: float32 (N, C, H, W), on the CPU."""
        return Normalize(*self.statistics())(torch.from_numpy(self.raw(split, rows)))

    def setup(self, stage: str | None = None) -> None:
        """Open the set, making it where it is not in the cache, and split it; the same on every process."""
        if self.sampling == "balanced" and not self.shuffle:
            raise RequestError("data.sampling=balanced draws images at random, which data.shuffle=false forbids")
        assert self.rows

    def teardown(self, stage: str | None = None) -> None:
        """End the workers of all loaders. Lightning calls it when a stage ends well; ``train`` however it ends."""
        while self._loaders:
            self._loaders.pop().close()

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
        """The train set in its own order, as it is evaluated: not augmented. The same until ``teardown``, for each epoch
        asks for it, and each loader of a stream has workers."""
        if self._train_evaluation not in self._loaders:
            self._train_evaluation = self._loader("train", self.eval_batch_size)
        return self._train_evaluation

    def _loader(
        self, split: str, batch_size: int, augment: Augment | None = None, shuffle: bool = False, batches: int = 0
    ) -> BatchLoader:
        device, rank, world = torch.device("cpu"), 0, 1
        if (trainer := self.trainer) is not None:
            device, rank, world = trainer.strategy.root_device, trainer.global_rank, trainer.world_size
        streaming = self.storage == "stream"
        if self.storage == "auto":
            free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
            streaming = self.prepared.arrays["train_images"].nbytes > self.memory_share * free
        stored, home = self._stored(split), torch.device("cpu") if streaming else device
        if (stored, home) not in self._on_device:
            images, labels = (self.prepared.arrays[f"{stored}_{kind}"] for kind in ("images", "labels"))
            self._on_device[stored, home] = ImageTensors.from_arrays(images, labels, home)
        rows = self.rows[split]
        loader = BatchLoader(
            self._on_device[stored, home], batch_size, Normalize(*self.statistics()), augment=augment, shuffle=shuffle,
            rows=torch.from_numpy(rows) if isinstance(rows, np.ndarray) else None, classes=len(self.classes),
            balanced=shuffle and self.sampling == "balanced", seed=self.seed, batches_per_step=batches, device=device,
            workers=self.workers if streaming else None, worker_seconds=self.worker_seconds, rank=rank, world=world,
        )  # fmt: skip
        self._loaders.append(loader)
        return loader
