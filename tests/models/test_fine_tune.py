"""A frozen backbone stays to the bit, through weight decay and momentum, and learns slower afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import config
from lightning.pytorch import seed_everything
from torch import nn

from cnnbench.models.fine_tune import classifier_of, freeze_backbone
from cnnbench.training import build
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError

ASKED = ("model.norm=batch", "model.hidden=[8]", "fine_tune=head_first", "optimizer=momentum", "optimizer.weight_decay=0.1",
         "scheduler=none", "trainer.max_epochs=3", "threads=1")  # fmt: skip
HEAD = ("head.2.weight", "head.2.bias")


def test_the_backbone_is_frozen_for_so_many_epochs_and_then_learns_slower(tmp_path: Path) -> None:
    cfg = config(*ASKED)
    seed_everything(0, verbose=False)
    before = build.build_network(cfg, build.build_data(cfg)).state_dict()

    def after(name: str, *overrides: str) -> dict[str, torch.Tensor]:
        record = train(config(*ASKED, *overrides), tmp_path / name)
        assert record["status"] == "completed", record["error"]
        assert record["history"]["lr"] == [0.02] * len(record["history"]["lr"])  # that of the classifier
        state = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        return {name.removeprefix("network."): value for name, value in state.items()}

    frozen = after("frozen", "trainer.max_epochs=2")
    assert {name for name in before if not torch.equal(before[name], frozen[name])} == set(HEAD)
    thawed = after("thawed")
    assert not [name for name in before if torch.equal(before[name], thawed[name])]
    # a rate near nothing for all but the classifier: their weights stay where they were, batch norm's averages do not
    slow = after("slow", "fine_tune.backbone_lr_factor=1e-12")
    kept = [name for name in before if not name.startswith(HEAD) and "running" not in name and "tracked" not in name]
    assert all(torch.allclose(before[name], slow[name], rtol=0, atol=1e-8) for name in kept)
    assert not torch.equal(before["features.0.1.running_mean"], slow["features.0.1.running_mean"])


def test_freezing_depends_on_nothing_before_it() -> None:
    def state(network: nn.Module) -> list[bool]:
        return [p.requires_grad for p in network.parameters()] + [m.training for m in network.modules()]

    cfg = config("model=lenet_bn", "data.image_size=16")
    network = build.build_network(cfg, build.build_data(cfg))
    learning = state(network)
    freeze_backbone(network, False)
    assert state(network) == learning
    for _ in range(2):
        freeze_backbone(network, True)
    frozen = state(network)
    assert frozen.count(False) == len(list(network.parameters())) - 2 + 2  # all but the classifier's, and two norms
    assert all(p.requires_grad for p in classifier_of(network).parameters())
    freeze_backbone(network, False)
    assert state(network) == learning


def test_a_network_that_does_not_name_its_classifier_is_told_how_to() -> None:
    with pytest.raises(RequestError, match=r"Linear does not say.*get_classifier"):
        classifier_of(nn.Linear(2, 2))
