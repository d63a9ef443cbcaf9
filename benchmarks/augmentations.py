"""Augmented batches a processor second: cnnbench, and torchvision's v2 transforms in the workers of a DataLoader.

    python -m benchmarks.augmentations               # 2,000 made-up images of CIFAR-10's size, batch 128, one thread
    python -m benchmarks.augmentations --size 224 --images 256

Both make normalised float batches. Processor seconds are user and system time of the process and of its workers, so that
neither a busy machine nor the number of workers changes the figures; starting workers and the first epoch are not counted.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import torch
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from cnnbench.data.augment import Augment, Normalize
from cnnbench.data.loader import BatchLoader, ImageTensors

MEAN, STD, CLASSES = [0.5] * 3, [0.25] * 3, 10
BILINEAR = v2.InterpolationMode.BILINEAR


def cases(size: int) -> dict[str, tuple[Augment, list, list]]:
    """By name: our augmentation, torchvision's transforms of an image, and those of a batch."""
    crop = [v2.RandomCrop(size, 4), v2.RandomHorizontalFlip()]
    return {
        "flip_crop": (Augment(4, 0.5), crop, []),
        "resized_crop": (Augment(resized_crop=0.25), [v2.RandomResizedCrop(size, (0.25, 1.0))], []),
        "rotate": (Augment(rotate=15), [v2.RandomRotation(15, BILINEAR)], []),
        "colour": (
            Augment(brightness=0.4, contrast=0.4, saturation=0.4),
            [v2.ColorJitter(0.4, 0.4, 0.4)],
            [],
        ),
        "erase": (Augment(erase=0.25), [v2.RandomErasing(0.25)], []),
        "trivial": (Augment(policy="trivial"), [v2.TrivialAugmentWide()], []),
        "rand": (Augment(policy="rand"), [v2.RandAugment()], []),
        "mixup": (Augment(mixup=0.2), [], [v2.MixUp(alpha=0.2, num_classes=CLASSES)]),
        "cutmix": (Augment(cutmix=1.0), [], [v2.CutMix(alpha=1.0, num_classes=CLASSES)]),
        "flip_crop, trivial, cutmix": (
            Augment(4, 0.5, policy="trivial", cutmix=1.0),
            [*crop, v2.TrivialAugmentWide()],
            [v2.CutMix(alpha=1.0, num_classes=CLASSES)],
        ),
    }


class Images(Dataset):
    """Images in memory, each through torchvision's transforms."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, transforms: list) -> None:
        self.images, self.labels = images.permute(0, 3, 1, 2).contiguous(), labels
        self.transform = v2.Compose([*transforms, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        torch.set_num_threads(1)
        return self.transform(tv_tensors.Image(self.images[row])), int(self.labels[row])


def collated(mix: v2.Compose, batch: list) -> object:
    """A batch of images and labels, mixed."""
    return mix(*default_collate(batch))


def children() -> list[int]:
    """The processes that this one has started and that run."""
    return [int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def processor_seconds() -> float:
    """User and system time of this process and of those that it has started (Linux)."""
    ticks = 0
    for process in (os.getpid(), *children()):
        ticks += sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def rate(epoch: Callable[[], Iterable], images: int, seconds: float) -> float:
    """Images a processor second, the median of three spells of at least ``seconds``."""
    for _ in epoch():
        pass
    rates = []
    for _ in range(3):
        start, done = processor_seconds(), 0
        while (spent := processor_seconds() - start) < seconds or not done:
            for _ in epoch():
                pass
            done += images
        rates.append(done / spent)
    return median(rates)


def main() -> None:
    """Print a row of images a processor second for each augmentation."""
    parser = argparse.ArgumentParser(description="Augmented images a processor second, ours and torchvision's")
    for name, value in (("--images", 2000), ("--size", 32), ("--batch", 128), ("--workers", 1)):
        parser.add_argument(name, type=int, default=value)
    parser.add_argument("--seconds", type=float, default=0.5, help="processor seconds of each of three spells")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.nn.functional.interpolate(torch.rand(given.images, 3, 8, 8), size=given.size, mode="bilinear")
    images = (255 * images).byte().permute(0, 2, 3, 1).contiguous()
    labels = torch.arange(given.images) % CLASSES
    print("| augmentation | cnnbench, images/s | torchvision, images/s | times |\n|---|---:|---:|---:|")
    for name, (augment, of_image, of_batch) in cases(given.size).items():
        loader = BatchLoader(
            ImageTensors(images, labels),
            given.batch,
            Normalize(MEAN, STD),
            augment=augment,
            classes=CLASSES,
            shuffle=True,
        )
        usual = DataLoader(
            Images(images, labels, of_image),
            given.batch,
            shuffle=True,
            num_workers=given.workers,
            persistent_workers=True,
            collate_fn=partial(collated, v2.Compose(of_batch)) if of_batch else None,
        )
        ours = rate(partial(chain.from_iterable, loader), given.images, given.seconds)
        theirs = rate(partial(iter, usual), given.images, given.seconds)
        print(f"| {name} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.1f} |", flush=True)


if __name__ == "__main__":
    main()
