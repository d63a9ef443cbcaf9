"""The rows are the reports': their weights and FLOPs by arithmetic, and every number that a report gives, as data."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from cnnbench.analysis.studies.study import load_row, load_study, studies
from cnnbench.models.profile import flops_per_image

SHAPES = {"MNIST": (1, 28, 10), "CIFAR10": (3, 32, 10), "CIFAR100": (3, 32, 100)}  # channels, side, classes


def conv(inputs: int, outputs: int, kernel: int, side: int) -> tuple[int, int]:
    """Weights with biases, and FLOPs where the output has this side."""
    weights = outputs * inputs * kernel**2
    return weights + outputs, 2 * weights * side**2


def linear(inputs: int, outputs: int) -> tuple[int, int]:
    return (inputs + 1) * outputs, 2 * inputs * outputs


def norm(channels: int) -> tuple[int, int]:
    return 2 * channels, 0


def sums(*layers: tuple[int, int]) -> tuple[int, int]:
    return sum(weights for weights, _ in layers), sum(flops for _, flops in layers)


def eq2425(a: int, b: int, c: int) -> tuple[int, int]:
    """Three convolutions of 5, 3 and 3 on 32x32, pooled to 14, 6 and 2."""
    return sums(conv(3, a, 5, 28), conv(a, b, 3, 12), conv(b, c, 3, 4), linear(c * 4, 512))


def hw3(a: int, b: int, hidden: int = 4096) -> tuple[int, int]:
    """Four convolutions on 32x32: 14, 12, 10 and 8, pooled to 4."""
    rest = conv(a, a, 3, 12), conv(a, a, 3, 10), conv(a, b, 3, 8)
    return sums(conv(3, a, 5, 14), *rest, linear(b * 16, hidden), linear(hidden, 100))


def mnist(a: int, b: int, *more: tuple[int, int]) -> tuple[int, int]:
    """Two convolutions on 28x28: 26 and 24, pooled to 12."""
    return sums(conv(1, a, 3, 26), conv(a, b, 3, 24), *more, linear(b * 144, 64), linear(64, 10))


HEAD = linear(512, 10)
DEFAULT, SMALL = sums(eq2425(24, 48, 96), HEAD), mnist(8, 16)
# all rows whose arithmetic can be written out, each with the weights that an audit of the reports counted, where it did
SIZES = {
    "eq2425/default": (256_058, DEFAULT),
    "eq2425/4a1_filters": (903_818, sums(eq2425(64, 128, 256), HEAD)),
    "eq2425/4a2_extra_fc": (317_882, sums(eq2425(24, 48, 96), linear(512, 128), linear(128, 10))),
    "eq2425/4b_kernels": (
        128_762,
        sums(conv(3, 24, 7, 26), conv(24, 48, 5, 9), conv(48, 96, 3, 2), linear(96, 512), HEAD),
    ),
    "eq2425/4c_leaky_relu": (256_058, DEFAULT),
    "eq2425/4d_dropout": (256_058, DEFAULT),
    "eq2425/4e_batch_norm": (256_394, sums(DEFAULT, norm(24), norm(48), norm(96))),
    "eq2425/5a_batch_256": (256_058, DEFAULT),
    "eq2425/5b_lr_0.1": (256_058, DEFAULT),
    "eq2425/5c_shuffle": (256_058, DEFAULT),
    "eq2425/best": (904_714, sums(eq2425(64, 128, 256), norm(64), norm(128), norm(256), HEAD)),
    "dl2020_mnist/lr_0.0001": (2_710, sums(conv(1, 16, 3, 28), conv(16, 4, 3, 14), linear(196, 10))),
    "int305_cifar10/baseline": (
        62_006,
        sums(conv(3, 6, 5, 28), conv(6, 16, 5, 10), linear(400, 120), linear(120, 84), linear(84, 10)),
    ),
    "int305_cifar10/alexnet_sgd": (
        27_279_882,
        sums(
            *(conv(3, 96, 5, 16), conv(96, 256, 5, 8), conv(256, 384, 3, 4), conv(384, 384, 3, 4)),
            *(conv(384, 384, 3, 4), linear(384 * 4, 4096), linear(4096, 4096), linear(4096, 10)),
        ),
    ),
    "cifar100_hw3/mlp": (29_778_020, sums(linear(3072, 4096), linear(4096, 4096), linear(4096, 100))),
    "cifar100_hw3/cnn": (4_647_524, hw3(32, 64)),
    "cifar100_hw3/filters_128": (17_791_076, hw3(128, 256)),
    "cifar100_hw3/filters_256": (36_348_004, hw3(256, 512)),
    "cifar100_hw3/filters_512": (77_000_804, hw3(512, 1024)),
    "cifar100_hw3/batch_norm": (17_792_356, sums(hw3(128, 256), *[norm(128)] * 3, norm(256))),
    "cifar100_hw3/batch_norm_fc8192": (34_983_268, sums(hw3(128, 256, 8192), *[norm(128)] * 3, norm(256))),
    "int305_mnist/baseline": (149_418, SMALL),
    "int305_mnist/batch_640": (149_418, SMALL),
    "int305_mnist/wider": (None, mnist(16, 32)),
    "int305_mnist/wider_4": (None, mnist(32, 64)),
    "int305_mnist/deeper": (None, mnist(8, 16, conv(16, 16, 3, 24))),
    # in place of the second convolution: a 3x3 on each of 8 channels without biases, and a 1x1 across them
    "int305_mnist/separable": (
        None,
        sums(conv(1, 8, 3, 26), (8 * 9, 2 * 8 * 9 * 24**2), conv(8, 16, 1, 24), linear(2304, 64), linear(64, 10)),
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_row_has_the_weights_and_flops_of_its_report(name: str) -> None:
    audited, (weights, flops) = SIZES[name]
    config = load_row(*name.split("/"), "published").config
    channels, side, classes = SHAPES[config["data"]["source"]["dataset"]]
    with torch.device("meta"):
        network = instantiate(config["model"], in_channels=channels, num_classes=classes, image_size=side)
    assert sum(p.numel() for p in network.parameters()) == weights == (audited or weights)
    if flops < 1e9:  # the largest would take a while
        network = instantiate(config["model"], in_channels=channels, num_classes=classes, image_size=side)
        assert flops_per_image(network, channels, side) == flops


def test_what_the_report_calls_larger_is_larger() -> None:
    sizes = {name.partition("/")[2]: size for name, (_, size) in SIZES.items() if name.startswith("int305_mnist")}
    for larger in ("wider", "deeper"):
        assert all(more > less for more, less in zip(sizes[larger], sizes["baseline"], strict=True))
    assert all(less < more for less, more in zip(sizes["separable"], sizes["baseline"], strict=True))


CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def by_class(overall: float, *counts: int) -> dict[str, float]:
    """Right answers of 1,000 images a class."""
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
        "filters_512": {"accuracy": 0.36, "loss": 0.045},
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


@pytest.mark.parametrize("study", studies())
def test_every_number_of_a_report_stands_in_its_row_and_no_other(study: str) -> None:
    found = {row: dict(load_row(study, row, "published").reported) for row in load_study(study).rows}
    assert {row: numbers for row, numbers in found.items() if numbers} == REPORTED[study]


# what else a report, its notebook, its script or its course's code fixes: one row of each kind, and the values of its keys
SETTINGS = {
    "eq2425/default": {"data.mean": 0.5, "data.std": 1.0, "data.batch_size": 64, "data.shuffle": False,
                       "optimizer.lr": 0.001, "optimizer.momentum": 0.9, "trainer.max_epochs": 300},
    "eq2425/4e_batch_norm": {"model.norm_place": "before_activation"},
    "eq2425/best": {"model.norm_place": "before_activation", "model.activation": "leaky_relu", "model.dropout": 0.3,
                    "data.shuffle": True},
    "cifar100_hw3/cnn": {"optimizer.lr": 1e-4, "data.batch_size": 256, "trainer.max_epochs": 20},
    "cifar100_hw3/dropout": {"model.dropout": 0.5, "model.norm": "none"},
    "cifar100_hw3/scratch": {"augment.flip": 0.5, "augment.crop_padding": 0},
    "cifar100_hw3/resnet18": {"augment.flip": 0.0, "augment.crop_padding": 0, "fine_tune.frozen_epochs": 0,
                              "fine_tune.backbone_lr_factor": 1.0, "optimizer.lr": 1e-4, "data.batch_size": 128},
    "cifar100_hw3/resnet18_flip": {"augment.flip": 0.5, "augment.crop_padding": 0},
    "cifar100_hw3/resnet18_crop": {"augment.flip": 0.0, "augment.crop_padding": 4},
    "int305_cifar10/baseline": {"data.mean": 0.5, "data.std": 0.5, "data.batch_size": 10, "optimizer.lr": 1e-4,
                                "optimizer.momentum": 0.9, "trainer.max_epochs": 300},
    "int305_mnist/baseline": {"optimizer.lr": 1.0, "scheduler.gamma": 0.7, "scheduler.step_size": 1, "model.dropout": 0.5,
                              "data.shuffle": False, "data.batch_size": 64, "trainer.max_epochs": 14},
    "int305_mnist/lr_0.1_cosine": {"optimizer.lr": 0.1, "scheduler.T_max": 20, "scheduler.eta_min": 0.05},
    "int305_mnist/momentum": {"optimizer.lr": 1.0, "optimizer.momentum": 0.8, "trainer.max_epochs": 50},
    "int305_mnist/rmsprop": {"optimizer.lr": 1.0, "optimizer.alpha": 0.9},
    "int305_mnist/adam": {"optimizer.lr": 1.0, "optimizer.betas": [0.9, 0.99]},
    "int305_mnist/adam_batch_640": {"data.batch_size": 640, "optimizer.betas": [0.9, 0.99], "trainer.max_epochs": 14},
    "int305_mnist/fine_tune": {"optimizer.lr": 0.1, "fine_tune.frozen_epochs": 0, "fine_tune.backbone_lr_factor": 1.0},
    "dl2020_mnist/lr_0.01": {"data.batch_size": 16, "trainer.max_epochs": 30, "data.mean": 0.5, "data.std": 0.5},
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
