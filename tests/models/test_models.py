"""Every model that has a YAML builds, learns and is laid out as its source says."""

from __future__ import annotations

import re

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from cnnbench import models
from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import groups
from cnnbench.config.schema import check_values
from cnnbench.models.fine_tune import classifier_of
from cnnbench.models.layers import ACTIVATIONS
from cnnbench.models.profile import flops_per_image
from cnnbench.training.build import building
from cnnbench.utils.errors import RequestError

MODELS = groups()["model"]


def build(name: str, channels: int, size: int, classes: int = 10, *overrides: str) -> nn.Module:
    config = resolved(compose([f"model={name}", *overrides]))
    check_values(config)
    node = config["model"]
    with building("model"):
        return instantiate(node, in_channels=channels, num_classes=classes, image_size=size)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return outputs * (inputs * kernel * kernel + 1)


def linear(inputs: int, outputs: int) -> int:
    return outputs * (inputs + 1)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_logits_and_every_parameter_a_gradient(name: str, channels: int, size: int) -> None:
    torch.manual_seed(0)
    network = build(name, channels, size, 7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)  # timm's residual branches begin at zero, and give no gradient then
    images = torch.randn(4, channels, size, size)
    logits = network(images)
    assert logits.shape == (4, 7) and logits.dtype == torch.float32
    logits.square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
    network.eval()
    last = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, network.to(memory_format=torch.contiguous_format)(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "channels", "size", "expected"),
    [
        ("tiny_cnn", 1, 28, conv(1, 16, 3) + conv(16, 4, 3) + linear(4 * 7 * 7, 10)),
        ("mnist_cnn", 1, 28, conv(1, 32, 3) + conv(32, 64, 3) + linear(64 * 12 * 12, 128) + linear(128, 10)),
        ("three_layer_cnn", 3, 32, conv(3, 24, 5) + conv(24, 48, 3) + conv(48, 96, 3) + linear(96 * 2 * 2, 512)
         + linear(512, 10)),
        ("four_layer_cnn", 3, 32, conv(3, 32, 5) + conv(32, 32, 3) * 2 + conv(32, 64, 3) + linear(64 * 4 * 4, 4096)
         + linear(4096, 10)),
        ("lenet", 3, 32, conv(3, 6, 5) + conv(6, 16, 5) + linear(16 * 5 * 5, 120) + linear(120, 84) + linear(84, 10)),
        ("alexnet", 3, 32, conv(3, 96, 5) + conv(96, 256, 5) + conv(256, 384, 3) + 2 * conv(384, 384, 3)
         + linear(384 * 2 * 2, 4096) + linear(4096, 4096) + linear(4096, 10)),
        ("mlp", 3, 32, linear(3 * 32 * 32, 4096) + linear(4096, 4096) + linear(4096, 10)),
    ],
)  # fmt: skip
def test_parameter_counts_are_those_of_the_reports(name: str, channels: int, size: int, expected: int) -> None:
    assert parameters(build(name, channels, size)) == expected
    published = {"tiny_cnn": 2_710, "mnist_cnn": 1_199_882, "three_layer_cnn": 256_058, "lenet": 62_006}
    assert expected == published.get(name, expected)


@pytest.mark.parametrize(
    ("overrides", "size", "layer"),
    [(["model=lenet"], 10, "convolution 2"), (["model=three_layer_cnn"], 12, "convolution 3"),
     (["model=tiny_cnn", "model.pools=[2,2,2]", "model.filters=[2,2,2]"], 4, "pooling 3")],
)  # fmt: skip
def test_too_small_an_image_says_which_layer_and_which_sizes(overrides: list[str], size: int, layer: str) -> None:
    with pytest.raises(RequestError, match=rf"{size}x{size}.*{layer}.*\dx\d") as error:
        build(overrides[0].partition("=")[2], 1, size, 10, *overrides[1:])
    assert "data.image_size" in str(error.value)


