"""The reference pages say what the program has: every choice, key, command, row of a study, field of a record."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from helpers import config

import cnnbench
from cnnbench.cli.main import COMMANDS
from cnnbench.config.compose import compose
from cnnbench.config.groups import groups
from cnnbench.config.settings import flatten
from cnnbench.training.train import train
from cnnbench.utils.record import read_record
from generator import commands, configuration, python_api, record, studies
from generator.commented import Key, read

NEEDS = {f"data={name}": ["data.path=x"] for name in ("csv", "hf", "image_folder", "npz")}


page_of = cache(configuration.page)

# Choices of their own, which the page links.
NESTED = ("optimizer.first", "optimizer.then", "optimizer.base_optimizer", "logger.tensorboard", "logger.csv")


@pytest.mark.parametrize("group", configuration.groups_shown())
def test_every_key_of_every_choice_is_on_the_page_of_its_group(group: str) -> None:
    page = page_of(group)
    for choice in groups()[group]:
        assert f"\n## {choice}\n" in page
        chosen = compose([f"{group}={choice}", *NEEDS.get(f"{group}={choice}", [])])[group]
        for key in flatten({group: dict.fromkeys(chosen)}):
            nested = key.startswith(NESTED)
            hydras = key.rsplit(".", 1)[-1] in ("_target_", "_partial_")
            assert nested or hydras or f"`{key}`" in page or f"`{key}." in page, key


def test_a_model_has_its_number_of_weights() -> None:
    page = page_of("model")
    assert "2,710 on 1x28x28" in page and "62,006 on 3x32x32" in page  # tiny_cnn's and lenet's, as published


def test_a_yaml_gives_its_keys_with_defaults_and_comments(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "# @package _global_\n# A headline,\n# in two lines.\ndefaults: [_common, {override /model: mlp}, _self_]\n"
        "_target_: torch.optim.SGD\n_partial_: true   # left out\n"
        "lr: 0.1          # a rate; # and more\nname: 'a # b'    # quoted\nlist: [1, 2]     # of numbers\nbare: x\n"
        "node:            # over a block\n  inner: ${seed}  # within\n"
    )
    found = read(tmp_path / "a.yaml")
    assert (found.headline, found.target) == ("A headline, in two lines.", "torch.optim.SGD")
    assert found.inherits == ("_common", "override /model: mlp")
    assert found.keys == (
        Key("lr", "0.1", "a rate; # and more"),
        Key("name", "'a # b'", "quoted"),
        Key("list", "[1, 2]", "of numbers"),
        Key("bare", "x", ""),
        Key("node", "", "over a block"),
        Key("node.inner", "${seed}", "within"),
    )


def test_every_command_shows_its_help() -> None:
    page = commands.page()
    for verb in COMMANDS:
        section = page.split(f"\n## {verb}\n")[1].split("\n## ")[0]
        assert f"cnnbench {verb}" in section or verb == "train", verb
    with pytest.raises(ValueError, match="status 2"):
        commands.printed(lambda arguments: 2, ["--help"])


def test_every_row_of_every_study_is_there() -> None:
    page = studies.page()
    for experiment in groups()["experiment"]:
        study, row = experiment.split("/")
        assert f"`{row}`" in page.split(f"\n## {study}\n")[1].split("\n## ")[0], experiment


def test_the_functions_for_python_show_signature_arguments_and_errors() -> None:
    page = python_api.page()
    for name in cnnbench.__all__:
        assert f"\n## cnnbench.{name}\n" in page
    assert "weights: str | None = None," in page
    assert "- `trusted`: packages whose networks may be built, beside " in page


def test_the_fields_of_a_record_are_those_that_a_run_leaves(tmp_path: Path) -> None:
    train(config("trainer.max_epochs=1"), tmp_path)
    left = read_record(tmp_path)
    opened = {name.split(".")[0] for name in record.FIELDS if "." in name}  # fields that are told one by one
    names = {f"{key}.{inner}" for key in opened for inner in left[key]} | {key for key in left if key not in opened}
    assert set(record.FIELDS) == names
    assert all(f"`{name}`" in record.page() for name in record.FIELDS)
