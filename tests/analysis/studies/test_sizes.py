"""Weights and FLOPs of every row of every study, by arithmetic written out."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from cnnbench.analysis.studies.study import load_row, load_study
from cnnbench.models.profile import flops_per_image

SHAPES = {"MNIST": (1, 28, 10), "CIFAR10": (3, 32, 10), "CIFAR100": (3, 32, 100)}  # channels, side, classes


def conv(inputs: int, outputs: int, kernel: int, side: int, groups: int = 1, bias: bool = True) -> tuple[int, int]:
    """Weights with biases, and FLOPs where the output has this side."""
    weights = outputs * (inputs // groups) * kernel**2
    return weights + bias * outputs, 2 * weights * side**2


def linear(inputs: int, outputs: int) -> tuple[int, int]:
    return (inputs + 1) * outputs, 2 * inputs * outputs


def norm(channels: int) -> tuple[int, int]:
    return 2 * channels, 0


def sums(*layers: tuple[int, int]) -> tuple[int, int]:
    return sum(weights for weights, _ in layers), sum(flops for _, flops in layers)


def normed(inputs: int, outputs: int, kernel: int, side: int, groups: int = 1) -> tuple[int, int]:
    """A convolution without biases, and batch norm."""
    return sums(conv(inputs, outputs, kernel, side, groups, bias=False), norm(outputs))


def eq2425(a: int, b: int, c: int) -> tuple[int, int]:
    """Three convolutions of 5, 3 and 3 on 32x32, pooled to 14, 6 and 2."""
    return sums(conv(3, a, 5, 28), conv(a, b, 3, 12), conv(b, c, 3, 4), linear(c * 4, 512))


def hw3(a: int, b: int, hidden: int = 4096) -> tuple[int, int]:
    """Four convolutions on 32x32: 14, 12, 10 and 8, pooled to 4."""
    rest = conv(a, a, 3, 12), conv(a, a, 3, 10), conv(a, b, 3, 8)
    return sums(conv(3, a, 5, 14), *rest, linear(b * 16, hidden), linear(hidden, 100))


def scratch() -> tuple[int, int]:
    """Six padded convolutions with batch norm on 32x32, every second pooled."""
    pairs = (3, 64, 32), (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8)
    blocks = [sums(conv(a, b, 3, side), norm(b)) for a, b, side in pairs]
    return sums(*blocks, linear(256 * 16, 512), linear(512, 100))


def resnet18(channels: int, side: int, classes: int) -> tuple[int, int]:
    """He et al. 2016, table 1: 7x7 of stride 2, a pooling, four stages of two blocks of two 3x3."""
    layers, inputs, here = [normed(channels, 64, 7, side // 2)], 64, side // 4
    for outputs in (64, 128, 256, 512):
        here = here if outputs == 64 else here // 2
        layers += [normed(inputs, outputs, 3, here), *[normed(outputs, outputs, 3, here)] * 3]
        layers += [normed(inputs, outputs, 1, here)] if outputs != inputs else []
        inputs = outputs
    return sums(*layers, linear(512, classes))


def mnist(a: int, b: int, *more: tuple[int, int]) -> tuple[int, int]:
    """Two convolutions on 28x28: 26 and 24, pooled to 12."""
    return sums(conv(1, a, 3, 26), conv(a, b, 3, 24), *more, linear(b * 144, 64), linear(64, 10))


def mobilenet() -> tuple[int, int]:
    """Sandler et al. 2018, table 2, of half the width in multiples of 8, on 28x28 without the first two strides."""
    layers, inputs, side = [normed(1, 16, 3, 28)], 16, 28
    stages = (1, 8, 1, 28), (6, 16, 2, 28), (6, 16, 3, 14), (6, 32, 4, 7), (6, 48, 3, 7), (6, 80, 3, 4), (6, 160, 1, 4)
    for expansion, outputs, blocks, after in stages:
        for _ in range(blocks):
            middle = expansion * inputs
            layers += [normed(inputs, middle, 1, side)] if expansion > 1 else []
            layers += [normed(middle, middle, 3, after, groups=middle), normed(middle, outputs, 1, after)]
            inputs, side = outputs, after
    return sums(*layers, normed(inputs, 1280, 1, side), linear(1280, 10))


def shufflenet() -> tuple[int, int]:
    """Zhang et al. 2018, table 1, 3 groups, of half the width, on 28x28 without the first stride and the pooling."""
    layers, inputs, side = [normed(1, 24, 3, 28)], 24, 28
    for outputs, units, after in ((120, 4, 14), (240, 8, 7), (480, 4, 4)):
        for unit in range(units):
            middle, own = outputs // 4, outputs - inputs if unit == 0 else outputs  # beside the pooled input
            layers += [normed(inputs, middle, 1, side, groups=1 if inputs == 24 else 3)]
            layers += [normed(middle, middle, 3, after, groups=middle), normed(middle, own, 1, after, groups=3)]
            inputs, side = outputs, after
    return sums(*layers, linear(480, 10))


def xnor() -> tuple[int, int]:
    """Three convolutions without biases on 28x28, each but the last pooled, batch norm after each."""
    return sums(normed(1, 32, 3, 28), normed(32, 64, 3, 14), normed(64, 128, 3, 7), linear(128, 10))


Size = tuple[int | None, tuple[int, int]]


def rows(study: str, names: str, size: Size) -> dict[str, Size]:
    """Rows whose networks are of one size."""
    return {f"{study}/{name}": size for name in names.split()}


HEAD = linear(512, 10)
DEFAULT, WIDE, SMALL = sums(eq2425(24, 48, 96), HEAD), hw3(128, 256), mnist(8, 16)
NORMED = sums(WIDE, *[norm(128)] * 3, norm(256))
ALEXNET = sums(
    *(conv(3, 96, 5, 16), conv(96, 256, 5, 8), conv(256, 384, 3, 4), conv(384, 384, 3, 4)),
    *(conv(384, 384, 3, 4), linear(384 * 4, 4096), linear(4096, 4096), linear(4096, 10)),
)
# in place of the second convolution: a 3x3 on each of 8 channels without biases, and a 1x1 across them
SEPARABLE = conv(8, 8, 3, 24, groups=8, bias=False), conv(8, 16, 1, 24)
# all rows, with the weights that an audit of the reports counted, where it did
SIZES: dict[str, Size] = {
    **rows("eq2425", "default 4c_leaky_relu 4d_dropout 5a_batch_256 5b_lr_0.1 5c_shuffle", (256_058, DEFAULT)),
    "eq2425/4a1_filters": (903_818, sums(eq2425(64, 128, 256), HEAD)),
    "eq2425/4a2_extra_fc": (317_882, sums(eq2425(24, 48, 96), linear(512, 128), linear(128, 10))),
    "eq2425/4b_kernels": (
        128_762,
        sums(conv(3, 24, 7, 26), conv(24, 48, 5, 9), conv(48, 96, 3, 2), linear(96, 512), HEAD),
    ),
    "eq2425/4e_batch_norm": (256_394, sums(DEFAULT, norm(24), norm(48), norm(96))),
    "eq2425/best": (904_714, sums(eq2425(64, 128, 256), norm(64), norm(128), norm(256), HEAD)),
    **rows(
        "dl2020_mnist",
        "lr_0.0001 lr_0.01 lr_0.05",
        (2_710, sums(conv(1, 16, 3, 28), conv(16, 4, 3, 14), linear(196, 10))),
    ),
    "int305_cifar10/baseline": (
        62_006,
        sums(conv(3, 6, 5, 28), conv(6, 16, 5, 10), linear(400, 120), linear(120, 84), linear(84, 10)),
    ),
    **rows("int305_cifar10", "alexnet_sgd alexnet_adam_dropout", (27_279_882, ALEXNET)),
    "cifar100_hw3/mlp": (29_778_020, sums(linear(3072, 4096), linear(4096, 4096), linear(4096, 100))),
    "cifar100_hw3/cnn": (4_647_524, hw3(32, 64)),
    **rows("cifar100_hw3", "filters_128 dropout hflip crop", (17_791_076, WIDE)),
    "cifar100_hw3/filters_256": (36_348_004, hw3(256, 512)),
    "cifar100_hw3/filters_512": (77_000_804, hw3(512, 1024)),
    **rows("cifar100_hw3", "batch_norm batch_norm_dropout", (17_792_356, NORMED)),
    "cifar100_hw3/batch_norm_fc8192": (34_983_268, sums(hw3(128, 256, 8192), *[norm(128)] * 3, norm(256))),
    **rows("cifar100_hw3", "resnet18 resnet18_flip resnet18_crop", (None, resnet18(3, 224, 100))),
    "cifar100_hw3/scratch": (None, scratch()),
    **rows("int305_mnist", "baseline epochs_50 lr_0.1 lr_0.1_exp lr_0.1_cosine epochs_50_cosine", (149_418, SMALL)),
    **rows("int305_mnist", "batch_640 sgd momentum rmsprop adam adam_lr_0.001 adam_batch_640", (149_418, SMALL)),
    **rows("int305_mnist", "adamw_onecycle switch", (149_418, SMALL)),
    "int305_mnist/wider": (None, mnist(16, 32)),
    "int305_mnist/wider_4": (None, mnist(32, 64)),
    "int305_mnist/deeper": (None, mnist(8, 16, conv(16, 16, 3, 24))),
    "int305_mnist/separable": (None, sums(conv(1, 8, 3, 26), *SEPARABLE, linear(2304, 64), linear(64, 10))),
    "int305_mnist/mobilenet": (None, mobilenet()),
    "int305_mnist/shufflenet": (None, shufflenet()),
    "int305_mnist/xnor": (None, xnor()),
    "int305_mnist/fine_tune": (None, resnet18(1, 64, 10)),
}


def test_all_rows_of_the_five_reports_are_counted() -> None:
    reports = {name.partition("/")[0] for name in SIZES}
    assert len(reports) == 5
    assert {*SIZES} == {f"{study}/{row}" for study in reports for row in load_study(study).rows}


@pytest.mark.parametrize("name", SIZES)
def test_a_row_has_the_weights_and_flops_of_its_report(name: str) -> None:
    audited, (weights, flops) = SIZES[name]
    config = load_row(*name.split("/"), "published").config
    channels, own_side, classes = SHAPES[config["data"]["source"]["dataset"]]
    side = config["data"]["image_size"] or own_side
    if config["model"].get("weights"):  # would be downloaded; they are of this stem
        config["model"] |= {"weights": None, "stem": "imagenet"}
    with torch.device("meta"):  # shapes alone
        network = instantiate(config["model"], in_channels=channels, num_classes=classes, image_size=side)
        assert flops_per_image(network, channels, side) == flops
    assert sum(p.numel() for p in network.parameters()) == weights == (audited or weights)


def test_what_the_report_calls_larger_is_larger() -> None:
    sizes = {name.partition("/")[2]: size for name, (_, size) in SIZES.items() if name.startswith("int305_mnist")}
    for larger in ("wider", "deeper"):
        assert all(more > less for more, less in zip(sizes[larger], sizes["baseline"], strict=True))
    assert all(less < more for less, more in zip(sizes["separable"], sizes["baseline"], strict=True))
    assert round(sizes["wider"][1] / sizes["baseline"][1], 1) == 3.5  # as the study's note says
