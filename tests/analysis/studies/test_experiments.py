"""Every row of every study composes, builds and trains a step; its numbers are the report's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import config

from cnnbench.analysis.metric_names import COSTS, SPLITS
from cnnbench.analysis.report.figures.style import COLOURS
from cnnbench.analysis.studies.claims import PATTERNS, read
from cnnbench.analysis.studies.study import SIZES, load_row, load_study, metric_of, studies
from cnnbench.config.groups import groups
from cnnbench.config.overrides import expand, without_shorthand
from cnnbench.training import train as training
from cnnbench.utils.errors import RequestError

ROWS = {"eq2425": 11, "cifar100_hw3": 15, "int305_cifar10": 3, "int305_mnist": 23, "dl2020_mnist": 3}
STUDIES = {study: load_study(study) for study in studies()}
ALL = [(study, row) for study, loaded in STUDIES.items() for row in loaded.rows]


def test_every_study_has_the_rows_of_its_report():
    assert {study: len(loaded.rows) for study, loaded in STUDIES.items()} == ROWS
    for study in STUDIES:
        on_disk = {name.partition("/")[2] for name in groups()["experiment"] if name.startswith(f"{study}/")}
        assert on_disk == set(STUDIES[study].rows)


@pytest.mark.parametrize("study, row", ALL, ids=lambda value: str(value))
def test_a_row_is_named_like_its_file_and_reports_known_columns(study, row):
    for form in ("published", "corrected"):  # of one composition
        loaded, of = load_row(study, row, form), STUDIES[study]
        assert loaded.config["study"]["row"] == row
        assert loaded.config["study"]["name"] == study
        assert loaded.change
        assert set(loaded.reported) <= {column.key for column in of.columns}
        published = form == "published"
        assert loaded.config["data"]["validation"] == ("test" if published else 0.1)
        assert loaded.config["test_with"] == ("last" if published else "best")


def test_numbers_of_the_reports_are_where_they_belong():
    assert load_row("eq2425", "4e_batch_norm", "published").reported == {
        "train_recall": 0.8574,
        "validation_recall": 0.6633,
    }
    assert load_row("cifar100_hw3", "resnet18", "published").reported == {"accuracy": (0.76, 0.83)}
    assert load_row("int305_cifar10", "alexnet_sgd", "published").reported["cat"] == 0.449
    assert load_row("dl2020_mnist", "lr_0.05", "published").config["optimizer"]["lr"] == 0.05


def test_the_quirks_are_on_as_published_and_off_when_corrected():
    published, corrected = (load_row("eq2425", "4d_dropout", form).config for form in ("published", "corrected"))
    assert all(published["quirks"].values())
    quirks = corrected["quirks"]
    assert not any(quirks[name] for name in ("softmax_before_loss", "dropout_in_evaluation", "batch_recall"))
    assert published["optimizer"]["momentum"] == corrected["optimizer"]["momentum"] == 0.9
    assert not published["data"]["shuffle"]
    assert load_row("eq2425", "5c_shuffle", "published").config["data"]["shuffle"]


@pytest.mark.parametrize("study", studies())
def test_every_claim_can_be_read_and_names_rows_and_columns(study):
    loaded, rows = STUDIES[study], STUDIES[study].rows
    assert loaded.baseline in rows
    assert {name for names in loaded.curves.values() for name in names} <= set(rows)
    assert all(len(names) <= len(COLOURS) for names in loaded.curves.values())
    assert known_column(loaded, loaded.learned.measure) and loaded.learned.times_chance > 1
    for claim in loaded.claims:
        assert sum(bool(pattern.fullmatch(claim.holds)) for pattern in PATTERNS) == 1, claim.holds
        parts = read(claim, loaded)[0].groupdict()
        assert {name for key, name in parts.items() if key in "abcd"} <= set(rows), claim.holds
        assert "on" not in parts or known_column(loaded, parts["on"]), claim.holds


def known_column(study, name):
    known = {*(column.key for column in study.columns), *COSTS, *SIZES}
    return name in known or metric_of(name) in SIZES or metric_of(name).partition("/")[0] in SPLITS


def test_a_glob_of_experiments_is_written_out():
    found = expand(without_shorthand(["experiment=glob(dl2020_mnist/*)", "seed=range(3)"]))
    assert len(found) == 9
    assert sum("experiment=dl2020_mnist/lr_0.01" in run for run in found) == 3
    assert len(expand(without_shorthand(["experiment=glob(eq2425/*,exclude=eq2425/5*)"]))) == 8
    with pytest.raises(RequestError, match="matches none of"):
        without_shorthand(["experiment=glob(nothing/*)"])


@pytest.fixture(scope="module")
def tiny_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By channels: an image of each of ten classes in the shape of MNIST and of CIFAR."""
    random, paths = np.random.default_rng(0), {}
    for channels, shape in ((1, (28, 28)), (3, (32, 32, 3))):
        arrays = {}
        for split in ("train", "test"):
            arrays[f"{split}_images"] = random.integers(0, 256, (10, *shape), dtype=np.uint8)
            arrays[f"{split}_labels"] = np.arange(10)
        paths[channels] = tmp_path_factory.mktemp("sets") / f"{channels}.npz"
        np.savez(paths[channels], **arrays)
    return paths


@pytest.mark.parametrize("study, row", ALL, ids=lambda value: str(value))
def test_a_row_trains_a_step(study, row, tiny_sets, tmp_path):
    tiny = tiny_sets[1 if "mnist" in study else 3]
    small = ["data=npz", f"data.path={tiny}", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    cfg = config(f"experiment={study}/{row}", *small, *OFFLINE.get(row, []), *CYCLES.get(row, []), base=[])
    record = training.train(cfg, tmp_path)
    assert record["status"] in ("completed", "diverged"), record["error"]
    assert record["status"] == "completed" or cfg["optimizer"]["lr"] >= 0.05


WEIGHTLESS = ["model.weights=null", "model.stem=imagenet", "data.image_size=64"]
OFFLINE = dict.fromkeys(("resnet18", "resnet18_flip", "resnet18_crop", "fine_tune"), WEIGHTLESS)
CYCLES = {row: ["trainer.max_epochs=3"] for row in ("scratch", "adamw_onecycle")}  # one by epochs has three or more
