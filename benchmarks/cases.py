"""What is measured: a network, a kind of data and a batch size; the data are made up, in the shape of the real sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEAN, STD = 0.5, 0.5  # of the pixels in [0, 1], as every row but cnnbench normalises them


@dataclass(frozen=True)
class Case:
    """One comparison. ``images`` is the train set's size in a full run; evaluation has a tenth of it."""

    name: str
    model: str
    channels: int
    size: int
    batch_size: int
    images: int
    quick_images: int
    optimizer: str = "adam"
    augment: str = "none"


ON_CPU = {
    case.name: case
    for case in (
        Case("tiny_cnn-16", "tiny_cnn", 1, 28, 16, 60_000, 3_200),
        Case("tiny_cnn-64", "tiny_cnn", 1, 28, 64, 60_000, 6_400),
        Case("tiny_cnn-256", "tiny_cnn", 1, 28, 256, 60_000, 12_800),
        Case("three_layer_cnn-64", "three_layer_cnn", 3, 32, 64, 20_000, 1_920, augment="flip_crop"),
        Case("alexnet-64", "alexnet", 3, 32, 64, 1_920, 192, optimizer="momentum"),
    )
}
# On a GPU the question is the time of a step, over networks and batch sizes; an epoch is then short.
GRID = {
    f"{model}-{batch}": Case(f"{model}-{batch}", model, channels, size, batch, 20_480, 4_096, optimizer)
    for model, channels, size, optimizer in (
        ("tiny_cnn", 1, 28, "adam"),
        ("three_layer_cnn", 3, 32, "adam"),
        ("alexnet", 3, 32, "momentum"),
        ("resnet18", 3, 32, "momentum"),
    )
    for batch in (16, 64, 256, 1024)
}
CASES = {"cpu": {**GRID, **ON_CPU}, "cuda": {**ON_CPU, **GRID}}


def make_data(case: Case, images: int, folder: Path) -> Path:
    """An .npz of random images with ten classes, in the form that ``data=npz`` reads."""
    random = np.random.default_rng(0)
    path = folder / f"{case.name}-{images}.npz"
    if not path.exists():
        shape = (case.size, case.size) if case.channels == 1 else (case.size, case.size, case.channels)
        arrays: dict[str, np.ndarray] = {}
        for split, count in (("train", images), ("val", images // 10), ("test", 10)):
            labels = np.arange(count) % 10
            # a class is a brightness, so that the loss goes down as it would
            light = labels.reshape(-1, *[1] * len(shape)) * 15
            arrays[f"{split}_images"] = (random.integers(0, 120, (count, *shape)) + light).astype(np.uint8)
            arrays[f"{split}_labels"] = labels
        np.savez(path, allow_pickle=False, **arrays)
    return path


def arrays(data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels."""
    with np.load(data, allow_pickle=False) as file:
        images = file[f"{split}_images"]
        return images.reshape(*images.shape[:3], -1), file[f"{split}_labels"]
