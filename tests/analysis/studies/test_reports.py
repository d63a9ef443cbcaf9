"""The rows are the reports': every number that a report gives, as data, and what it fixes of the training."""

from __future__ import annotations

import re

import pytest
from helpers import ROOT

from cnnbench.analysis.metric_names import COSTS
from cnnbench.analysis.studies.claims import read
from cnnbench.analysis.studies.study import SIZES, load_row, load_study, metric_of, studies
from cnnbench.config.settings import flatten, show

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def by_class(overall: float, *counts: int) -> dict[str, float]:
    """Right answers of 1,000 images a class, and of all 10,000."""
    assert sum(counts) == round(10_000 * overall)
    return {"test_accuracy": overall, **{name: count / 1000 for name, count in zip(CLASSES, counts, strict=True)}}


# every number that a report gives; a range is of several, or of a percentage whose decimals were cut
REPORTED: dict[str, dict[str, dict[str, float | tuple[float, float]]]] = {
    "eq2425": {
        "default": {"train_recall": 0.6065, "validation_recall": 0.5245, "run_time": (3 * 60 + 10) * 60},
        "4a1_filters": {"train_recall": 0.6635, "validation_recall": 0.5713},
        "4a2_extra_fc": {"train_recall": 0.5599, "validation_recall": 0.4956},
        "4b_kernels": {"train_recall": 0.5900, "validation_recall": 0.5126},
        "4c_leaky_relu": {"train_recall": 0.6310, "validation_recall": 0.5329},
        "4d_dropout": {"train_recall": 0.6105, "validation_recall": 0.5379},
        "4e_batch_norm": {"train_recall": 0.8574, "validation_recall": 0.6633},
        "5a_batch_256": {"train_recall": 0.3700, "validation_recall": 0.3606, "run_time": (60 + 47) * 60},
        "5b_lr_0.1": {"train_recall": 0.1007, "validation_recall": 0.1011, "run_time": (2 * 60 + 1) * 60},
        "5c_shuffle": {"train_recall": 0.6588, "validation_recall": 0.5434, "run_time": (3 * 60 + 31) * 60},
    },
    "cifar100_hw3": {
        "mlp": {"accuracy": 0.26},
        "cnn": {"accuracy": (0.28, 0.30)},
        "filters_128": {"accuracy": 0.31, "loss": 0.160},
        "filters_256": {"accuracy": 0.34, "loss": 0.077},
        "filters_512": {"accuracy": 0.36, "loss": 0.045, "run_time": (30 * 60, 40 * 60)},
        "batch_norm": {"accuracy": 0.42},
        "batch_norm_fc8192": {"accuracy": 0.43},
        "batch_norm_dropout": {"accuracy": 0.43},
        "hflip": {"accuracy": 0.36},
        "crop": {"accuracy": 0.39},
        "resnet18": {"accuracy": (0.76, 0.83)},
        "resnet18_flip": {"accuracy": (0.76, 0.83)},
        "resnet18_crop": {"accuracy": (0.76, 0.83)},
        "scratch": {"accuracy": 0.60},
    },
    "int305_cifar10": {
        "baseline": {"test_accuracy": (0.67, 0.68)},
        "alexnet_sgd": by_class(0.7199, 762, 853, 619, 449, 697, 628, 801, 813, 792, 785),
        "alexnet_adam_dropout": by_class(0.7430, 787, 840, 662, 487, 744, 661, 851, 731, 841, 826),
    },
    "int305_mnist": {"baseline": {"train_accuracy": 0.985}},
    "dl2020_mnist": {
        "lr_0.0001": {"test_accuracy": (0.97, 0.98), "first_loss": 0.75, "last_loss": 0.05},
        "lr_0.01": {"test_accuracy": (0.93, 0.94), "first_loss": 0.2, "last_loss": 0.135},
        "lr_0.05": {"test_accuracy": (0.09, 0.10), "first_loss": 2.31, "last_loss": 2.31},
    },
}


@pytest.mark.parametrize("study", REPORTED)
def test_every_number_of_a_report_stands_in_its_row_and_no_other(study: str) -> None:
    found = {row: dict(load_row(study, row, "published").reported) for row in load_study(study).rows}
    assert {row: numbers for row, numbers in found.items() if numbers} == REPORTED[study]


