"""The ways to train that are compared, but for those of other libraries (benchmarks/peers). Each function trains
``epochs`` epochs with an evaluation after each and returns what that took, without reading the data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.cases import MEAN, STD, Case, arrays
from benchmarks.clock import Result, Stopwatch
from benchmarks.plain import Train, config, floor, parts
from cnnbench.training import train as training


def cnnbench(case: Case, data: Path, device: torch.device, *more: str) -> Train:
    """cnnbench with all its defaults: metrics, TensorBoard, checkpoints, record."""

    fit = training.fit
    fitted: list[Result] = []

    def timed(*arguments: Any) -> None:
        watch = Stopwatch()
        fit(*arguments)
        fitted.append(watch.result(0))

    def train(epochs: int) -> Result:
        with tempfile.TemporaryDirectory() as folder, patch.object(training, "fit", timed):
            cfg = config(case, data, epochs, f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}", *more)
            cfg["callbacks"].pop("progress")  # its lines would go among ours
            record = training.train(cfg, Path(folder))
            assert record["status"] == "completed", record["error"]
            return Result(record["time"]["fit_seconds"], fitted.pop().processor, record["metrics"]["train/loss"])

    return train


def usual(case: Case, data: Path, device: torch.device) -> Train:
    """What tutorials show: PIL transforms in a DataLoader, Lightning's automatic optimization, torchmetrics and
    ``self.log`` each step, the default logger and checkpoints."""
    import lightning.pytorch as pl
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall
    from torchvision import transforms

    network, make_optimizer = parts(case, data, device)
    steps: list[Any] = [transforms.ToTensor(), transforms.Normalize([MEAN] * case.channels, [STD] * case.channels)]
    varied = [transforms.RandomCrop(case.size, 4), transforms.RandomHorizontalFlip()] if case.augment != "none" else []

    class Pictures(Dataset):
        def __init__(self, split: str) -> None:
            self.images, self.labels = arrays(data, split)
            self.transform = transforms.Compose([*(varied if split == "train" else []), *steps])

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return self.transform(Image.fromarray(self.images[index].squeeze())), int(self.labels[index])

    class Usual(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            for split in ("train", "val"):
                self.add_module(f"{split}_accuracy", MulticlassAccuracy(10, average="micro"))
                self.add_module(f"{split}_recall", MulticlassRecall(10))

        def step(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
            images, labels = batch
            logits = self.network(images)
            loss = nn.functional.cross_entropy(logits, labels)
            self.log(f"{split}_loss", loss, on_step=split == "train", on_epoch=True)
            for name in ("accuracy", "recall"):
                metric = getattr(self, f"{split}_{name}")
                metric(logits, labels)
                self.log(f"{split}_{name}", metric, on_step=split == "train", on_epoch=True)
            return loss

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return self.step(batch, "train")

        def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            self.step(batch, "val")

        def configure_optimizers(self) -> Any:
            return make_optimizer(list(self.parameters()))

    def train(epochs: int) -> Result:
        options: dict[str, Any] = {"num_workers": 2, "persistent_workers": True, "pin_memory": device.type == "cuda"}
        loaders = [
            DataLoader(Pictures("train"), case.batch_size, shuffle=True, **options),
            DataLoader(Pictures("val"), 256, **options),
        ]
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                max_epochs=epochs, accelerator="gpu" if device.type == "cuda" else "cpu", devices=1,
                default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            )  # fmt: skip
            watch = Stopwatch()
            trainer.fit(Usual(), loaders[0], loaders[1])
            return watch.result(float(trainer.callback_metrics["train_loss"]))

    return train


def ours(*more: str) -> Callable[..., Train]:
    """cnnbench with other settings."""
    return lambda case, data, device: cnnbench(case, data, device, *more)


# what each row is: benchmarks/README.md
ROWS: dict[str, Callable[..., Train]] = {
    "floor": floor,
    "floor-tuned": floor,
    "floor-nchw": partial(floor, channels_last=False),
    "floor-graph": partial(floor, captured=True),
    "cnnbench": cnnbench,
    "cnnbench-1-step": ours("steps_per_execution=1"),
    "cnnbench-no-graph": ours("cuda_graph=false"),
    "cnnbench-bf16": ours("trainer.precision=bf16-mixed"),
    "cnnbench-compile": ours("compile=true"),
    "cnnbench-deterministic": ours("trainer.deterministic=true"),
    "cnnbench-tuned-cudnn": ours("+trainer.benchmark=true"),
    "usual": usual,
}
GPU_ONLY = ("floor-graph", "cnnbench-no-graph")
DEFAULT = {
    "cpu": ("floor", "floor-tuned", "cnnbench", "cnnbench-1-step", "usual"),
    "cuda": ("floor", "floor-graph", "cnnbench", "usual"),
}
BASE = {"cpu": "floor-tuned", "cuda": "floor-graph"}  # what the others are multiples of
