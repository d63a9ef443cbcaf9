"""What TensorBoard is given, read back from the event files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import config
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from cnnbench.cli import tensorboard as browse
from cnnbench.training import train as training
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record

EPOCHS = 5
ASKED = [f"trainer.max_epochs={EPOCHS}", "optimizer=momentum", "model.dropout=0.2", "model.hidden=[12]", "seed=3"]
CHOICES = {"model": "tiny_cnn", "optimizer": "momentum"}


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    asked = [*ASKED, *overrides]
    record = training.train(config("logger=tensorboard", *asked), folder, asked, CHOICES)
    assert record["status"] == "completed", record["error"]
    return record


def events(folder: Path) -> list[Any]:
    paths = sorted((folder / "tensorboard").glob("events.out.tfevents.*"))
    return [event for path in paths for event in EventFileLoader(str(path)).Load()]


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return found.Reload()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    run(path)
    return path


def test_the_scalars_are_those_of_the_metrics_csv(folder: Path) -> None:
    found = read(folder)
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {f"{name}/{split}": f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy", "recall")}  # fmt: skip
    for tag, column in {**columns, "optimizer/lr": "lr"}.items():
        points = found.Scalars(tag)
        assert [point.step for point in points] == [1, 2, 3, 4, 5]
        np.testing.assert_allclose([p.value for p in points], [float(row[column]) for row in rows], rtol=1e-6)
    assert [point.value for point in found.Scalars("optimizer/momentum")] == pytest.approx([0.9] * EPOCHS)
    by_class = [[point.value for point in found.Scalars(f"recall by class/{digit}")] for digit in range(10)]
    np.testing.assert_allclose(np.mean(by_class, axis=0), [float(row["val/recall"]) for row in rows], rtol=1e-6)


def test_the_final_metrics_are_those_of_the_record(folder: Path) -> None:
    found, record = read(folder), read_record(folder)
    for name in ("accuracy", "recall", "loss"):
        (point,) = found.Scalars(f"{name}/test")
        assert (point.step, point.value) == (EPOCHS, pytest.approx(record["metrics"][f"test/{name}"], rel=1e-6))
    (best,) = found.Scalars("accuracy/val (best)")
    assert best.value == pytest.approx(record["best"]["val/accuracy"], rel=1e-6)


def test_the_pictures_go_through_the_epochs_and_are_those_in_figures(folder: Path) -> None:
    found = read(folder)
    steps = {tag: [image.step for image in found.Images(tag)] for tag in found.Tags()["images"]}
    of_epochs = ("confusion", "predictions", "first-layer kernels")
    at_the_end = ("confusion", "predictions", "mistakes", "recall by class", "first-layer kernels")
    assert steps == {
        **{f"validation/{name}": [1, 2, 4, 5] for name in of_epochs},
        **{f"test/{name}": [EPOCHS] for name in at_the_end},
    }
    (kernels,) = found.Images("test/first-layer kernels")
    sent, written = Image.open(io.BytesIO(kernels.encoded_image_string)), Image.open(folder / "figures" / "kernels.png")
    assert np.array_equal(np.asarray(sent), np.asarray(written))
    assert not list((folder / "figures").glob("*epoch*"))


def test_the_graph_is_there_once_and_is_the_network(folder: Path) -> None:
    graphs = [event.graph_def for event in events(folder) if event.HasField("graph_def")]
    assert len(graphs) == 1
    operations = [node.op for node in GraphDef.FromString(graphs[0]).node]
    assert operations.count("aten::_convolution") == 2


def test_there_is_one_hparams_entry_with_what_was_asked_for(folder: Path) -> None:
    entries = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    (start,) = [entry.session_start_info for entry in entries if entry.HasField("session_start_info")]
    values = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
    assert values == {
        "optimizer": "momentum", "optimizer.lr": 0.02, "trainer.max_epochs": EPOCHS, "model.dropout": 0.2,
        "model.hidden": "[12]", "seed": 3,
    }  # fmt: skip
    (experiment,) = [entry.experiment for entry in entries if entry.HasField("experiment")]
    tags = [info.name.tag for info in experiment.metric_infos]
    assert tags == ["accuracy/test", "recall/test", "loss/test", "accuracy/val (best)"]


def test_charts_of_both_splits_are_laid_out_once(folder: Path) -> None:
    found = read(folder)
    (layout,) = found.Tensors("custom_scalars__config__")
    text = layout.tensor_proto.string_val[0].decode(errors="ignore")
    for word in ("accuracy/train", "accuracy/val", "loss/val", "recall by class", "optimizer/lr", "optimizer/momentum"):
        assert word in text.replace("\\", "")


def test_looking_changes_nothing(folder: Path, tmp_path: Path) -> None:
    blind = training.train(config("logger=none", *ASKED), tmp_path, ASKED, CHOICES)
    assert blind["model"]["sha256"] == read_record(folder)["model"]["sha256"]
    assert not (tmp_path / "tensorboard").exists()
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        path.name for path in (folder / "figures").iterdir()
    }


def test_a_run_that_begins_anew_shows_each_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # it ends after an epoch's points are sent, before there is a checkpoint
        patch.setattr(training.BestAndLast, "on_train_epoch_end", lambda *_: 1 / 0)
        failed = training.train(config("logger=tensorboard", *ASKED), tmp_path, ASKED, CHOICES)
        assert failed["status"] == "failed" and len(read(tmp_path).Scalars("loss/val")) == 1
    run(tmp_path)
    steps = [event.step for event in events(tmp_path) for value in event.summary.value if value.tag == "loss/val"]
    assert steps == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("classes", "most"), [(10, 1_000_000), (100, 2_000_000)])
def test_a_hundred_epochs_stay_small(tmp_path: Path, classes: int, most: int) -> None:
    labels, rng = np.arange(classes).repeat(2), np.random.default_rng(0)
    arrays = {
        f"{split}_{kind}": values
        for split in ("train", "val", "test")
        for kind, values in (
            ("images", rng.integers(0, 255, (len(labels), 28, 28), dtype=np.uint8)),
            ("labels", labels[:, None]),
        )
    }
    np.savez(tmp_path / "set.npz", **arrays)
    data = ["data=npz", f"data.path={tmp_path / 'set.npz'}", "data.image_size=28", "data.limit_train=null"]
    run(tmp_path / "run", *data, "trainer.max_epochs=100")
    size = sum(path.stat().st_size for path in (tmp_path / "run" / "tensorboard").iterdir())
    assert size < most
    assert [image.step for image in read(tmp_path / "run").Images("validation/confusion")] == [
        1, 2, 4, 8, 16, 32, 64, 100,
    ]  # fmt: skip


# Browsing


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("optimizer=adam,scheduler=cosine,seed=0", "adam cosine seed=0"),
        ("model.filters=[6,16],model.norm=batch", "filters=[6,16] norm=batch"),
        ("optimizer.first.lr=0.1,optimizer.then.lr=0.2", "optimizer.first.lr=0.1 optimizer.then.lr=0.2"),
        ("2026-01-02_10-11-12", "2026-01-02_10-11-12"),
    ],
)
def test_runs_are_called_by_what_varies(folder: str, name: str) -> None:
    assert browse.short_name(folder) == name


def test_each_run_has_a_link_and_later_ones_get_theirs(tmp_path: Path) -> None:
    def begin(name: str) -> None:
        (tmp_path / "outputs" / name / "tensorboard").mkdir(parents=True)
        (tmp_path / "outputs" / name / "tensorboard" / "events.out.tfevents.1").touch()

    links = tmp_path / "links"
    begin("sweep/optimizer=sgd,seed=0")
    browse.link_runs(links, [tmp_path / "outputs"])
    begin("sweep/optimizer=sgd,seed=1")
    begin("alone")
    browse.link_runs(links, [tmp_path / "outputs"])
    found = {str(path.parent.relative_to(links)) for path in links.glob("**/*/events*")} | {
        str(path.relative_to(links)) for path in links.rglob("*") if path.is_symlink()
    }
    assert found == {"sweep/sgd seed=0", "sweep/sgd seed=1", "alone"}
    assert (links / "sweep" / "sgd seed=1").resolve() == tmp_path / "outputs/sweep/optimizer=sgd,seed=1/tensorboard"
    assert list(browse.name_runs([tmp_path / "outputs/sweep/optimizer=sgd,seed=0"])) == ["sgd seed=0"]
    assert list(browse.name_runs([tmp_path / "outputs/sweep/optimizer=sgd,seed=0/tensorboard"])) == ["tensorboard"]


@pytest.mark.parametrize(
    ("line", "folders", "port", "rest"),
    [
        ("", "outputs", "6006", ""),
        ("--reload_interval 5", "outputs", "6006", "--reload_interval 5"),
        ("a b --port 7 --reload_interval 5", "a b", "7", "--reload_interval 5"),
        ("--port 7 a --reload_interval=5 --bind_all", "a", "7", "--reload_interval=5 --bind_all"),
        ("a --reload_interval 5 --port=7", "a", "7", "--reload_interval 5"),
    ],
)
def test_options_of_tensorboard_keep_their_values(line: str, folders: str, port: str, rest: str) -> None:
    asked, given, own = browse.parse(line.split())
    assert ([str(folder) for folder in given], asked.port, own) == (folders.split(), port, rest.split())


def test_there_must_be_something_to_browse(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nowhere is not there"):
        browse.main([str(tmp_path / "nowhere")])
