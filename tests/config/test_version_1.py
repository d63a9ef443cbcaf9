"""A run of version 1, as it was left on disk: its targets resolve, its fingerprint holds, and commands take it.

``version_1`` was written by the last commit of version 1; checkpoints and pictures are left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from cnnbench.cli.main import main
from cnnbench.config.compose import compose, fingerprint, resolved
from cnnbench.config.schema import check_values
from cnnbench.config.settings import VERSION_1_TARGETS, with_current_targets
from cnnbench.config.trusted_targets import check_config
from cnnbench.training import preflight
from cnnbench.utils.record import read_record

RUN = Path(__file__).parent / "version_1"


def targets(node: Any) -> set[str]:
    """Every ``_target_`` in a configuration."""
    children = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    own = {node["_target_"]} if isinstance(node, dict) and node.get("_target_") else set()
    return own.union(*map(targets, children))


def test_the_fingerprint_is_that_of_the_same_overrides_now() -> None:
    record = read_record(RUN)
    written = resolved(OmegaConf.load(RUN / ".hydra" / "config.yaml"))
    now = resolved(compose(record["overrides"]))
    assert fingerprint(now) == fingerprint(written) == fingerprint(record["config"]) == record["fingerprint"]


def test_targets_that_have_moved_are_found() -> None:
    config = read_record(RUN)["config"]
    moved = targets(config) - targets(with_current_targets(config))
    assert {name for old in VERSION_1_TARGETS for name in moved if name.startswith(old)} == moved and len(moved) >= 3
    for target in targets(with_current_targets(config)):
        assert callable(get_object(target))


def test_the_configuration_passes_the_checks_of_a_rerun() -> None:
    config = with_current_targets(read_record(RUN)["config"])
    check_config(config, "the record")
    check_values(config)
    preflight.check(config)


def test_a_report_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    assert main(["report", str(tmp_path), "--format", "csv"]) == 0
    assert f"{read_record(RUN)['metrics']['test/accuracy']:.3f}"[:5] in capsys.readouterr().out