@pytest.mark.parametrize("name", models.__all__)
def test_every_architecture_has_a_yaml(name: str) -> None:
    targets = {resolved(compose([f"model={choice}"]))["model"]["_target_"] for choice in MODELS}
    assert issubclass(getattr(models, name), nn.Module) and f"cnnbench.models.{name}" in targets


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, k in ACTIVATIONS.items() if n != "none"])
def test_every_activation_goes_after_each_block_and_hidden_layer(name: str, kind: type[nn.Module]) -> None:
    network = build("lenet", 1, 28, 10, f"model.activation={name}")
    assert sum(type(module) is kind for module in network.modules()) == 4


@pytest.mark.parametrize(("name", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("instance", nn.InstanceNorm2d)])  # fmt: skip
def test_every_norm_follows_each_convolution_and_learns(name: str, kind: type[nn.Module]) -> None:
    network = build("lenet", 1, 28, 10, f"model.norm={name}")
    norms = [module for module in network.modules() if type(module) is kind]
    assert [norm.weight.numel() for norm in norms] == [6, 16]
    assert parameters(network) == parameters(build("lenet", 1, 28)) + 2 * (6 + 16)


@pytest.mark.parametrize(
    ("name", "overrides", "published"),
    [("resnet18", [], 11_689_512), ("mobilenet", ["model.width=1.0"], 3_504_872), ("shufflenet", [], 1_366_792),
     ("shufflenet", ["model.width=1.0"], 2_278_604), ("shufflenet_v1", ["model.width=1.0"], 1_865_728)],
)  # fmt: skip
def test_torchvisions_networks_have_the_published_sizes(name: str, overrides: list[str], published: int) -> None:
    with torch.device("meta"):
        assert parameters(build(name, 3, 224, 1000, *overrides)) == published


