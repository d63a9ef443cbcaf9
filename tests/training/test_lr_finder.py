"""The range test sees where a loss falls and explodes, repeats with the seed, and keeps the groups' proportions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers import SMALL, config, installed

from cnnbench.cli.main import main
from cnnbench.training.lr_finder import RangeTest, range_test
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError


def test_the_steepest_descent_is_in_log_lr():
    lrs = [10 ** (-4 + 0.1 * i) for i in range(41)]
    loss = [2 / (1 + math.exp(4 * (math.log10(lr) + 2))) + max(0.0, math.log10(lr) + 1) ** 2 for lr in lrs]
    found = RangeTest(lrs, loss, loss, exploded=False)
    assert found.steepest == pytest.approx(1e-2, rel=0.3)  # the middle of the fall in log(lr)
    assert found.suggestion <= found.lowest / 10 * 1.1


def test_a_test_repeats_with_its_seed():
    one, again = (range_test(config("augment=crop"), steps=12) for _ in range(2))
    assert one == again
    assert range_test(config("augment=crop", "seed=1"), steps=12) != one


def test_it_is_what_a_plain_loop_with_these_rates_does(monkeypatch: pytest.MonkeyPatch):
    seen: list[list[float]] = []
    step = torch.optim.SGD.step

    def watched(self, *args, **kwargs):
        seen.append([float(group["lr"]) for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    found = range_test(config("optimizer=sgd", "decay_norm_and_bias=false"), low=1e-4, high=1e-2, steps=11)
    assert [lrs[0] for lrs in seen] == pytest.approx([10 ** (-4 + 0.2 * i) for i in range(11)])
    assert all(len(lrs) == 2 and lrs[0] == lrs[1] for lrs in seen)
    assert found.lrs == pytest.approx([lrs[0] for lrs in seen])


def test_it_ends_where_the_loss_explodes():
    found = range_test(config("optimizer=momentum"), low=1e-3, high=1e6, steps=80)
    assert found.exploded and found.lrs[-1] < 1e5


def test_auto_trains_with_the_suggestion_and_the_record_keeps_it(tmp_path: Path):
    auto = config("optimizer=adamw", "optimizer.lr=auto", "model=lenet_bn", "data.image_size=28")
    record = train(auto, tmp_path / "auto")
    suggestion = range_test(auto).suggestion
    assert record["lr_finder"]["lr"] == suggestion and record["config"]["optimizer"]["lr"] == "auto"
    by_hand = train({**auto, "optimizer": {**auto["optimizer"], "lr": suggestion}}, tmp_path / "by_hand")
    assert by_hand["lr_finder"] is None
    assert record["model"]["sha256"] == by_hand["model"]["sha256"]  # the test leaves no trace in the training


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    small = ["model=tiny_cnn", "data.image_size=12", "data.limit_train=160", "trainer.accelerator=cpu"]
    assert main(["find-lr", *small, "--steps", "30", "--plot", str(tmp_path / "plot.png")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("optimizer.lr=") and float(first.partition("=")[2]) > 0
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    unwritable = tmp_path / "plot.png" / "below a file.png"
    assert main(["find-lr", *small, "--steps", "30", "--plot", str(unwritable)]) == 2
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == first and "below a file.png cannot be written" in told.err
    assert main(["find-lr", "optimizer=adma"]) == 2
    assert "did you mean 'adam'" in capsys.readouterr().err
    with pytest.raises(RequestError, match="must rise"):
        range_test(config(), low=1.0, high=0.1)


def test_a_loss_that_never_falls_suggests_nothing():
    with pytest.raises(RequestError, match=r"lowest at 1\.\de\+0\d, among the first rates tried, so it never fell"):
        _ = range_test(config("optimizer=sgd"), low=10.0, high=20.0, steps=12).suggestion


@pytest.mark.parametrize(("optimizer", "inner"), [("switch", "first"), ("sam", "base_optimizer")])
def test_the_rate_is_named_of_the_optimizer_within(
    tmp_path: Path, capsys: pytest.CaptureFixture, optimizer: str, inner: str
):
    if not installed(optimizer):
        pytest.skip("needs the optimizer's package")
    assert main(["find-lr", *SMALL, "logger=none", f"optimizer={optimizer}", "--plot", str(tmp_path / "plot.png")]) == 0
    told = capsys.readouterr().out
    override = told.split("\n")[0]
    assert override.startswith(f"optimizer.{inner}.lr=")
    assert config(f"optimizer={optimizer}", override)["optimizer"][inner]["lr"] > 0
