"""YAMLs and code of the user's, in a folder of their own: everywhere that ours are, and only while they are named."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from helpers import SMALL, cnnbench
from PIL import Image

from cnnbench.cli.main import main
from cnnbench.config.groups import OWN, groups, own_config_dir
from cnnbench.utils.errors import RequestError

NET = """
from cnnbench.models import ConvNet

class Net(ConvNet):
    def __init__(self, in_channels, num_classes, image_size, *, width=4):
        super().__init__(in_channels, num_classes, image_size, filters=[width])
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a folder of YAMLs in it, in the working folder, which is not importable by itself."""
    folder = tmp_path / "their_nets" / "conf" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "their_nets" / "__init__.py").write_text(NET)
    (folder / "mine.yaml").write_text("# Mine.\n_target_: their_nets.Net\nwidth: 4  # filters\n")
    Image.new("L", (12, 12)).save(tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "their_nets" / "conf"
    sys.modules.pop("their_nets", None)


def test_a_run_of_own_code_is_trained_used_and_refused_where_it_is_not_named(own, capsys) -> None:
    asked = ["model=mine", "logger=none", *SMALL[1:], "trainer.max_epochs=1", "hydra.run.dir=run"]
    assert main(["--config-dir", "their_nets/conf", *asked]) == 0
    assert OWN not in os.environ and "mine" not in groups()["model"]
    for command in (["predict", "run", "x.png"], ["rerun", "run", "again"], ["resume", "run"]):
        capsys.readouterr()
        assert main(command) == 2
        told = capsys.readouterr().err
        assert ("--config-dir" if command[0] == "resume" else "their_nets.Net") in told and told.count("\n") == 1
        assert main([*command, "--config-dir=their_nets/conf"]) == 0, capsys.readouterr()
    assert main(["list", "model", "--config-dir", "their_nets/conf"]) == 0
    assert re.search(r"^  mine +Mine\.$", capsys.readouterr().out, re.MULTILINE)


def test_a_sweep_in_processes_of_their_own_finds_own_code(own: Path, tmp_path: Path) -> None:
    asked = ["-m", "model=mine", "model.width=3,4", "logger=none", *SMALL[1:], "trainer.max_epochs=1"]
    launch = ["hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep", "sweep.isolate=true"]
    done = cnnbench("--config-dir", str(own), *asked, *launch, cwd=tmp_path, fresh=True)
    assert done.returncode == 0, done.stderr
    assert len([*(tmp_path / "sweep").glob("*/result.json")]) == 2


def test_a_folder_that_cannot_be_is_refused_in_a_line(own: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments, told in (
        (["--config-dir", "nowhere"], "nowhere is not a folder"),
        (["--config-dir"], "needs a folder"),
    ):
        assert main(["list", *arguments]) == 2
        assert told in capsys.readouterr().err
    (own / "model" / "latin.yaml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(RequestError, match=r"model/latin\.yaml is not in UTF-8: .*0xe9"), own_config_dir(str(own)):
        pass
    (own / "model" / "lenet.yaml").write_text("# Theirs.\n")
    with pytest.raises(RequestError, match=r"lenet\.yaml has the name of a file of cnnbench"), own_config_dir(str(own)):
        pass


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("model/bad", "_target_: a\n\tfilters: [1]\n", "bad.yaml"),  # a tab
        ("model/twice", "_target_: a\n_target_: b\n", "duplicate key"),
        ("model/nothing", "", "model has no _target_"),
        ("model/keys", "filters: [4]\n", "model has no _target_"),
        ("experiment/under", "optimizer: {lr: 0.5}\n", "must begin with # @package _global_"),
        (
            "experiment/nogroup",
            "# @package _global_\ndefaults: [override /optimiser: sgd]\n",
            "optimiser is not a key",
        ),
    ],
)
@pytest.mark.parametrize("sweep", [[], ["-m", "hydra.sweeper.dry_run=true"]], ids=["run", "sweep"])
def test_a_yaml_that_is_wrong_is_told_in_a_line(
    own: Path, name: str, text: str, told: str, sweep: list[str], capsys: pytest.CaptureFixture
) -> None:
    (own / name).parent.mkdir(exist_ok=True)
    (own / f"{name}.yaml").write_text(text)
    asked = [text for text in SMALL if not text.startswith("model")]
    status = main([*sweep, "--config-dir", str(own), *asked, "sweep.isolate=false", name.replace("/", "=")])
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1) and re.search(told, err), err
