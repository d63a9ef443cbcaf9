"""Starting from weights: of an earlier run, of a file in torchvision's form, and every file that does not fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import config
from torch import nn

from cnnbench.inference.load import load_run
from cnnbench.models import MLP, ConvNet
from cnnbench.models.resnet import ResNet18, ResNet18_Weights
from cnnbench.models.shufflenet import ShuffleNetV2
from cnnbench.models.weights import load_weights
from cnnbench.training.build import build_data, build_network
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError


def small(classes: int = 10, **options: Any) -> ConvNet:
    return ConvNet(1, classes, 12, **{"filters": [4, 8], "norm": "batch", "paddings": 1, **options})


def checkpoint(folder: Path, network: nn.Module) -> str:
    """A file as a run of ours leaves it."""
    path = folder / "best.ckpt"
    torch.save({"epoch": 1, "state_dict": {f"network.{k}": v for k, v in network.state_dict().items()}}, path)
    return str(path)


def test_a_network_starts_from_an_earlier_run_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    torch.manual_seed(1)
    earlier = small()
    earlier.features[0][1].running_mean.fill_(3.0)
    path = checkpoint(tmp_path, earlier)
    same = small()
    load_weights(same, path, "init_from")
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in earlier.state_dict().items())
    other = small(7)
    own = other.get_classifier().weight.clone()
    load_weights(other, path, "init_from")
    assert torch.equal(other.get_classifier().weight, own)
    assert torch.equal(other.features[1][0].weight, earlier.features[1][0].weight)
    assert [record.getMessage() for record in caplog.records] == [
        f"started from {path}: 16 of 16 tensors",
        f"started from {path}: 14 of 16 tensors; head.0.weight, head.0.bias left as they are, for the classes differ",
    ]


def test_init_from_is_a_key_of_every_run(tmp_path: Path) -> None:
    cfg = config("model=tiny_cnn")
    data = build_data(cfg)
    path = checkpoint(tmp_path, build_network(cfg, data))
    torch.manual_seed(9)
    started = build_network(config("model=tiny_cnn", f"init_from={path}"), data)
    first = torch.load(path, weights_only=True)["state_dict"]["network.features.0.0.weight"]
    assert torch.equal(started.features[0][0].weight, first)


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nowhere").exists, ())


@pytest.mark.parametrize("kind", ["missing", "folder", "truncated", "text", "code", "numbers", "other", "shape"])
def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path, kind: str) -> None:
    path = Path(checkpoint(tmp_path, small()))
    network: nn.Module = small()
    expected = {
        "missing": "is not a file", "folder": "is a folder; give a file.*best.ckpt", "truncated": "damaged",
        "text": "damaged", "code": "other objects", "numbers": "no state dict",
        "other": "does not fit MLP: it has no head.2.weight", "shape": "features.0.0.weight is 4x1x3x3 there and 6x1x3x3",
    }[kind]  # fmt: skip
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path = tmp_path
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "text":
        path.write_text("not weights")
    elif kind == "code":
        torch.save({"state_dict": Malice()}, path)
    elif kind == "numbers":
        torch.save({"lr": 0.1}, path)
    elif kind == "other":
        network = MLP(1, 10, 12, hidden=[5])
    else:
        network = small(filters=[6, 8])
    for device in ("cpu", "meta"):
        with pytest.raises(RequestError, match=expected) as error:
            load_weights(network.to(device), str(path), "init_from")
        assert "\n" not in str(error.value) and str(error.value).startswith("init_from=")


def torchvision_file(folder: Path) -> tuple[str, nn.Module]:
    from torchvision.models import resnet18

    torch.manual_seed(2)
    theirs = resnet18()
    torch.save({k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}, folder / "resnet18.pth")
    return str(folder / "resnet18.pth"), theirs.eval()


def test_resnet18_takes_torchvisions_weights_in_colour_and_in_grey(tmp_path: Path) -> None:
    path, theirs = torchvision_file(tmp_path)
    theirs.fc = nn.Linear(512, 5)
    images = torch.randn(2, 3, 28, 28)
    for channels in (3, 1):
        ours = ResNet18(channels, 5, 28, weights=path).eval()
        ours.fc.load_state_dict(theirs.fc.state_dict())
        given = images[:, :channels]
        with torch.no_grad():
            torch.testing.assert_close(ours(given), theirs(given.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    with pytest.raises(RequestError, match=r"conv1.weight is 64x3x7x7 there and 64x3x3x3 here"):
        ResNet18(3, 5, 28, weights=path, stem="small")
    with torch.device("meta"):  # as before a run: all checked, nothing loaded
        assert next(ResNet18(3, 5, 28, weights=path).parameters()).is_meta


def test_imagenet_weights_come_from_torchvision_with_their_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    published = {k: v + 1 for k, v in ResNet18(3, 1000, 224).state_dict().items()}

    def had(self: Any, **options: Any) -> dict[str, torch.Tensor]:
        asked.append((self, options["check_hash"]))
        return published

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", had)
    assert torch.equal(ResNet18(3, 10, 28, weights="imagenet").conv1.weight, published["conv1.weight"])
    assert asked == [(ResNet18_Weights.IMAGENET1K_V1, True)]

    def offline(self: Any, **options: Any) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(RequestError, match=r"no route to host.*put resnet18-f37072fd.pth into .*checkpoints"):
        ResNet18(3, 10, 28, weights="imagenet")


def test_a_run_that_began_with_weights_is_loaded_with_the_stem_that_it_had_and_without_them(tmp_path: Path) -> None:
    torch.manual_seed(5)
    begun = tmp_path / "weights.pt"
    torch.save(ShuffleNetV2(1, 10, 12, width=0.5).state_dict(), begun)
    asked = ("model=shufflenet", f"model.weights={begun}", "data.limit_train=32", "trainer.max_epochs=1", "threads=1")
    record = train(config(*asked), tmp_path / "run")
    assert record["status"] == "completed", record["error"]
    begun.unlink()
    network = load_run(tmp_path / "run").network
    assert network.conv1[0].stride == (2, 2)  # the small stem has other strides and weights of the same shape
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(network.fc.weight, last["network.fc.weight"])


@pytest.mark.parametrize(("size", "stem", "side"), [(28, "auto", 4), (96, "auto", 3), (32, "imagenet", 1)])  # fmt: skip
def test_small_images_are_not_shrunk_to_nothing(size: int, stem: str, side: int) -> None:
    for network, last in (
        (ResNet18(1, 10, size, stem=stem), "layer4"),
        (ShuffleNetV2(1, 10, size, width=0.5, stem=stem), "conv5"),
        (mobilenet(size, stem), "features"),
    ):
        sides = []
        network.get_submodule(last).register_forward_hook(lambda *a, sides=sides: sides.append(a[2].shape[-1]))
        with torch.no_grad():
            network.eval()(torch.zeros(1, 1, size, size))
        assert sides == [side], type(network).__name__


def mobilenet(size: int, stem: str) -> nn.Module:
    from cnnbench.models.mobilenet import MobileNetV2

    return MobileNetV2(1, 10, size, width=0.25, stem=stem)
