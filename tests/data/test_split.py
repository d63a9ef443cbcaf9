"""Splits are stratified, disjoint, complete, and stay where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnbench.config.schema import check_values
from cnnbench.data import ImageDataModule
from cnnbench.data.imageset import stratified
from cnnbench.data.sources import Digits
from cnnbench.utils.errors import RequestError


@pytest.mark.parametrize("share", [0.1, 0.25, 100])
def test_every_class_gives_its_share(share: float | int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 5], [400, 100, 50, 10]))
    chosen, others = stratified(labels, share, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([chosen, others])), np.arange(len(labels)))
    wanted = share if isinstance(share, int) else round(len(labels) * share)
    assert len(chosen) == wanted
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        assert abs((labels[chosen] == label).sum() - count * wanted / len(labels)) <= 1


def test_a_class_of_one_image_stays_in_the_train_set() -> None:
    labels = np.array([0] * 20 + [1] + [2, 2])
    chosen, others = stratified(labels, 0.1, seed=0)
    assert 1 not in labels[chosen] and 1 in labels[others]
    assert 2 in labels[chosen] and 2 in labels[others]


def data(cache: Path, **options) -> ImageDataModule:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8, **options)
    module.setup()
    return module


def test_the_validation_split_does_not_move_with_the_training_seed(cache: Path) -> None:
    first, second = data(cache, seed=0), data(cache, seed=1)
    np.testing.assert_array_equal(first.rows["val"], second.rows["val"])
    assert set(first.rows["val"]).isdisjoint(first.rows["train"])
    assert first.count("train") + first.count("val") == 1438 and first.count("test") == 359
    assert not np.array_equal(first.rows["val"], data(cache, split_seed=1).rows["val"])


def test_the_other_ways_to_validate(cache: Path) -> None:
    as_published = data(cache, validation="test")
    assert as_published.count("val") == as_published.count("test") == 359 and as_published.count("train") == 1438
    nothing = data(cache, validation="none")
    assert nothing.count("val") == 0 and nothing.val_dataloader() == []
    with pytest.raises(RequestError, match="no validation split"):
        data(cache, validation="own")
    for wrong in (0.0, 1.0, 1.5, "tset"):
        with pytest.raises(RequestError, match=r"data\.validation"):
            check_values({"data": {"validation": wrong}})


def test_limit_train_takes_a_stratified_part_of_what_is_left_for_training(cache: Path) -> None:
    module = data(cache, limit_train=200)
    assert module.count("train") == 200
    labels = module.prepared.arrays["train_labels"][module.rows["train"]]
    assert np.bincount(labels).min() >= 19
    assert set(module.rows["train"]).isdisjoint(module.rows["val"])
    assert data(cache, limit_train=10**6).count("train") == data(cache).count("train")


def test_too_few_images_for_a_validation_split_are_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8)
    monkeypatch.setitem(module.prepared.arrays, "train_labels", np.arange(10))
    with pytest.raises(RequestError, match=r"data\.validation=0\.1 takes no image of 10.*data\.validation=none"):
        module.setup()
