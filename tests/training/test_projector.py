"""The features that TensorBoard's PROJECTOR shows, against a forward pass of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from helpers import config
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import nn

from cnnbench.analysis.runs import read_run
from cnnbench.inference.load import load_run
from cnnbench.training import build, preflight
from cnnbench.training.callbacks.figures import last_linear
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError


def test_features_classes_and_thumbnails_are_those_of_the_test_images(tmp_path: Path) -> None:
    asked = config("logger=tensorboard", "model.hidden=[9]", "callbacks.figures.projector=50", "data.image_size=40")
    train(asked, tmp_path)
    folder, data, run = tmp_path / "tensorboard", build.build_data(asked), load_run(tmp_path)
    shown = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (one,) = shown.embeddings
    assert (one.tensor_name, [*one.sprite.single_image_dim]) == ("test:00002", [32, 32])
    rows = np.unique(np.linspace(0, 358, 50).astype(int))
    layers = [part for part in run.network.modules() if isinstance(part, nn.Linear)]
    seen: list[np.ndarray] = []
    layers[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    run.probabilities(data.raw("test", rows))
    assert seen[0].shape == (50, 9)
    np.testing.assert_allclose(np.loadtxt(folder / one.tensor_path), seen[0], atol=1e-4)
    header, *lines = [line.split("\t") for line in (folder / one.metadata_path).read_text().splitlines()]
    found = read_run(tmp_path).predictions("test")
    assert header == ["class", "prediction"] and found is not None
    assert lines == [[str(found["true"][row]), str(found["predicted"][row])] for row in rows]
    sprite = np.asarray(Image.open(folder / one.sprite.image_path)).astype(int)
    assert sprite.shape == (8 * 32, 8 * 32, 3)
    second = Image.fromarray(data.raw("test", rows[1:2])[0, ..., 0]).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(sprite[:32, 32:64, 0] - np.asarray(second)).max() <= 3


def test_it_is_off_by_default_and_refused_where_there_is_no_linear_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config("logger=tensorboard"), tmp_path)
    assert not (tmp_path / "tensorboard" / "projector_config.pbtxt").exists()
    assert last_linear(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())) is None
    monkeypatch.setattr(preflight, "last_linear", lambda _: None)
    with pytest.raises(RequestError, match=r"callbacks\.figures\.projector: .* has no linear layer"):
        preflight.check(config("callbacks.figures.projector=10"))
