"""``cnnbench list`` and the help of each command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from helpers import cnnbench, config
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode

from cnnbench.cli.list import listing
from cnnbench.cli.main import VERBS, main
from cnnbench.config.compose import groups, plugins
from cnnbench.utils.errors import RequestError

SHOWN = [f"{group}={choice}" for group, choices in groups().items() if group != "experiment" for choice in choices]


@pytest.mark.parametrize("asked", [name for name in SHOWN if not name.startswith("model=")])
def test_every_key_of_a_choice_has_its_value_and_a_comment(asked: str) -> None:
    group = asked.partition("=")[0]
    lines = [line.strip() for line in listing([asked]).splitlines() if line.startswith(f"  {group}.")]
    for line in lines:
        assert re.fullmatch(rf"{group}\.[\w.]+=\S.*?  +\S.*", line), line
    node = config(asked, "data.path=somewhere" if asked in ("data=npz", "data=image_folder") else "seed=0")[group]
    leaves = [key for key in _leaves(node) if not key.endswith(("_target_", "_partial_"))]
    assert [line.partition("=")[0] for line in lines] == [f"{group}.{key}" for key in leaves]


def _leaves(node: dict, prefix: str = "") -> list[str]:
    return [
        name
        for key, value in node.items()
        for name in (_leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


@pytest.mark.parametrize("model", groups()["model"])
def test_a_model_is_listed_with_its_weights_and_flops(model: str) -> None:
    text = listing([f"model={model}", "data=cifar10"])  # which is not there, and need not be
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = instantiate(config(f"model={model}")["model"], in_channels=3, num_classes=10, image_size=32).eval()
        network(torch.zeros(1, 3, 32, 32))
    (line,) = [line for line in text.splitlines() if "FLOPs" in line]
    weights, amount, letter = re.search(
        r"([\d,]+) weights; ([\d.,]+) ([kMG]?)FLOPs for one image of 3x32x32", line
    ).groups()  # type: ignore[union-attr]
    assert int(weights.replace(",", "")) == sum(p.numel() for p in network.parameters())
    scale = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[letter]
    assert float(amount.replace(",", "")) * scale == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_images_can_be_told_by_hand() -> None:
    # by hand: convolutions of 16 and 4 filters on 28x28 and 14x14, a linear layer from 4x7x7
    weights, flops = 16 * 9 + 16 + 4 * 16 * 9 + 4 + 196 * 10 + 10, 2 * (16 * 9 * 784 + 4 * 16 * 9 * 196 + 196 * 10)
    assert f"{weights:,} weights; {flops / 1000:.0f} kFLOPs for one image of 1x28x28, 10" in listing(["model=tiny_cnn"])
    assert "one image of 3x12x12, 7 classes" in listing(["model=tiny_cnn", "channels=3", "image_size=12", "classes=7"])
    assert "give channels=... image_size=... classes=..." in listing(["model=tiny_cnn", "data=npz"])
    assert "give image_size=... classes=..." in listing(["model=tiny_cnn", "data=image_folder"])
    with pytest.raises(RequestError, match="classes must be a whole number"):
        listing(["model=tiny_cnn", "classes=many"])
    with pytest.raises(RequestError, match="too small for this network"):
        listing(["model=lenet", "image_size=8"])


def test_values_are_composed_not_only_written() -> None:
    assert re.search(r"scheduler\.T_max=20 ", listing(["scheduler=cosine"]))
    assert re.search(r"optimizer\.then\.momentum=0\.9 +in \[0, 1\)", listing(["optimizer=switch"]))
    assert re.search(r"data\.path=\(must be given\) +the file", listing(["data=npz"]))


def test_launchers_and_sweepers_are_listed_as_other_groups() -> None:
    told = listing(["hydra/launcher", "hydra/sweeper=optuna"])
    for choice in plugins()["hydra/launcher"]:
        assert re.search(rf"^  {choice} +\w.*\.", told, re.MULTILINE)
    assert re.search(r"hydra\.sweeper\.n_trials=50 +runs in all", told)
    assert "A grid: every combination" in listing(["hydra/sweeper=basic"]) and "hydra/sweeper\n" in listing()


def test_there_are_colours_on_a_terminal_only(tmp_path: Path) -> None:
    assert "\033" in listing(["optimizer"], colour=True)
    assert re.sub(r"\033\[\d*m", "", listing(["optimizer=sgd"], colour=True)) == listing(["optimizer=sgd"])
    assert "\033" not in cnnbench("list", "optimizer", cwd=tmp_path, check=0).stdout


@pytest.mark.parametrize(
    ("verb", "flag"), [(verb, flag) for verb in VERBS for flag in ("--help", "-h") if (verb, flag) != ("train", "-h")]
)
def test_every_command_has_help(verb: str, flag: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    if verb == "train":  # Hydra's, which prints to the process's own output
        assert "Sweep a grid" in cnnbench("train", flag, cwd=tmp_path, check=0).stdout
        return
    try:
        assert main([verb, flag]) == 0
    except SystemExit as end:
        assert end.code == 0
    assert capsys.readouterr().out.startswith(f"usage: cnnbench {verb}")


def test_help_names_every_command_and_choice(tmp_path: Path) -> None:
    told = cnnbench("--help", cwd=tmp_path, check=0).stdout
    for verb in VERBS:
        assert verb == "train" or f"cnnbench {verb}" in told
    for group, choices in {**groups(), **plugins()}.items():
        for choice in choices:
            assert choice.partition("/")[0] in told.partition(f"\n  {group} ")[2]
    assert "_base" not in told and "_common" not in told
    assert max(map(len, told.splitlines())) <= 120
