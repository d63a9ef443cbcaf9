"""Heat maps of Grad-CAM, against the paper's equations written out, and where they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config
from PIL import Image
from torch import nn

from cnnbench.cli.main import main
from cnnbench.data.augment import Normalize
from cnnbench.training import grad_cam, preflight
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)
    last = [nn.AdaptiveAvgPool2d(2), nn.Conv2d(6, 6, 2), nn.Flatten(), nn.Linear(6, 3)]  # its map is one pixel
    return nn.Sequential(first, nn.ReLU(), nn.Sequential(second, nn.ReLU(inplace=True)), *last)


def test_the_map_is_that_of_the_last_convolution_with_its_activation() -> None:
    found = grad_cam.last_map(net := network(), torch.zeros(1, 1, 12, 12))
    assert found is net[2]
    assert grad_cam.last_map(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2)) is None
    assert grad_cam.last_map(nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()), torch.zeros(1, 1, 2, 2)) is None


def test_heat_maps_are_those_of_the_papers_equations() -> None:
    pytest.importorskip("captum")
    net, images, classes = network(), torch.randn(5, 1, 12, 12), torch.tensor([0, 1, 2, 1, 0])
    net[0].requires_grad_(False)  # as of a frozen backbone
    found = grad_cam.heat_maps(net, images, classes)
    for image, own, heat in zip(images, classes, found, strict=True):
        maps = net[:3](image[None])
        (gradient,) = torch.autograd.grad(net[3:](maps)[0, own], maps)
        weights = gradient.mean(dim=(2, 3), keepdim=True)  # equation 1
        expected = (weights * maps).sum(dim=1)[0].relu().detach()  # equation 2
        np.testing.assert_allclose(heat, expected / expected.max().clamp(min=1e-12), atol=1e-5)
    assert all(part.grad is None for part in net.parameters()) and net.training


def test_the_image_is_left_as_it_is_and_red_where_the_heat_is(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.full((2, 48, 48, 1), 100, dtype=np.uint8)
    maps = np.zeros((2, 4, 4), dtype=np.float32)
    maps[0, 0, 3] = 1
    monkeypatch.setattr(grad_cam, "heat_maps", lambda *_: maps)
    hot, cold = grad_cam.side_by_side(network(), Normalize([0.5], [0.5]), images, [0, 1])
    assert cold.shape == (96, 2 * 96 + 4, 3) and (hot[:, :96] == 100).all() and (cold[:, 100:] == 100).all()
    corner, other = hot[0, -1], hot[-1, 100]
    assert corner[0] > 200 and corner[2] < 50 and (other == 100).all()


def test_without_captum_or_a_convolution_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = "callbacks.figures.explain=gradcam"
    monkeypatch.setattr("cnnbench.training.grad_cam.find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"explain=gradcam needs captum.*pip install 'cnnbench\[captum\]'"):
        preflight.check(config(asked))
    monkeypatch.setattr("cnnbench.training.grad_cam.find_spec", lambda _: True)
    with pytest.raises(RequestError, match="MLP has no convolution"):
        preflight.check(config(asked, "model=mlp"))


def test_mistakes_and_predictions_are_drawn_with_heat_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("captum")
    train(config("callbacks.figures.explain=gradcam"), tmp_path / "run")
    train(config(), tmp_path / "plain")
    drawn, plain = (Image.open(tmp_path / name / "figures" / "mistakes.png") for name in ("run", "plain"))
    assert drawn.width > 1.5 * plain.width and drawn.height == plain.height
    monkeypatch.chdir(tmp_path)
    Image.new("L", (12, 12), 200).save("image.png")
    assert main(["predict", "run", "image.png", "image.png", "--explain"]) == 0
    assert "heat maps: explained.png" in capsys.readouterr().out
    assert Image.open("explained.png").width > 2 * 2 * 96
    assert main(["predict", "run", "image.png", "--explain", "--sheet", "mine.png", "--format", "json"]) == 0
    assert capsys.readouterr().out.startswith("[") and Path("mine.png").exists()
