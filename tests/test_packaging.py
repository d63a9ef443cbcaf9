"""The wheel carries the configuration tree and works from an empty folder, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT, SMALL


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    (wheel,) = folder.glob("cnnbench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_every_yaml(unpacked: Path) -> None:
    source = {str(path.relative_to(ROOT / "conf")) for path in (ROOT / "conf").rglob("*.yaml")}
    packed = {
        str(path.relative_to(unpacked / "cnnbench/conf")) for path in (unpacked / "cnnbench/conf").rglob("*.yaml")
    }
    assert packed == source
    assert not (unpacked / "tests").exists()


def test_it_works_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    code = "import cnnbench, sys; print(cnnbench.__file__); from cnnbench.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL, "hydra.run.dir=run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(str(unpacked))
    assert (tmp_path / "run" / "result.json").exists()
