"""Networks of timm and torchvision by name: the libraries' own outputs, their weights, and every name that is none."""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from helpers import config
from safetensors.torch import save_file
from timm.optim import param_groups_layer_decay

from cnnbench.config.compose import compose, resolved
from cnnbench.models.by_name import timm_network, torchvision_network
from cnnbench.models.fine_tune import classifier_of, layer_factors
from cnnbench.models.weights import load_weights, skip_weight_loading
from cnnbench.training.build import build_network, building
from cnnbench.training.optimizers import parameter_groups
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError

HUB = {"test_resnet": "timm/test_resnet.r160_in1k"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """timm's weights of test_resnet as the hub's cache keeps them, made up."""
    torch.manual_seed(5)
    state = timm.create_model("test_resnet").state_dict()
    folder = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots" / "0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    save_file(state, folder / "snapshots" / "0" / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return state


@pytest.mark.parametrize(
    ("name", "channels", "size"), [("test_resnet", 3, 32), ("test_vit", 1, 32), ("resnet18.a1_in1k", 3, 32)]
)
def test_a_network_of_timm_is_timms(name: str, channels: int, size: int) -> None:
    torch.manual_seed(1)
    network = timm_network(channels, 7, size, name=name)
    torch.manual_seed(1)
    size_option = {"img_size": size} if "vit" in name else {}
    own = timm.create_model(name, in_chans=channels, num_classes=7, **size_option)
    images = torch.randn(2, channels, size, size)
    torch.testing.assert_close(network.eval()(images), own.eval()(images), rtol=0, atol=0)
    assert classifier_of(network) is network.get_classifier()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mnasnet0_5"])
def test_a_network_of_torchvision_is_torchvisions(name: str) -> None:
    torch.manual_seed(1)
    network = torchvision_network(3, 7, 32, name=name)
    torch.manual_seed(1)
    own = torchvision.models.get_model(name, num_classes=7)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(images), own.eval()(images), rtol=0, atol=0)
    head = classifier_of(network)
    assert head is [m for m in network.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
    assert head.weight.shape[0] == 7


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "regnet_x_400mf", "vit_b_16"])
def test_networks_of_torchvision_take_grey_images_and_have_one_classifier(name: str) -> None:
    with torch.device("meta"):
        network = torchvision_network(1, 5, 224, name=name)
        assert network(torch.zeros(2, 1, 224, 224)).shape == (2, 5)
    assert classifier_of(network).weight.shape[0] == 5


