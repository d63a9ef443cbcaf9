"""Splits are stratified, disjoint, complete, and stay where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import config

from cnnbench.config.schema import check_values
from cnnbench.data import ImageDataModule
from cnnbench.data.imageset import stratified
from cnnbench.data.sources import Digits, Npz
from cnnbench.training import build, preflight
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


def test_classes_that_limit_train_leaves_without_an_image_are_named(cache: Path) -> None:
    cfg = config("data.limit_train=5")
    module = data(cache, limit_train=5)
    gone = np.flatnonzero(np.bincount(module.labels("train"), minlength=10) == 0)
    (note,) = preflight.notes_on(cfg, module)
    assert len(gone) == 5 and note.endswith(f"no training image of class {', '.join(map(str, gone))}")
    assert not [*preflight.notes_on(cfg, data(cache, limit_train=200))]


def test_too_few_images_for_a_validation_split_are_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ImageDataModule(Digits(), cache=str(cache), image_size=8)
    monkeypatch.setitem(module.prepared.arrays, "train_labels", np.arange(10))
    with pytest.raises(RequestError, match=r"data\.validation=0\.1 takes no image of 10.*data\.validation=none"):
        module.setup()


def test_each_fold_validates_once_and_trains_otherwise(cache: Path) -> None:
    modules = [data(cache, folds=5, fold=fold, validation="folds", seed=fold) for fold in range(5)]
    np.testing.assert_array_equal(np.sort(np.concatenate([m.rows["val"] for m in modules])), np.arange(1438))
    for module in modules:
        assert set(module.rows["val"]).isdisjoint(module.rows["train"])
        assert module.count("train") + module.count("val") == 1438 and module.count("test") == 359
    assert np.ptp([np.bincount(module.labels("val")) for module in modules], axis=0).max() == 1  # of each class
    other = data(cache, folds=5, fold=0, validation="folds", split_seed=1).rows["val"]
    assert 0.1 < np.isin(other, modules[0].rows["val"]).mean() < 0.35  # a fifth by chance
    assert modules[2].description() | {"folds": 5, "fold": 2, "validation": "folds"} == modules[2].description()
    limited = data(cache, folds=5, fold=0, validation="folds", limit_train=200)
    assert limited.count("train") == 200 and set(limited.rows["train"]).isdisjoint(limited.rows["val"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("data.folds=5 data.fold=5", "data.fold must be from 0 to 4"),
        ("data.folds=5", "data.fold must be from 0 to 4"),
        ("data.fold=1", "data.fold needs data.folds"),
        ("data.validation=folds", "data.fold needs data.folds"),
        ("data.folds=5 data.fold=0 data.validation=test", "data.validation=test"),
        ("data.folds=5 data.fold=0 data.validation=none", "data.validation=none"),
        ("data.folds=5 data.fold=0 data.validation=0.1", "data.validation=0.1"),
        ("data.folds=140 data.fold=0", "more than the 139 images of class 8"),
        ("data.folds=1 data.fold=0", "at least 2"),
    ],
)
def test_folds_that_cannot_be_are_refused_before_anything_runs(overrides: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        whole = config(*overrides.split())
        check_values(whole)
        preflight.check(whole)


def test_folds_of_a_set_with_a_validation_split_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {f"{part}_images": random.integers(0, 256, (20, 8, 8), np.uint8) for part in ("train", "val", "test")}
    arrays |= {f"{part}_labels": np.arange(20) % 2 for part in ("train", "val", "test")}
    np.savez(tmp_path / "with.npz", **arrays)
    np.savez(tmp_path / "without.npz", **{name: of for name, of in arrays.items() if "val" not in name})
    module = ImageDataModule(
        Npz(), cache=str(tmp_path), path=str(tmp_path / "with.npz"), folds=2, fold=0, validation="folds"
    )
    with pytest.raises(RequestError, match=r"data\.folds=2, but this set has a validation split"):
        module.setup()
    whole = config("data=npz", f"data.path={tmp_path / 'without.npz'}", "data.folds=2", "data.fold=1", base=[])
    assert whole["data"]["validation"] == "folds"
    assert build.build_data(whole).count("val") == 10
