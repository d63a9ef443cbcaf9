"""``cnnbench predict``: the predictions are those of the evaluation, whatever form the image comes in."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import config
from PIL import Image, ImageColor

from cnnbench.analysis.runs import read_run
from cnnbench.cli.main import main
from cnnbench.inference.export import describe
from cnnbench.inference.load import load_run
from cnnbench.inference.predict import as_json
from cnnbench.training import build, figures
from cnnbench.training import train as training
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record, write_record


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run, its test images as PNG files, and the class that the run's own evaluation gave each."""
    folder = tmp_path_factory.mktemp("predict")
    cfg = config("trainer.max_epochs=4", "optimizer.lr=0.01")
    record = training.train(cfg, folder / "run")
    data = build.build_data(cfg)
    images = np.asarray(data.prepared.arrays["test_images"])
    (folder / "images").mkdir()
    for place, image in enumerate(images[:30]):
        Image.fromarray(image[..., 0]).save(folder / "images" / f"{place:03d}.png")
    return SimpleNamespace(folder=folder / "run", images=folder / "images", arrays=images, data=data, record=record)


def test_a_loaded_run_repeats_its_own_test_accuracy(run):
    loaded = load_run(run.folder)
    found = loaded.probabilities(run.arrays).argmax(dim=1).numpy()
    assert (found == run.data.labels("test")).mean() == pytest.approx(run.record["metrics"]["test/accuracy"])


@pytest.mark.parametrize("which", ["best", "last"])
def test_the_weights_are_those_of_the_runs_test_metrics(which: str, tmp_path: Path) -> None:
    asked = ["trainer.max_epochs=3", "optimizer.lr=0.3", "scheduler=none"]
    record = training.train(config(*asked, f"test_with={which}"), tmp_path)
    assert record["best"]["epoch"] < 2  # so that the two differ
    loaded, kept = load_run(tmp_path), np.load(tmp_path / "predictions.npz")
    images = np.asarray(build.build_data(config(*asked)).prepared.arrays["test_images"])
    found = loaded.probabilities(images).max(dim=1).values
    np.testing.assert_allclose(found, kept["test_probability_predicted"], atol=1e-5)
    assert loaded.weights == describe(loaded, tmp_path)["weights"] == which
    assert load_run(tmp_path, "best").weights == "best"