@pytest.mark.parametrize("build", [timm_network, torchvision_network])
def test_a_small_stem_keeps_the_side_of_the_image(build) -> None:
    network = build(1, 10, 28, name="resnet18", small_stem=True)
    assert network.conv1.weight.shape == (64, 1, 3, 3) and network.conv1.stride == (1, 1)
    sides = []
    network.layer1.register_forward_hook(lambda module, given, found: sides.append(found.shape[-1]))
    assert network(torch.randn(2, 1, 28, 28)).shape == (2, 10) and sides == [28]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("model=timm model.name=resnt18", "no network of timm; did you mean 'resnet18'?"),
        ("model=timm model.name=resnet18.a1_in2k", "did you mean 'resnet18.a1_in1k'?"),
        ("model=timm model.name=resnt18 model.pretrained=true", "model.name='resnt18' is no network of timm; did you"),
        ("model=timm model.name='hf-hub:a/b'", "'hf-hub:a/b' is no network of timm"),
        ("model=timm model.name='local-dir:/tmp/x' model.pretrained=true", "'local-dir:/tmp/x' is no network of timm"),
        ("model=torchvision model.name=fcn_resnet50", "is no network of torchvision; did you mean 'resnet50'?"),
        ("model=timm model.name=coatnet_0_224 model.pretrained=true", "timm has no weights of coatnet_0_224"),
        ("model=timm model.name=test_vit model.small_stem=true", "test_vit has no such stem"),
        ("model=torchvision model.name=mobilenet_v2 model.small_stem=true", "mobilenet_v2 has no such stem"),
        ("model=torchvision model.name=vit_b_16", "takes no images of 28x28"),
        ("model=torchvision model.name=alexnet", "takes no images of 28x28"),
        ("model=torchvision model.pretrained=true init_from=x", "model.pretrained and init_from both"),
        ("model=torchvision fine_tune.layer_decay=0.5", "networks of model=timm have"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_line(overrides: str, told: str) -> None:
    with pytest.raises(RequestError, match=re.escape(told)) as error, building("model"), torch.device("meta"):
        cfg = resolved(compose(overrides.split()))
        channels = type("Data", (), {"channels": 1, "classes": [*range(10)], "image_size": 28})
        network = build_network(cfg, type("Module", (), {"prepared": channels})())
        parameter_groups(network, layer_decay=cfg["fine_tune"]["layer_decay"])
    assert "\n" not in str(error.value)


def test_timms_weights_come_from_the_cache_and_fit_grey_images(hub: dict[str, torch.Tensor]) -> None:
    network = timm_network(1, 7, 32, name="test_resnet", pretrained=True)
    first = "conv1.0.weight"
    torch.testing.assert_close(network.state_dict()[first], hub[first].sum(1, keepdim=True))
    torch.testing.assert_close(network.state_dict()["layer4.0.conv1.weight"], hub["layer4.0.conv1.weight"])
    assert classifier_of(network).weight.shape[0] == 7
    with skip_weight_loading():  # as `predict` builds it
        other = timm_network(1, 7, 32, name="test_resnet", pretrained=True)
    assert not torch.equal(other.state_dict()[first], network.state_dict()[first])


def test_weights_that_cannot_be_had_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("timm.create_model", lambda *_, **options: (_ for _ in ()).throw(OSError("no\nnetwork")))
    with pytest.raises(RequestError, match=r"could not be had \(no network\).*or give a file: .*init_from=FILE"):
        timm_network(3, 7, 32, name="test_resnet", pretrained=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **options: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(RequestError, match=r"model\.pretrained: https.*resnet18-f37072fd\.pth.*init_from=FILE"):
        torchvision_network(3, 7, 32, name="resnet18", pretrained=True)


def test_torchvisions_weights_come_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    state = torchvision.models.shufflenet_v2_x0_5().state_dict()
    torch.save(state, tmp_path / "checkpoints" / "shufflenetv2_x0.5-f707e7126e.pth")
    network = torchvision_network(3, 7, 32, name="shufflenet_v2_x0_5", pretrained=True)
    assert torch.equal(network.state_dict()["conv5.0.weight"], state["conv5.0.weight"])
    assert classifier_of(network).weight.shape[0] == 7


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "inception_v3"])
def test_published_tensors_that_torchvision_renames_or_leaves_out_fit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of densenets have older names, those of the others heads that only training uses."""
    whole = {} if name == "densenet121" else {"aux_logits": True, "init_weights": False}
    published = torchvision.models.get_model(name, **whole).state_dict()
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): of
        for key, of in published.items()
        if whole or "num_batches" not in key
    }
    weights = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **options: dict(older))
    network = torchvision_network(3, 7, 96, name=name, pretrained=True)
    first = next(key for key in published if key.endswith(("conv.weight", "conv0.weight")))
    assert torch.equal(network.state_dict()[first], published[first])
    assert getattr(network, "transform_input", True)  # their pixels are from -1 to 1


def test_a_network_whose_modules_have_versions_is_loaded(tmp_path: Path) -> None:
    """MNASNet asks which version of it has written a state dict."""
    network = torchvision_network(3, 7, 32, name="mnasnet0_5")
    torch.save(dict(network.state_dict()), tmp_path / "weights.pt")
    other = torchvision_network(3, 7, 32, name="mnasnet0_5")
    load_weights(other, str(tmp_path / "weights.pt"), "init_from")
    torch.testing.assert_close(dict(other.state_dict()), dict(network.state_dict()))


def test_a_network_with_several_heads_starts_from_its_own_weights(tmp_path: Path) -> None:
    network = timm_network(3, 7, 64, name="levit_128s")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = timm_network(3, 7, 64, name="levit_128s")
    load_weights(other, str(tmp_path / "weights.pt"), "init_from")
    torch.testing.assert_close(dict(other.state_dict()), dict(network.state_dict()))


def test_pre_trained_networks_see_images_as_their_weights_did() -> None:
    known = timm.get_pretrained_cfg("test_resnet")
    data = resolved(compose(["data=cifar10", "model=timm", "model.name=test_resnet", "model.pretrained=true"]))["data"]
    assert data["image_size"] == known.input_size[-1] == 160
    assert (data["mean"], data["std"]) == ([*known.mean], [*known.std])
    asked = ["model=torchvision", "model.name=efficientnet_b1", "model.pretrained=true"]
    data = resolved(compose(["data=cifar10", *asked]))["data"]
    transforms = torchvision.models.EfficientNet_B1_Weights.DEFAULT.transforms()
    assert (data["image_size"], data["mean"], data["std"]) == (240, transforms.mean, transforms.std)
    grey = resolved(compose(["data=mnist", *asked]))["data"]
    assert grey["mean"] == pytest.approx(sum(transforms.mean) / 3)
    given = resolved(compose(["data=cifar10", "data.image_size=64", "data.mean=0.5", *asked]))["data"]
    assert (given["image_size"], given["mean"], given["std"]) == (64, 0.5, transforms.std)
    plain = resolved(compose(["data=cifar10", *asked[:2]]))["data"]
    assert (plain["image_size"], plain["mean"]) == (None, [0.4914, 0.4822, 0.4465])


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_rates_decay_from_layer_to_layer_as_timms(name: str) -> None:
    network = timm_network(3, 7, 32, name=name)
    own = param_groups_layer_decay(network, layer_decay=0.75)
    expected = {id(p): group["lr_scale"] for group in own for p in group["params"]}
    groups = parameter_groups(network, layer_decay=0.75)
    found = {id(p): group.get("lr_factor", 1.0) for group in groups for p in group["params"]}
    assert found == pytest.approx(expected) and len(set(found.values())) > 3
    assert min(layer_factors(network, 0.75).values()) == pytest.approx(min(expected.values()))
    slower = parameter_groups(network, backbone_lr_factor=0.1, layer_decay=0.75)
    head = {id(p) for p in network.get_classifier().parameters()}
    assert {id(p) for p in slower[0]["params"]} == head and "lr_factor" not in slower[0]
    for group in slower[1:]:
        assert [group["lr_factor"]] * len(group["params"]) == pytest.approx(
            [0.1 * expected[id(p)] for p in group["params"]]
        )


def test_a_run_is_fine_tuned_by_name(hub: dict[str, torch.Tensor], tmp_path: Path) -> None:
    asked = ["model=timm", "model.name=test_resnet", "model.pretrained=true", "data.image_size=32", "fine_tune=head_first",
             "fine_tune.frozen_epochs=1", "fine_tune.layer_decay=0.5", "trainer.max_epochs=1"]  # fmt: skip
    record = train(
        config(*asked, base=["data.limit_train=40", "trainer.accelerator=cpu", "threads=1"]), tmp_path / "run"
    )
    assert record["status"] == "completed", record["error"]
    assert record["model"]["parameters"] > 0 and record["model"]["flops_per_image"] > 0
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(state["network.layer4.0.conv1.weight"], hub["layer4.0.conv1.weight"])
