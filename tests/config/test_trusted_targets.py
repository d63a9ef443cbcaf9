"""What a folder from a stranger may make this program build: networks, optimizers and the like, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import config
from PIL import Image

from cnnbench.cli.main import main
from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import groups
from cnnbench.config.trusted_targets import ALLOW, check_overrides, check_targets
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record, write_record


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust") / "run"
    assert train(config("trainer.max_epochs=1"), folder)["status"] == "completed"
    return folder


def hidden(path: Path) -> dict[str, Any]:
    """A folder is made at ``path`` where this is instantiated."""
    return {"_target_": "os.mkdir", "path": str(path)}


PLACES = {
    "at the top": lambda node, evil: node.update(evil),
    "in a list": lambda node, evil: node.update(filters=[evil]),
    "deep": lambda node, evil: node.update(filters={"a": {"b": [evil]}}),
    "as an attribute of a trusted module": lambda node, evil: node.update(
        filters=[{**evil, "_target_": "cnnbench.training.checkpoint_io.os.mkdir"}]
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", ["predict", "rerun"])
def test_no_record_makes_it_call_what_it_names(
    run: Path, tmp_path: Path, place: str, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    record = read_record(run)
    PLACES[place](record["config"]["model"], hidden(tmp_path / "made"))
    write_record(tmp_path / "theirs", record)
    (tmp_path / "theirs" / "checkpoints").symlink_to(run / "checkpoints")
    Image.new("L", (12, 12)).save("x.png")
    assert main([verb, "theirs", *["x.png"] * (verb == "predict")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "os.mkdir, which is of none of the trusted packages" in told
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "override",
    [
        "+callbacks.x={_target_: os.mkdir, path: made}", "+callbacks.x._target_=os.mkdir", "model._target_='os.mkdir'",
        "+callbacks.x={'_target_':os.mkdir}", "+a=os.mkdir +callbacks.x._target_=${a}",
        "+callbacks.x._target_=cnnbench.training.checkpoint_io.shutil.rmtree",
    ],
)  # fmt: skip
def test_no_kept_command_does_either(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs" / ".hydra").mkdir(parents=True)
    overrides = [override] if "+a=" not in override else override.split(" ")
    (tmp_path / "theirs" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    assert main(["resume", "theirs"]) == 2
    assert ("trusted" in (told := capsys.readouterr().err) or "is not known" in told) and told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


def test_all_that_can_be_chosen_is_trusted() -> None:
    for group, choices in groups().items():
        for choice in choices if group != "experiment" else choices[:3]:
            check_targets(resolved(compose([f"{group}={choice}", "++data.path=x"])), choice)


def test_the_user_may_trust_more(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"model": {"_target_": "collections.Counter"}}
    with pytest.raises(RequestError, match=r"trusted packages .*CNNBENCH_TRUST=collections"):
        check_targets(node, "it")
    monkeypatch.setenv(ALLOW, "numpy, collections")
    check_targets(node, "it")
    check_overrides(["model._target_=collections.Counter", "optimizer=adam", "+callbacks.x._target_=null"], "it")
    with pytest.raises(RequestError, match="not there"):
        check_targets({"_target_": "torch.nn.Convolution"}, "it")
