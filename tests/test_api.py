"""``from cnnbench import train, load_run, load_results``: the page that shows it is run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, SMALL

import cnnbench
from cnnbench.utils.record import read_record


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(block, names)
    told = capsys.readouterr().out
    assert "adam completed" in told and "did you mean 'adam'?" in told
    assert read_record(tmp_path / "outputs" / "adam")["choices"]["optimizer"] == "adam"
    assert set(names["results"]["optimizer"]) == {"adam", "sgd"} and len(names["results"]) == 2
    assert names["best"]["test/accuracy"] == read_record(Path(names["best"]["folder"]))["metrics"]["test/accuracy"]
    assert names["probabilities"].shape == (2, 10)


def test_a_run_without_a_folder_gets_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # in the same second, perhaps
        assert cnnbench.train(*SMALL, "trainer.max_epochs=1", "logger=none")["status"] == "completed"
    assert len(cnnbench.load_results("outputs")) == 2


def test_importing_the_package_imports_next_to_nothing() -> None:
    code = "import cnnbench, sys; print('torch' in sys.modules, 'hydra' in sys.modules, sorted(cnnbench.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("[")[0].split() == ["False", "False"]


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="load_runs"):
        cnnbench.load_runs  # noqa: B018