def predicted(capsys: pytest.CaptureFixture, *arguments: object) -> list[dict]:
    assert main(["predict", *map(str, arguments), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_is_classified_file_by_file_whatever_the_batch(run, capsys):
    found = predicted(capsys, run.folder, run.images)
    expected = load_run(run.folder).probabilities(run.arrays[:30])
    assert [Path(one["file"]).stem for one in found] == [f"{i:03d}" for i in range(30)]
    assert [one["class"] for one in found] == [str(int(i)) for i in expected.argmax(dim=1)]
    np.testing.assert_allclose([one["confidence"] for one in found], expected.max(dim=1).values, rtol=1e-5)
    assert all(one["top"][0] == {"class": one["class"], "confidence": one["confidence"]} for one in found)
    small = predicted(capsys, run.folder, run.images, "--batch-size", 7)
    assert [one["class"] for one in small] == [one["class"] for one in found]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
def test_any_mode_and_size_is_taken(run, tmp_path, capsys, mode):
    Image.open(run.images / "000.png").convert("RGB").resize((90, 61)).convert(mode).save(tmp_path / "image.png")
    assert len(predicted(capsys, run.folder, tmp_path / "image.png", "--top", 20)[0]["top"]) == 10


def test_a_confidence_that_is_no_number_is_null_for_json_has_no_nan() -> None:
    assert json.loads(as_json([{"confidence": math.nan}]), parse_constant=pytest.fail) == [{"confidence": None}]


def test_standard_input_is_an_image(run, monkeypatch, capsys):
    content = (run.images / "003.png").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    by_pipe, by_name = predicted(capsys, run.folder, "-")[0], predicted(capsys, run.folder, run.images / "003.png")[0]
    assert by_pipe["top"] == by_name["top"] and by_pipe["file"] == "-"


def test_a_file_that_is_no_image_is_told_and_the_rest_is_done(run, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes((run.images / "001.png").read_bytes()[:50])
    status = main(
        ["predict", str(run.folder), str(run.images / "000.png"), str(tmp_path / "broken.png"), "--format", "csv"]
    )
    told = capsys.readouterr()
    assert status == 1 and "broken.png" in told.err
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert [Path(row["file"]).name for row in rows] == ["000.png"] and float(rows[0]["probability_predicted"]) > 0


def test_the_csv_has_the_columns_of_the_runs_own_predictions(run, tmp_path, capsys):
    found, label = read_run(run.folder).predictions("test"), run.data.labels("test")
    for place in range(12):
        (tmp_path / str(label[place]) / "more").mkdir(parents=True, exist_ok=True)
        file = tmp_path / str(label[place]) / "more" / f"{place:03d}.png"
        Image.fromarray(run.arrays[place][..., 0]).save(file)
    assert main(["predict", str(run.folder), str(tmp_path), str(run.images / "012.png"), "--format", "csv"]) == 0
    *rows, unknown = csv.DictReader(io.StringIO(capsys.readouterr().out))
    for row in rows:
        at = int(Path(row["file"]).stem)
        assert (row["true"], row["predicted"]) == (str(found["true"][at]), str(found["predicted"][at]))
        for name in ("probability_true", "probability_predicted"):
            assert float(row[name]) == pytest.approx(found[name][at], abs=1e-5)
    assert len(rows) == 12 and {*found} - {"row", "logits"} <= {*rows[0]}
    assert [*rows[0]][5:] == ["predicted_2", "probability_2", "predicted_3", "probability_3"]
    assert unknown["true"] == unknown["probability_true"] == "" and float(unknown["probability_predicted"]) > 0


def test_a_missing_file_and_a_link_to_nothing_are_told_and_the_rest_is_done(run, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes((run.images / "000.png").read_bytes())
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere")
    asked = [str(tmp_path), str(run.images / "001.png"), str(tmp_path / "gone.png")]
    assert main(["predict", str(run.folder), *asked, "--format", "csv"]) == 1
    told = capsys.readouterr()
    assert [Path(row["file"]).name for row in csv.DictReader(io.StringIO(told.out))] == ["a.png", "001.png"]
    link, gone = told.err.splitlines()
    assert "b.png is a link to nothing" in link and "gone.png is not there" in gone


def test_a_table_and_a_contact_sheet(run, tmp_path, capsys):
    assert main(["predict", str(run.folder), str(run.images), "--sheet", str(tmp_path / "sheet.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 32 and lines[0].split() == ["file", "class", "confidence", "next"]
    assert lines[-1] == f"images: {tmp_path / 'sheet.png'}"
    assert Image.open(tmp_path / "sheet.png").width > 500


def test_the_sheet_frames_what_is_not_the_class_of_its_folder_and_judges_no_other(run, tmp_path, capsys):
    right = predicted(capsys, run.folder, run.images / "000.png")[0]["class"]
    framed, green = [], []
    for true in (right, str((int(right) + 1) % 10), "unknown"):
        (tmp_path / true).mkdir()
        (tmp_path / true / "a.png").write_bytes((run.images / "000.png").read_bytes())
        sheet = tmp_path / f"{true}.png"
        assert main(["predict", str(run.folder), str(tmp_path / true / "a.png"), "--sheet", str(sheet)]) == 0
        colours = set(Image.open(sheet).convert("RGB").getdata())
        framed.append(ImageColor.getrgb(figures.WRONG) in colours)
        green.append(ImageColor.getrgb(figures.RIGHT) in colours)
    assert (framed, green) == ([False, True, False], [True, False, False])  # of the unknown nothing is said


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda record: record["config"]["model"].update(_target_="os.system"), "not what this installation has"),
        (lambda record: record["config"]["model"].update(_target_="torch.load"), "torch.load"),
        (lambda record: record["config"]["model"].update(filters=[8, 4]), "does not fit"),
        (lambda record: record.update(status="failed"), "failed, not completed"),
    ],
)
def test_a_record_that_was_tampered_with_is_refused(run, tmp_path, change, says):
    record = read_record(run.folder)
    change(record)
    write_record(tmp_path, record)
    (tmp_path / "checkpoints").symlink_to(run.folder / "checkpoints")
    with pytest.raises(RequestError, match=says):
        load_run(tmp_path)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("damage", ["truncated", "pickled code", "missing"])
def test_damaged_weights_are_refused_and_code_in_them_is_not_run(run, tmp_path, damage):
    write_record(tmp_path, read_record(run.folder))
    (tmp_path / "checkpoints").mkdir()
    target = tmp_path / "checkpoints" / "best.ckpt"
    if damage == "truncated":
        target.write_bytes((run.folder / "checkpoints" / "best.ckpt").read_bytes()[:1000])
    elif damage == "pickled code":
        torch.save({"state_dict": Evil(str(tmp_path / "ran"))}, target)
    with pytest.raises(RequestError, match=r"best\.ckpt cannot be read"):
        load_run(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["{run}", "nowhere.png"], "nowhere.png: not there"),
        (["{run}/..", "{images}"], "it is a sweep: name one of its runs"),
        (["{run}", "{images}", "--format", "jsn"], "did you mean 'json'"),
        (["{run}", "{images}", "--top", "0"], "--top must be at least 1"),
        (["{run}", "{images}", "--weights", "first"], "best, last"),
        (["{run}"], "IMAGE"),
    ],
)
def test_a_wrong_request_is_told_in_a_line(run, arguments, says, capsys):
    filled = [text.format(run=run.folder, images=run.images) for text in arguments]
    assert main(["predict", *filled]) == 2
    assert says in capsys.readouterr().err
