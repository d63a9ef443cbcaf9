"""Batches are the same whatever the storage and the chunks; an epoch is a permutation that follows from its number."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnbench.data import ImageDataModule, stream
from cnnbench.data.augment import Augment, Normalize
from cnnbench.data.loader import BatchLoader, ImageTensors
from cnnbench.data.sources import Digits
from cnnbench.utils.errors import RequestError


def epoch(loader: BatchLoader, number: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader.set_epoch(number)
    return [(images.clone(), labels.clone()) for chunk in loader for images, labels in chunk]


def numbered(count: int) -> ImageTensors:
    """Images whose only pixel and whose label are their number."""
    return ImageTensors(torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1), torch.arange(count))


def loader(count: int = 50, batch: int = 8, **options) -> BatchLoader:
    return BatchLoader(numbered(count), batch, Normalize([0.0], [1 / 255]), **options)


def test_an_epoch_is_a_permutation_that_changes_with_epoch_and_seed() -> None:
    orders = []
    for seed, number in ((0, 0), (0, 1), (1, 0), (0, 0)):
        batches = epoch(loader(shuffle=True, seed=seed), number)
        assert [len(labels) for _, labels in batches] == [8] * 6 + [2]
        for images, labels in batches:  # the right label stays with its image
            torch.testing.assert_close(images.flatten(), labels.float())
        orders.append(torch.cat([labels for _, labels in batches]))
        assert sorted(orders[-1].tolist()) == list(range(50))
    assert torch.equal(orders[0], orders[3])
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_without_shuffling_the_order_is_kept() -> None:
    for number in (0, 5):
        assert torch.cat([labels for _, labels in epoch(loader(), number)]).tolist() == list(range(50))
    rows = torch.tensor([4, 2, 40])
    assert torch.cat([labels for _, labels in epoch(loader(rows=rows))]).tolist() == [4, 2, 40]


@pytest.mark.parametrize("chunk", [1, 3, 7, 0])
def test_chunks_change_nothing_but_their_number(chunk: int) -> None:
    one = loader(shuffle=True, batches_per_step=chunk)
    assert len(one) == -(-7 // (chunk or 7))
    chunks = list(one)
    assert [part.last for part in chunks] == [False] * (len(one) - 1) + [True]
    for (a, b), (c, d) in zip(epoch(one), epoch(loader(shuffle=True)), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


EVERYTHING = {
    "resized_crop": 0.25, "rotate": 30.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "policy": "rand",
    "erase": 0.5, "mixup": 0.5, "cutmix": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["crops", "everything"])
@pytest.mark.parametrize("group", [1, 10**9])
def test_how_many_batches_are_made_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, group: int, more: dict
) -> None:
    def batches() -> list:
        data = ImageTensors(torch.randint(256, (30, 8, 8, 3), dtype=torch.uint8), torch.arange(30))
        torch.manual_seed(0)
        data.images.random_(0, 256)
        augment = Augment(2, 0.5, 3, **more)
        made = BatchLoader(data, 4, Normalize([0.5] * 3, [0.5] * 3), augment=augment, classes=30, shuffle=True)
        return epoch(made)

    expected = batches()
    monkeypatch.setattr("cnnbench.data.loader.BLOCK_BYTES", group)
    for (a, b), (c, d) in zip(batches(), expected, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_the_default_type_of_a_step_in_64_bits_changes_no_draw() -> None:
    data = ImageTensors(torch.arange(30 * 192, dtype=torch.uint8).view(30, 8, 8, 3), torch.arange(30))
    augment = Augment(2, 0.5, 3, **EVERYTHING)
    made = BatchLoader(data, 4, Normalize([0.5] * 3, [0.5] * 3), augment=augment, classes=30, shuffle=True)
    expected = epoch(made)
    torch.set_default_dtype(torch.float64)
    try:
        batches = epoch(made)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    for (a, b), (c, d) in zip(batches, expected, strict=True):
        assert a.dtype == b.dtype == torch.float32 and torch.equal(a, c) and torch.equal(b, d)


def test_the_same_batches_from_memory_and_from_a_stream(cache: Path) -> None:
    def batches(storage: str) -> list:
        module = ImageDataModule(
            Digits(),
            cache=str(cache),
            image_size=8,
            storage=storage,
            workers=1,
            augment=Augment(1, 0.5, 2, **EVERYTHING),
            batch_size=50,
        )
        module.setup()
        assert (module.train_dataloader().workers is not None) == (storage == "stream")
        return [epoch(module.train_dataloader(), number) for number in (0, 3)] + [epoch(module.test_dataloader())]

    for one, other in zip(batches("memory"), batches("stream"), strict=True):
        assert len(one) == len(other)
        for (a, b), (c, d) in zip(one, other, strict=True):
            assert torch.equal(a, c) and torch.equal(b, d)


def test_the_workers_of_a_stream_are_sent_no_images_and_stay(cache: Path) -> None:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8, storage="stream", workers=2, batch_size=500)
    module.setup()
    made = module.train_dataloader()
    first, reader = epoch(made, 0), made._reader
    assert reader is not None and len(pickle.dumps(reader.loader.dataset)) < 1000
    workers = [process.pid for process in reader.loader._iterator._workers]
    assert not torch.equal(first[0][1], epoch(made, 1)[0][1])  # a new order reaches the same workers
    assert made._reader is reader and [process.pid for process in reader.loader._iterator._workers] == workers
    del reader
    module.teardown()
    assert not {process.pid for process in multiprocessing.active_children()} & {*workers}
    assert torch.equal(first[0][1], epoch(made, 0)[0][1])  # by new ones
    made.close()


def test_each_evaluation_of_a_streamed_train_set_has_the_same_workers(cache: Path) -> None:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8, storage="stream", workers=1, batch_size=500)
    before, counts = {*multiprocessing.active_children()}, []
    for _ in range(3):
        assert len(epoch(module.train_evaluation_loader())) == 6  # 1,294 images, 256 at a time
        counts.append(len({*multiprocessing.active_children()} - before))
    module.teardown()
    assert counts == [1, 1, 1] and {*multiprocessing.active_children()} <= before


def test_a_stream_that_was_left_early_begins_anew(cache: Path) -> None:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8, storage="stream", workers=1, batch_size=50)
    module.setup()
    made = module.train_dataloader()
    made.batches_per_step = 1
    expected = epoch(made, 2)
    made.set_epoch(3)
    for number, chunk in enumerate(made):
        next(iter(chunk))
        if number == 2:
            break
    for (a, b), (c, d) in zip(epoch(made, 2), expected, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_auto_streams_what_does_not_fit(cache: Path) -> None:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8, memory_share=1e-9, worker_seconds=7.0)
    module.setup()
    made = module.train_dataloader()
    assert made.workers is not None and made.worker_seconds == 7
    module.memory_share = 0.5
    assert module.train_dataloader().workers is None


def test_a_memory_mapped_set_is_not_copied(cache: Path) -> None:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8)
    module.setup()
    assert module.train_dataloader().data.images.data_ptr() == module.prepared.arrays["train_images"].ctypes.data


def end(how: str):
    """What a worker does instead of reading: die, or never return."""

    def read(self: object, rows: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL) if how == "dead" else time.sleep(600)

    return read


@pytest.mark.parametrize("how", ["dead", "stuck"])
def test_a_worker_that_gives_nothing_ends_the_run_with_what_to_change(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(stream.Rows, "__getitem__", end(how))
    with pytest.raises(
        RequestError, match=r"no images from a stream's workers \(.*data\.workers=0.*data\.worker_seconds"
    ):
        epoch(loader(workers=1, worker_seconds=0.5 if how == "stuck" else 60))


@pytest.mark.parametrize("when", ["reading", "handing over"])
def test_a_worker_that_is_stopped_ends_the_run_too(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def read(rows: stream.Rows, numbers: np.ndarray) -> torch.Tensor:
        threading.Timer(0.2, stop).start() if when == "handing over" else numbers[0] == 8 and stop()
        return torch.zeros(len(numbers), 1, 1, 1, dtype=torch.uint8)

    monkeypatch.setattr(stream.Rows, "__getitem__", read)
    monkeypatch.setattr("cnnbench.data.loader.BLOCK_BYTES", 1)
    batches, others = loader(workers=1, worker_seconds=1.0), {*multiprocessing.active_children()}  # of other tests
    with pytest.raises(RequestError, match=r"no images from a stream's workers \(.*data\.workers=0"):
        for chunk in batches:
            for _ in chunk:
                time.sleep(0.5)  # which leaves the next images with the worker
    batches.close()
    for process in {*multiprocessing.active_children()} - others:
        process.join(300)
        assert process.exitcode is not None


def test_too_little_shared_memory_is_reported_instead_of_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(RequestError, match=r"MB in /dev/shm, which has 0\.0 MB left.*data\.workers=0.*--shm-size"):
        epoch(loader(workers=1))
    assert len(epoch(loader(workers=0))) == 7  # which needs none


def test_balanced_sampling_draws_the_classes_equally_often_by_seed_and_epoch() -> None:
    images = ImageTensors(torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1), (torch.arange(200) < 20).long())
    rows = torch.arange(200)[torch.arange(200) % 4 != 1]  # 15 of the rare class, 135 of the other

    def drawn(number: int, seed: int = 0, **options: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        options = {"shuffle": True, "balanced": True, "rows": rows, "seed": seed, **options}
        return epoch(BatchLoader(images, 8, Normalize([0.0], [1 / 255]), **options), number)

    def order(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        return torch.cat([pixels.flatten() for pixels, _ in batches]).long()

    whole, other = order(drawn(0)), order(drawn(1))
    assert len(whole) == 150 and set(whole.tolist()) <= set(rows.tolist())
    rare = torch.cat([order(drawn(number)) for number in range(40)]) < 20
    assert abs(rare.float().mean() - 0.5) < 4 * 0.5 / 6000**0.5  # four standard errors of 6,000 fair draws
    seen = torch.cat([order(drawn(number)) for number in range(40)]).bincount(minlength=200)[rows]
    assert seen[:15].min() > 150 and seen[:15].max() < 250 and seen[15:].min() > 5  # 200 and 22 are expected
    assert torch.equal(whole, order(drawn(0))) and not torch.equal(whole, other)
    assert not torch.equal(whole, order(drawn(0, seed=1)))
    shares = [drawn(0, rank=rank, world=2) for rank in (0, 1)]
    both = [
        torch.stack([one[0].flatten(), two[0].flatten()], 1).flatten() for one, two in list(zip(*shares, strict=True))
    ]
    assert torch.equal(torch.cat(both).long(), whole)
