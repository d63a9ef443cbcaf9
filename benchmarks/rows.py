"""The ways to train that are compared. Each function trains ``epochs`` epochs with an evaluation after each and returns
the seconds that took, without reading the data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cases import Case
from cnnbench import build, training
from cnnbench.config import compose, resolved

MEAN, STD = 0.5, 0.5
Train = Callable[[int], float]


def config(case: Case, data: Path, epochs: int, *more: str) -> dict[str, Any]:
    """The cnnbench configuration of a case."""
    return resolved(
        compose(
            [
                f"model={case.model}", "data=npz", f"data.path={data}", f"data.batch_size={case.batch_size}",
                f"optimizer={case.optimizer}", "scheduler=none", f"augment={case.augment}",
                f"trainer.max_epochs={epochs}", *more,
            ]
        )
    )  # fmt: skip


def parts(case: Case, data: Path, device: torch.device) -> tuple[nn.Module, Any]:
    """The network, channels_last, and the maker of its fused optimizer: the same in every row."""
    cfg = config(case, data, 1)
    network = build.build_network(cfg, build.build_data(cfg)).to(device)
    return network, build.build_optimization(cfg)["optimizer"]


def arrays(data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels."""
    with np.load(data, allow_pickle=False) as file:
        images = file[f"{split}_images"]
        return images.reshape(*images.shape[:3], -1), file[f"{split}_labels"]


def floor(case: Case, data: Path, device: torch.device) -> Train:
    """A plain loop over an in-memory tensor, as a person would write it who cares for speed."""
    network, make_optimizer = parts(case, data, device)
    sets = {}
    for split in ("train", "val"):
        images, labels = arrays(data, split)
        tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        if case.augment == "none" or split == "val":
            tensor = tensor.float().div_(255).sub_(MEAN).div_(STD)  # once for all epochs
        sets[split] = tensor, torch.from_numpy(labels).to(device)

    def augmented(batch: Tensor) -> Tensor:
        count, _, size, _ = batch.shape
        padded = nn.functional.pad(batch, (4, 4, 4, 4)).permute(0, 2, 3, 1)
        line = torch.arange(size, device=device)
        rows = torch.randint(9, (count, 1), device=device) + line
        flip = torch.rand(count, 1, device=device) < 0.5
        columns = torch.randint(9, (count, 1), device=device) + torch.where(flip, line.flip(0), line)
        picked = padded[torch.arange(count, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2).float().div_(255).sub_(MEAN).div_(STD)

    def train(epochs: int) -> float:
        optimizer = make_optimizer(list(network.parameters()))
        start = time.perf_counter()
        for _ in range(epochs):
            for split in ("train", "val"):
                images, labels = sets[split]
                learning = split == "train"
                network.train(learning)
                predicted = torch.empty_like(labels)
                order = (
                    torch.randperm(len(labels), device=device) if learning else torch.arange(len(labels), device=device)
                )
                step = case.batch_size if learning else 256
                losses = torch.zeros((), device=device)
                with torch.set_grad_enabled(learning):
                    for first in range(0, len(order), step):
                        rows = order[first : first + step]
                        batch = images[rows]
                        logits = network(augmented(batch) if learning and case.augment != "none" else batch)
                        loss = nn.functional.cross_entropy(logits, labels[rows])
                        if learning:
                            loss.backward()
                            optimizer.step()
                            optimizer.zero_grad()
                        predicted[rows] = logits.detach().argmax(1)
                        losses += loss.detach()
                torch.bincount(labels * 10 + predicted, minlength=100).reshape(10, 10).cpu()
                losses.item()
        return time.perf_counter() - start

    return train


def cnnbench(case: Case, data: Path, device: torch.device, *more: str) -> Train:
    """cnnbench with all its defaults: metrics, TensorBoard, checkpoints, record."""

    def train(epochs: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            cfg = config(case, data, epochs, f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}", *more)
            cfg["callbacks"].pop("progress")  # its lines would go among ours
            record = training.train(cfg, Path(folder))
            assert record["status"] == "completed", record["error"]
            return record["time"]["fit_seconds"]

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

    def train(epochs: int) -> float:
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
            start = time.perf_counter()
            trainer.fit(Usual(), loaders[0], loaders[1])
            return time.perf_counter() - start

    return train


ROWS: dict[str, Callable[..., Train]] = {"floor": floor, "floor-tuned": floor, "cnnbench": cnnbench, "usual": usual}
