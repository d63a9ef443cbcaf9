"""What lies beside the record in a stranger's folder: it is read as data, never waited for, and never written through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import config
from PIL import Image

from cnnbench.analysis.report.write import Report
from cnnbench.analysis.runs import read_run
from cnnbench.analysis.search import read_searches
from cnnbench.analysis.sequential import read_decided
from cnnbench.analysis.statistics import to_number
from cnnbench.cli import confirm
from cnnbench.cli.main import main
from cnnbench.data.cache import find_prepared
from cnnbench.data.folder import image_files
from cnnbench.inference import quantize
from cnnbench.training.train import train

TEXT = "<script>alert(1)</script>\x1b[31m"
DEEP = "[" * 200_000
TRIAL = {"number": 0, "state": "complete", "value": 0.5, "parameters": {"lr": 0.1}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "run"
    Image.new("L", (12, 12)).save(folder.parent / "x.png")
    assert train(config("trainer.max_epochs=1"), folder, ["logger=none"])["status"] == "completed"
    return folder


def write(path: Path, content: Any) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))


SEARCHES: list[Any] = [
    DEEP, [], {"trials": "abc"}, {"trials": [1]}, {"trials": [{}]}, {"trials": [{**TRIAL, "number": TEXT}]},
    {"trials": [{**TRIAL, "parameters": [1]}]}, {"importance": [1]}, {"seeds": "x"},
]  # fmt: skip


@pytest.mark.parametrize("change", SEARCHES, ids=lambda change: str(change)[:40])
def test_a_search_of_another_form_is_left_out(tmp_path: Path, change: Any) -> None:
    known = {"objective": "val/loss", "trials": [TRIAL], "importance": {"lr": 1.0}, "seeds": 1}
    write(tmp_path / "search.json", {**known, **change} if isinstance(change, dict) else change)
    assert read_searches([tmp_path]) == []


def test_a_search_has_plain_values_alone(tmp_path: Path) -> None:
    odd = [
        {**TRIAL, "state": {"a": 1}, "value": TEXT, "parameters": {"a": [1], "b": TEXT}},
        {**TRIAL, "value": 10**400},
    ]
    write(tmp_path / "search.json", {"objective": [1], "trials": odd, "importance": {"a": 0.0, "b": TEXT, "c": None}})
    (found,) = read_searches([tmp_path])
    assert [trial["value"] for trial in found.trials] == [None, None] and found.best() is None
    assert found.trials[0]["parameters"] == {"b": TEXT} and found.trials[0]["state"] == "{'a': 1}"
    assert found.objective == "[1]" and found.importance == {"a": 0.0}


def test_what_was_decided_has_plain_values_alone(tmp_path: Path) -> None:
    known = {"rule": {"metric": "val/loss"}, "told": ["x"]}
    for content in (DEEP, [], {**known, "pairs": [["a", "b", 10**400, 1, 1, 1, "better"], [1]]}, {**known, "told": []}):
        write(tmp_path / "decided.json", content)
        assert read_decided([tmp_path]) == []
    write(tmp_path / "decided.json", {**known, "pairs": [["a", "b", 3, TEXT, 10**400, 1, {"a": 1}]]})
    ((_, _, judgement),) = read_decided([tmp_path])[0].pairs
    assert judgement == (3, None, None, 1.0, "{'a': 1}")


@pytest.mark.parametrize("name", ["search.json", "decided.json"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert read_searches([tmp_path]) == read_decided([tmp_path]) == []


def test_numbers_beyond_all_measure_are_none() -> None:
    assert [*map(to_number, (10**400, -(10**400), 1e308, float("nan"), True, "1"))] == [None] * 6
    assert to_number(3.4e38) == 3.4e38  # the largest of float32


def prepared(folder: Path, **changes: Any) -> Path:
    """A prepared set of two classes, 4 images a split, below ``folder``; returns its own."""
    (own := folder / "set-0").mkdir(parents=True)
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        arrays |= {f"{split}_images": np.zeros((4, 8, 8, 1), np.uint8), f"{split}_labels": np.array([0, 1, 0, 1])}
    arrays |= {name: value for name, value in changes.items() if name.startswith(("test_", "../"))}
    for name, array in arrays.items():
        np.save(own / f"{name}.npy", array)
    meta = {"fingerprint": "f", "checksums": {name: zlib.crc32(array.data) for name, array in arrays.items()},
            "classes": ["a", "b"], "channels": 1, "image_size": 8, "notes": [], "value_range": None}  # fmt: skip
    write(own / "meta.json", {**meta, **{key: value for key, value in changes.items() if key in meta}})
    return own


def test_a_whole_set_is_found(tmp_path: Path) -> None:
    prepared(tmp_path)
    found = find_prepared(tmp_path, "f")
    assert found is not None and found.arrays["test_images"].shape == (4, 8, 8, 1) and found.classes == ["a", "b"]


ODD_SETS: list[dict[str, Any]] = [
    {"checksums": {"test_images": 1}}, {"checksums": []}, {"checksums": {}}, {"classes": 3}, {"classes": ["a"]},
    {"image_size": 9}, {"image_size": "8"}, {"channels": 3}, {"test_images": np.zeros((4, 8, 8, 1))},
    {"test_images": np.zeros((0, 8, 8, 1), np.uint8), "test_labels": np.zeros(0, int)},
    {"test_labels": np.array([0, 1, 0, -1])}, {"test_labels": np.array([0, 1, 0])}, {"test_images": np.array(["a"])},
]  # fmt: skip


@pytest.mark.parametrize("change", ODD_SETS, ids=lambda change: str(change)[:50])
def test_a_set_of_another_form_is_none_and_is_not_removed(tmp_path: Path, change: dict[str, Any]) -> None:
    own = prepared(tmp_path, **change)
    (own / "thesis.txt").write_text("mine")
    assert find_prepared(tmp_path, "f") is None
    assert (own / "thesis.txt").read_text() == "mine"  # a record may name any folder as its cache


@pytest.mark.parametrize("name", ["meta.json", "test_images.npy"])
def test_a_pipe_in_a_cache_is_not_waited_for(tmp_path: Path, name: str) -> None:
    path = prepared(tmp_path) / name
    path.unlink()
    os.mkfifo(path)
    assert find_prepared(tmp_path, "f") is None


COLUMNS = {"row": np.arange(4), "true": np.zeros(4, int), "predicted": np.zeros(4, int),
           "probability_true": np.ones(4), "probability_predicted": np.ones(4)}  # fmt: skip


@pytest.mark.parametrize(
    "change", [{}, {"row": np.arange(3)}, {"true": np.array(["a"] * 4)}, {"row": np.zeros((4, 1), int)}, {"true": None}]
)
def test_predictions_of_another_form_are_none(run: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    columns = {f"test_{name}": column for name, column in (COLUMNS | change).items() if column is not None}
    (tmp_path / "result.json").write_text((run / "result.json").read_text())
    np.savez(tmp_path / "predictions.npz", **columns)
    assert (read_run(tmp_path).predictions() is None) == bool(change)


STATES: list[Callable[[dict[str, torch.Tensor]], Any]] = [
    lambda state: [1],
    lambda state: {1: torch.zeros(1)},
    lambda state: dict.fromkeys(state, "x"),
]


@pytest.mark.parametrize("change", STATES)
def test_weights_of_another_form_are_refused_in_a_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, change: Callable[[Any], Any]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "result.json").write_text((run / "result.json").read_text())
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    torch.save({"state_dict": change(state)}, tmp_path / "checkpoints" / "best.ckpt")
    assert main(["predict", str(tmp_path), str(run.parent / "x.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_int8_files_are_not_written_through_links(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, mine = tmp_path / "export", tmp_path / "mine"
    out.mkdir()
    mine.write_text("mine")
    for name in ("model.json", quantize.INT8["int8-static"]):
        (out / name).symlink_to(mine)
    found = find_prepared(prepared(tmp_path).parent, "f")
    monkeypatch.setattr(quantize, "prepared_set", lambda run: (found, tmp_path))
    monkeypatch.setattr(quantize, "export", lambda *arguments: {})
    monkeypatch.setattr(quantize, "_quantize", lambda source, target, *rest: target.write_text("int8"))
    monkeypatch.setattr(quantize, "_compare", lambda *arguments: {"points_lost": 0.0})
    quantize.export_int8(None, {}, out, "int8-static")  # type: ignore[arg-type]
    assert mine.read_text() == "mine" and (out / quantize.INT8["int8-static"]).read_text() == "int8"
    assert json.loads((out / "model.json").read_text())["int8"] == {quantize.INT8["int8-static"]: {"points_lost": 0.0}}


def test_confirm_writes_through_no_link_beside_the_sweep(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(confirm, "winners", lambda board, top: [(board.rows[0], ["optimizer=adam"])])
    sweep, beside, mine = tmp_path / "theirs", tmp_path / "theirs_confirm", tmp_path / "mine"
    for folder in (sweep, mine):
        folder.mkdir()
    (sweep / "result.json").write_text((run / "result.json").read_text())
    (mine / "sweep.json").write_text("mine")
    beside.symlink_to(mine)
    assert main(["confirm", str(sweep)]) == 2 and "is a link, and" in capsys.readouterr().err
    beside.unlink()
    beside.mkdir()
    (beside / "multirun.yaml").symlink_to(mine / "sweep.json")
    assert main(["confirm", str(sweep)]) == 2 and "is a link out of" in capsys.readouterr().err
    assert (mine / "sweep.json").read_text() == "mine"


def test_links_in_a_circle_do_not_multiply_images(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "below" / "x.png")
    for name in "abcdefgh":  # 8 to the 40th
        (tmp_path / name).symlink_to(tmp_path)
        (tmp_path / "below" / name).symlink_to("..")
    assert [Path(entry.path).name for entry in image_files(tmp_path)] == ["x.png"]


def test_no_control_character_is_in_a_report(tmp_path: Path) -> None:
    Report("a\x1b[31m\u202e\n", None, "md").write(tmp_path)  # type: ignore[arg-type]
    assert (tmp_path / "report.md").read_text() == "a\\u001b[31m\\u202e\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no safe path before")
def test_a_folder_that_a_command_runs_in_is_not_imported_from(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    for name in ("tensorboard/__init__.py", "tensorboard/main.py"):
        (tmp_path / name).write_text("import os; os.mkdir('MARK')")
    called = (
        "import sys; from cnnbench.cli.main import command; sys.argv[1:] = ['tensorboard', '.', '--version']; command()"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-P", "-c", called], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0 and not (tmp_path / "MARK").exists(), done.stderr