# what else a report, its notebook, its script or its course's code fixes, beside the network's sizes: the values of keys
SETTINGS = {
    "eq2425/default": {"data.mean": 0.5, "data.std": 1.0, "data.batch_size": 64, "data.shuffle": False,
                       "optimizer.lr": 0.001, "optimizer.momentum": 0.9, "trainer.max_epochs": 300},
    "eq2425/4c_leaky_relu": {"model.activation": "leaky_relu"},
    "eq2425/4d_dropout": {"model.dropout": 0.3},
    "eq2425/5a_batch_256": {"data.batch_size": 256},
    "eq2425/5b_lr_0.1": {"optimizer.lr": 0.1},
    "eq2425/5c_shuffle": {"data.shuffle": True},
    "eq2425/4e_batch_norm": {"model.norm_place": "before_activation"},
    "eq2425/best": {"model.norm_place": "before_activation", "model.activation": "leaky_relu", "model.dropout": 0.3,
                    "data.shuffle": True},
    "cifar100_hw3/cnn": {"optimizer.lr": 1e-4, "data.batch_size": 256, "trainer.max_epochs": 20},
    "cifar100_hw3/dropout": {"model.dropout": 0.5, "model.norm": "none"},
    "cifar100_hw3/batch_norm": {"model.norm": "batch", "model.norm_place": "before_activation", "model.dropout": 0.0},
    "cifar100_hw3/batch_norm_dropout": {"model.norm": "batch", "model.dropout": 0.5},
    "cifar100_hw3/hflip": {"augment.flip": 0.5, "augment.crop_padding": 0},
    "cifar100_hw3/crop": {"augment.flip": 0.0, "augment.crop_padding": 4},
    "cifar100_hw3/mlp": {"model.activation": "sigmoid", "optimizer._target_": "torch.optim.Adam"},
    "cifar100_hw3/scratch": {"optimizer._target_": "torch.optim.SGD", "model.norm": "batch", "augment.flip": 0.5, "augment.crop_padding": 0},
    "cifar100_hw3/resnet18": {"augment.flip": 0.0, "augment.crop_padding": 0, "fine_tune.frozen_epochs": 0,
                              "fine_tune.backbone_lr_factor": 1.0, "optimizer.lr": 1e-4, "data.batch_size": 128,
                              "data.image_size": 224, "trainer.max_epochs": 10, "model.weights": "imagenet"},
    "cifar100_hw3/resnet18_flip": {"augment.flip": 0.5, "augment.crop_padding": 0},
    "cifar100_hw3/resnet18_crop": {"augment.flip": 0.0, "augment.crop_padding": 4 * 224 // 32},  # as much of the image
    "int305_cifar10/baseline": {"data.mean": 0.5, "data.std": 0.5, "data.batch_size": 10, "optimizer.lr": 1e-4,
                                "optimizer.momentum": 0.9, "trainer.max_epochs": 300, "data.shuffle": True},
    "int305_cifar10/alexnet_sgd": {"model.dropout": 0.0, "optimizer._target_": "torch.optim.SGD", "optimizer.lr": 1e-4},
    "int305_cifar10/alexnet_adam_dropout": {"model.dropout": 0.5, "optimizer._target_": "torch.optim.Adam",
                                            "optimizer.lr": 1e-4},
    "int305_mnist/baseline": {"optimizer.lr": 1.0, "scheduler.gamma": 0.7, "scheduler.step_size": 1, "model.dropout": 0.5,
                              "data.shuffle": False, "data.batch_size": 64, "trainer.max_epochs": 14},
    "int305_mnist/epochs_50": {"trainer.max_epochs": 50, "scheduler.gamma": 0.7},
    "int305_mnist/lr_0.1": {"optimizer.lr": 0.1, "scheduler.gamma": 0.7},
    "int305_mnist/lr_0.1_exp": {"optimizer.lr": 0.1, "scheduler.gamma": 0.7,
                                "scheduler._target_": "torch.optim.lr_scheduler.ExponentialLR"},
    "int305_mnist/sgd": {"optimizer.lr": 1.0, "optimizer.momentum": 0.0, "scheduler.T_max": 20},
    "int305_mnist/lr_0.1_cosine": {"optimizer.lr": 0.1, "scheduler.T_max": 20, "scheduler.eta_min": 0.05},
    "int305_mnist/momentum": {"optimizer.lr": 1.0, "optimizer.momentum": 0.8, "trainer.max_epochs": 50},
    "int305_mnist/rmsprop": {"optimizer.lr": 1.0, "optimizer.alpha": 0.9},
    "int305_mnist/adam": {"optimizer.lr": 1.0, "optimizer.betas": [0.9, 0.99]},
    "int305_mnist/adam_batch_640": {"data.batch_size": 640, "optimizer.betas": [0.9, 0.99], "trainer.max_epochs": 14},
    "int305_mnist/fine_tune": {"optimizer.lr": 0.1, "model.weights": "imagenet", "fine_tune.frozen_epochs": 0, "fine_tune.backbone_lr_factor": 1.0},
    "dl2020_mnist/lr_0.0001": {"optimizer.lr": 1e-4, "optimizer._target_": "torch.optim.Adam"},
    "dl2020_mnist/lr_0.05": {"optimizer.lr": 0.05},
    "dl2020_mnist/lr_0.01": {"optimizer.lr": 0.01,"data.batch_size": 16, "trainer.max_epochs": 30, "data.mean": 0.5, "data.std": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_row_is_trained_as_its_report_says(name: str) -> None:
    config = load_row(*name.split("/"), "published").config
    for key, value in SETTINGS[name].items():
        group, _, leaf = key.partition(".")
        assert config[group][leaf] == value, key


def test_a_batch_and_its_partner_differ_in_nothing_else() -> None:
    large, small = (load_row("int305_mnist", row, "published").config for row in ("batch_640", "epochs_50_cosine"))
    assert (large["data"].pop("batch_size"), small["data"].pop("batch_size")) == (640, 64)
    large["study"], small["study"] = {}, {}
    assert large == small


@pytest.mark.parametrize("study", REPORTED)
def test_the_notes_name_every_key_that_the_corrected_form_changes(study: str) -> None:
    loaded, told = load_study(study), " ".join(load_study(study).notes["the corrected form"].split())
    for row in loaded.rows:
        published, corrected = (flatten(load_row(study, row, form).config) for form in ("published", "corrected"))
        changed = {key for key in published | corrected if published.get(key) != corrected.get(key)} - {"study.form"}
        assert {"data.validation", "test_with"} <= changed
        for key in changed - {"scheduler.T_max"}:
            assert f"`{key}={show(corrected[key])}`" in told, (row, key)
        assert "scheduler.T_max" not in changed or "`scheduler.T_max` is the run's epochs" in told


@pytest.mark.parametrize("study", studies())
def test_rows_that_a_claim_compares_are_drawn_together(study: str) -> None:
    loaded = load_study(study)
    for claim in loaded.claims:
        match, _, rows = read(claim, loaded)
        cost = "on" in match.groupdict() and metric_of(loaded.expression(match["on"])) in (*COSTS, *SIZES)
        assert cost or any(set(rows) <= {*drawn} for drawn in loaded.curves.values()), claim.holds


PAGES = {page.name: page for page in sorted((ROOT / "docs" / "reproductions").glob("*.md")) if page.stem != "README"}


@pytest.mark.parametrize("page", PAGES)
def test_a_committed_page_says_what_its_study_says(page: str) -> None:
    """A page is made from runs that take hours: a claim or a note that changes after it is to be changed there too."""
    text = PAGES[page].read_text(encoding="utf-8")
    loaded = load_study(re.findall(r"^Study `(\w+)`", text, re.MULTILINE)[0])
    shown = re.findall(r"^\| (.+) \| \*\*[a-z ]+\*\* \| `([^`]+)`: ", text, re.MULTILINE)
    assert shown and set(shown) <= {(claim.says.replace("|", "\\|"), claim.holds) for claim in loaded.claims}
    assert text.startswith(f"# {loaded.title}\n") and loaded.report in text
    assert [note for note in loaded.notes.values() if " ".join(note.split()) not in text] == []
