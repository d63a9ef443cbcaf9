"""``cnnbench list`` and the help of each command."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode

from cnnbench.cli.main import COMMANDS, main
from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import CONFIG_DIR, groups, plugins
from cnnbench.config.settings import flatten

SHOWN = [f"{group}={choice}" for group, choices in groups().items() if group != "experiment" for choice in choices]


@pytest.fixture
def listing(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """What ``cnnbench list`` prints."""

    def printed(*arguments: str) -> str:
        assert main(["list", *arguments]) == 0
        return capsys.readouterr().out

    return printed


def test_each_choice_has_a_line_that_is_a_whole_sentence(listing: Callable[..., str]) -> None:
    lines = [line for line in listing(*groups()).splitlines() if line.startswith("  ")]
    assert len(lines) == sum(map(len, groups().values()))
    assert [line for line in lines if not line.endswith((".", "..."))] == []


@pytest.mark.parametrize("choice", [name for name in SHOWN if not name.startswith("model=")])
def test_a_choice_is_shown_with_every_key_and_its_comment(choice: str, listing: Callable[..., str]) -> None:
    text = listing(choice)
    group, _, name = choice.partition("=")
    assert (CONFIG_DIR / group / f"{name}.yaml").read_text().strip() in text
    needs_path = choice in ("data=csv", "data=hf", "data=image_folder", "data=npz")
    node = resolved(compose([choice, *(["data.path=somewhere"] if needs_path else [])]))[group]
    for key in flatten(node):
        if not key.endswith(("_target_", "_partial_")) and not key.startswith(
            ("first.", "then.", "base_optimizer.", "tensorboard.", "csv.")
        ):  # of other choices
            assert re.search(rf"^ *{key.rpartition('.')[2]}: .*\S +# ", text, re.MULTILINE), key


@pytest.mark.parametrize("model", groups()["model"])
def test_a_model_is_shown_with_its_weights_and_flops(model: str, listing: Callable[..., str]) -> None:
    text = listing(f"model={model}", "data=cifar10")  # which is not there, and need not be
    with torch.device("meta"):  # models by name try an image
        network = instantiate(
            resolved(compose([f"model={model}"]))["model"], in_channels=3, num_classes=10, image_size=32
        ).eval()
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    (line,) = [line for line in text.splitlines() if "FLOPs" in line]
    weights, amount, letter = re.search(
        r"([\d,]+) weights; ([\d.,]+) ([kMG]?)FLOPs for one image of 3x32x32", line
    ).groups()  # type: ignore[union-attr]
    assert int(weights.replace(",", "")) == sum(p.numel() for p in network.parameters())
    scale = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[letter]
    assert float(amount.replace(",", "")) * scale == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_images_can_be_described(listing: Callable[..., str], capsys: pytest.CaptureFixture) -> None:
    # by hand: convolutions of 16 and 4 filters on 28x28 and 14x14, a linear layer from 4x7x7
    weights, flops = 16 * 9 + 16 + 4 * 16 * 9 + 4 + 196 * 10 + 10, 2 * (16 * 9 * 784 + 4 * 16 * 9 * 196 + 196 * 10)
    assert f"{weights:,} weights; {flops / 1000:.0f} kFLOPs for one image of 1x28x28, 10" in listing("model=tiny_cnn")
    of_mlp = 784 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 10 + 10
    both = listing("model=mlp", "model=tiny_cnn")  # each with its own
    assert both.count(f"{of_mlp:,} weights;") == both.count(f"{weights:,} weights;") == 1
    assert "one image of 3x12x12, 7 classes" in listing("model=tiny_cnn", "channels=3", "image_size=12", "classes=7")
    assert "give channels=... image_size=... classes=..." in listing("model=tiny_cnn", "data=npz")
    assert "give image_size=... classes=..." in listing("model=tiny_cnn", "data=image_folder")
    for wrong, message in (("classes=many", "classes must be a whole number"), ("image_size=8", "too small for this")):
        assert main(["list", "model=lenet", wrong]) == 2
        assert message in capsys.readouterr().err


def test_launchers_and_sweepers_are_listed_as_other_groups(listing: Callable[..., str]) -> None:
    text = listing("hydra/launcher", "hydra/sweeper=optuna")
    for choice in plugins()["hydra/launcher"]:
        assert re.search(rf"^  {choice} +\w.*\.", text, re.MULTILINE)
    assert re.search(r"^n_trials: 50 +# runs in all", text, re.MULTILINE)
    assert "Every combination" in listing("hydra/sweeper=grid") and "hydra/sweeper\n" in listing()
    assert "all in this process" in listing("hydra/launcher=basic")


def test_there_are_colours_on_a_terminal_only(listing: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = listing("optimizer", "optimizer=sgd")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured = listing("optimizer", "optimizer=sgd")
    assert "\033" in coloured and "\033" not in plain and re.sub(r"\033\[\d*m", "", coloured) == plain


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, flag: str, capfd: pytest.CaptureFixture) -> None:
    assert main([command, flag]) == 0
    assert capfd.readouterr().out.startswith("cnnbench" if command == "train" else f"usage: cnnbench {command}")


def test_help_names_every_command_and_choice(capfd: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    text = capfd.readouterr().out
    for command in COMMANDS:
        assert command == "train" or f"cnnbench {command}" in text
    for group, choices in {**groups(), **plugins()}.items():
        for choice in choices:
            assert choice.partition("/")[0] in text.partition(f"\n  {group} ")[2]
    assert "_base" not in text and "_common" not in text
    assert max(map(len, text.splitlines())) <= 120