@pytest.mark.parametrize(("groups", "published"), [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_shufflenet_v1_takes_the_papers_multiplications(groups: int, published: int) -> None:
    network = build("shufflenet_v1", 3, 224, 1000, "model.width=1.0", f"model.groups={groups}")
    assert flops_per_image(network, 3, 224) / 2e6 == pytest.approx(published, abs=1.4)  # table 1, in millions


def test_grouped_and_separable_convolutions_have_fewer_weights() -> None:
    def convolutions(*overrides: str) -> int:
        asked = ("model.filters=[8,16,32]", "model.kernels=[3,5,3]", "model.hidden=[]", *overrides)
        return parameters(build("lenet", 3, 32, 10, *asked)) - linear(32 * 1 * 1, 10)

    full = conv(3, 8, 3) + conv(8, 16, 5) + conv(16, 32, 3)
    assert convolutions() == full
    # each filter sees a quarter of 8 channels, then half of 16; a bias a filter stays
    grouped = conv(3, 8, 3) + 16 * (2 * 25 + 1) + 32 * (8 * 9 + 1)
    assert convolutions("model.groups=[1,4,2]") == grouped
    separable = (3 * 9 + conv(3, 8, 1)) + (8 * 25 + conv(8, 16, 1)) + (16 * 9 + conv(16, 32, 1))
    assert convolutions("model.groups=separable") == separable
    mixed = conv(3, 8, 3) + 16 * (4 * 25 + 1) + (16 * 9 + conv(16, 32, 1))
    assert convolutions("model.groups=[1,2,separable]") == mixed


def test_a_grouped_convolution_keeps_its_groups_apart_and_a_separable_one_its_channels() -> None:
    network = build("lenet", 4, 28, 10, "model.groups=[2,separable]", "model.filters=[6,6]", "model.strides=[1,2]")
    images = torch.randn(1, 4, 28, 28)
    changed = images.clone()
    changed[:, 2:] += 1
    first = network.features[0][0]
    same = (first(images) == first(changed)).flatten(2).all(2)[0]
    assert same.tolist() == [True] * 3 + [False] * 3
    depthwise, pointwise = network.features[1][0]
    assert depthwise.groups == 6 and depthwise.stride == (2, 2) and pointwise.kernel_size == (1, 1)


def test_every_model_but_for_its_classifier_can_be_frozen() -> None:
    for name in MODELS:
        with torch.device("meta"):
            network = build(name, 3, 32, 13)
        assert isinstance(classifier_of(network), nn.Linear) and classifier_of(network).out_features == 13, name


def layers(network: nn.Module) -> list[str]:
    return [type(module).__name__ for module in network.modules() if not list(module.children())]


def test_the_eq2425_changes_are_overrides() -> None:
    assert layers(build("three_layer_cnn", 3, 32)) == [
        "Conv2d", "MaxPool2d", "ReLU", "Conv2d", "MaxPool2d", "ReLU", "Conv2d", "MaxPool2d", "Identity", "Linear", "ReLU",
        "Linear",
    ]  # fmt: skip
    leaky = layers(build("three_layer_cnn", 3, 32, 10, "model.activation=leaky_relu"))
    assert leaky.count("LeakyReLU") == 3 and "ReLU" not in leaky
    normed = layers(build("three_layer_cnn", 3, 32, 10, "model.norm=batch"))
    assert normed[:4] == ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
    after = layers(build("three_layer_cnn", 3, 32, 10, "model.norm=batch", "model.norm_place=after_activation"))
    assert after[:4] == ["Conv2d", "ReLU", "BatchNorm2d", "MaxPool2d"]
    dropped = layers(build("three_layer_cnn", 3, 32, 10, "model.dropout=0.3", "model.hidden=[512,128]"))
    assert dropped[-6:] == ["ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


@pytest.mark.parametrize(
    "override",
    ["model.activation=rleu", "model.norm=bach", "model.dropout=1", "model.filters=[0]", "model.kernels=[3,3,3]",
     "model.kernels=2.5", "model.norm_place=after", "model.strides=0", "model.hidden=[0]", "model.groups=depthwise",
     "model.groups=0", "model.groups=[1,4]"],
)  # fmt: skip
def test_values_that_cannot_be_are_refused_by_name(override: str) -> None:
    with pytest.raises(RequestError, match=override.partition("=")[0].partition(".")[2]):
        build("lenet", 1, 28, 10, override)


@pytest.mark.parametrize(
    ("name", "override", "expected"),
    [("resnet18", "stem=smal", "did you mean 'small'?"), ("shufflenet", "width=0.7", "one of 0.5, 1.0"),
     ("shufflenet_v1", "width=0.1", "use 0.5 or 1.0"), ("shufflenet_v1", "groups=5", "one of 1, 2, 3, 4, 8"),
     ("shufflenet_v1", "width=abc", "model.width must be"), ("shufflenet_v1", "width=null", "model.width must be"),
     ("mobilenet", "width=0", "model.width must be"), ("mobilenet", "dropout=1", "model.dropout"),
     ("mobilenet", "weights=nowhere.pth", "model.weights=nowhere.pth is not a file"),
     ("xnor", "filters=[8]", "model.filters needs two"), ("xnor", "pools=[4,4,4]", "pooling 3")],
)  # fmt: skip
def test_other_architectures_refuse_what_cannot_be_too(name: str, override: str, expected: str) -> None:
    with torch.device("meta"), pytest.raises(RequestError, match=re.escape(expected)):
        build(name, 1, 28, 10, f"model.{override}")


@pytest.mark.parametrize("width", [0.33, 0.47, 0.5, 1.0])  # of the first two a later stage does not divide
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
def test_each_number_of_groups_has_a_network(groups: int, width: float) -> None:
    build("shufflenet_v1", 3, 32, 10, f"model.groups={groups}", f"model.width={width}")(torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_relu_after_pooling_is_relu_before_it_to_the_bit(norm: str) -> None:
    network = build("tiny_cnn", 1, 12, 10, f"model.norm={norm}", "model.filters=[6,4]")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape))  # whole numbers, so that pixels of a window tie
    images, grads = torch.randint(-2, 3, (8, 1, 12, 12)).float(), []

    def textbook(values: torch.Tensor) -> torch.Tensor:
        for block in network.features:
            values = block[0](values) if norm == "none" else block[1](block[0](values))
            values = nn.functional.max_pool2d(nn.functional.relu(values), 2)
        return network.head(values.flatten(1))

    for forward in (network, textbook):
        network.zero_grad()
        logits = forward(images)
        nn.functional.cross_entropy(logits, torch.arange(8)).backward()
        grads.append([logits.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*grads, strict=True))
