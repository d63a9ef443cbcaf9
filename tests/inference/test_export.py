"""``cnnbench export``: the files say what the run says, for every model; one that does not is not kept."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import config
from hydra.utils import instantiate

from cnnbench.cli.main import main
from cnnbench.config.groups import groups
from cnnbench.data.augment import Normalize
from cnnbench.inference import export
from cnnbench.inference.load import TrainedRun, load_run
from cnnbench.models.fine_tune import classifier_of
from cnnbench.training import build
from cnnbench.training import train as training
from cnnbench.utils.record import read_record, write_record

MEAN, STD = [0.2, 0.4, 0.6], [0.3, 0.5, 0.7]
TEXTS = ("model", "fingerprint", "weights", "weights_sha256")  # of the description; the others are JSON in ONNX


@pytest.fixture(autouse=True)
def _without_handlers_of_earlier_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's handler of a run in an earlier test writes to an output that pytest has closed."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run whose training gave the loss a softmax too much and left dropout on, and its test images."""
    folder = tmp_path_factory.mktemp("export") / "run"
    cfg = config(
        "trainer.max_epochs=1", "model.dropout=0.5", "model.hidden=[16]", "data.mean=0.3", "data.std=0.7",
        "quirks.softmax_before_loss=true", "quirks.dropout_in_evaluation=true",
    )  # fmt: skip
    training.train(cfg, folder)
    return SimpleNamespace(
        folder=folder,
        images=np.array(build.build_data(cfg).prepared.arrays["test_images"][:9]),
        record=read_record(folder),
    )


def through_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    """What a program that knows nothing of cnnbench gets from the file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def untrained(name: str, channels: int, size: int) -> TrainedRun:
    """A network in the place of a finished run: random weights, norms and a last layer that let images be told apart."""
    torch.manual_seed(0)
    node = config(f"model={name}", base=[])["model"]
    network = instantiate(node, in_channels=channels, num_classes=7, image_size=size)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of the batches below
    with torch.no_grad():
        images = torch.randn(16, channels, size, size)
        network(images)
        logits = network.eval().to(memory_format=torch.channels_last)(images)
        last, spread = classifier_of(network), logits.std(dim=0).mean()
        last.weight /= spread
        last.bias.sub_(logits.mean(dim=0)).div_(spread)
    scale = Normalize(MEAN[:channels], STD[:channels])
    return TrainedRun({}, network, [f"class {i}" for i in range(7)], size, channels, scale)


@pytest.mark.parametrize("name", groups()["model"])
def test_every_model_says_the_same_from_its_files(name: str, tmp_path: Path) -> None:
    run = untrained(name, 3, 32)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    export.export(run, {}, tmp_path, ["onnx", "torch"], images)  # compares both, in batches of 1 and 5
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        expected = run.network((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std).softmax(dim=1).numpy()
    assert np.ptp(expected, axis=0).max() > 0.05  # otherwise any image would do
    for rows in (slice(0, 1), slice(1, 6)):
        found = through_onnx(tmp_path / "model.onnx", images[rows])
        np.testing.assert_allclose(found, expected[rows], atol=1e-4)


def test_a_run_is_exported_with_what_belongs_to_it(run, tmp_path, capsys):
    assert main(["export", str(run.folder), "--weights", "last"]) == 0
    told = capsys.readouterr()
    assert "model.onnx" in told.out and "256 test images" in told.out and told.err == ""
    out = run.folder / "export"
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.onnx", "model.pt2"]
    expected = load_run(run.folder, "last").probabilities(run.images).numpy()
    np.testing.assert_allclose(through_onnx(out / "model.onnx", run.images), expected, atol=1e-5)
    beside = json.loads((out / "model.json").read_text())
    assert beside["classes"] == [str(digit) for digit in range(10)]
    assert (beside["image_size"], beside["channels"]) == (12, 1)
    assert (beside["mean"], beside["std"]) == ([0.3], [0.7])
    assert beside["fingerprint"] == run.record["fingerprint"]
    weights = (run.folder / "checkpoints" / "last.ckpt").read_bytes()
    assert (beside["weights"], beside["weights_sha256"]) == ("last", hashlib.sha256(weights).hexdigest())
    model = onnx.load(out / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    inside = {entry.key: entry.value for entry in model.metadata_props}
    assert {key: text if key in TEXTS else json.loads(text) for key, text in inside.items()} == beside
    (given,), (gives,) = model.graph.input, model.graph.output
    for value, described in ((given, beside["input"]), (gives, beside["output"])):
        assert value.name == described["name"]
        assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == described["shape"]
    extra = {"model.json": ""}
    torch.export.load(out / "model.pt2", extra_files=extra)
    assert json.loads(extra["model.json"]) == beside


@pytest.mark.parametrize("kind", ["int8-dynamic", "int8-static"])
def test_an_int8_file_says_what_test_accuracy_it_loses(run, tmp_path, capsys, kind):
    assert main(["export", str(run.folder), "--format", kind, "--out", str(tmp_path)]) == 0
    told, data = capsys.readouterr().out, build.build_data(run.record["config"]).prepared
    images, labels = (np.array(data.arrays[f"test_{name}"]) for name in ("images", "labels"))
    file = f"model-{kind}.onnx"
    before = load_run(run.folder).probabilities(images).numpy().argmax(axis=1)
    after = through_onnx(tmp_path / file, images[:64]).argmax(axis=1)
    said = json.loads((tmp_path / "model.json").read_text())["int8"][file]
    assert said["accuracy"] == (before == labels).mean()
    assert said["points_lost"] == pytest.approx(100 * (said["accuracy"] - said["accuracy_int8"]))
    assert (before[:64] != after).sum() <= said["changed"] <= said["test_images"] == len(labels)
    assert f"{said['accuracy_int8']:.2%} instead of {said['accuracy']:.2%}" in told
    stored = {tensor.data_type for tensor in onnx.load(tmp_path / file).graph.initializer if len(tensor.dims) >= 2}
    assert stored <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_int8_is_of_a_network_that_sees_an_image_and_its_mirror(run, tmp_path):
    record = {**run.record, "config": {**run.record["config"], "test_time_augmentation": "flip"}}
    shutil.copytree(run.folder, tmp_path / "run")
    write_record(tmp_path / "run", record)
    assert main(["export", str(tmp_path / "run"), "--format", "int8-dynamic"]) == 0
    expected = load_run(tmp_path / "run").probabilities(run.images).numpy()
    np.testing.assert_allclose(
        through_onnx(tmp_path / "run" / "export" / "model-int8-dynamic.onnx", run.images), expected, atol=0.02
    )


def test_int8_needs_the_test_set(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cnnbench.inference.export.find_prepared", lambda *_: None)
    assert main(["export", str(run.folder), "--format", "int8-static", "--out", str(tmp_path / "new")]) == 2
    assert "test set, which is no longer in" in capsys.readouterr().err and not (tmp_path / "new").exists()


def corrupted(write):
    """``write`` after other weights for a class in the last layer, as a wrong translation would leave it."""

    def writing(program, path, description):
        name = next(key for key in reversed(program.state_dict) if key.endswith("weight"))
        program.state_dict[name].data[0] += 1.0
        write(program, path, description)

    return writing


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_file_that_says_something_else_is_not_kept(run, tmp_path, monkeypatch, capsys, name):
    good = export.FORMATS[name]
    bad = export.Format(good.file, corrupted(good.write), good.open)
    monkeypatch.setitem(export.FORMATS, name, bad)
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    (old / good.file).write_text("as it was")
    for out in (new, old):
        assert main(["export", str(run.folder), "--out", str(out)]) == 1
        told = capsys.readouterr()
        assert told.out == "" and len(told.err.splitlines()) == 1 and good.file in told.err and "1e-04" in told.err
    assert not new.exists()
    assert [path.name for path in old.iterdir()] == [good.file] and (old / good.file).read_text() == "as it was"


def test_a_program_that_gives_no_number_is_found_out(run):
    loaded = load_run(run.folder)
    nothing = np.full((1, 10), np.nan, np.float32)
    with pytest.raises(export.ExportDiffers, match="9 of 9 images"):
        export.compare(loaded, lambda images: nothing.repeat(len(images), axis=0), run.images, "model.onnx")
    with pytest.raises(export.ExportDiffers, match=r"\(1, 9\)"):
        export.compare(loaded, lambda images: nothing[:, :9], run.images, "model.onnx")


def test_files_that_are_there_are_replaced(run, tmp_path):
    (tmp_path / "model.onnx").write_text("old")
    assert main(["export", str(run.folder), "--out", str(tmp_path), "--format", "onnx"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))


def test_files_of_other_weights_do_not_stay_beside_a_description_of_these(run, tmp_path):
    command = ["export", str(run.folder), "--out", str(tmp_path)]
    assert main([*command, "--format", "both", "--weights", "best"]) == 0
    (tmp_path / "model.json").write_text(
        (tmp_path / "model.json").read_text().replace('"weights_sha256": "', '"weights_sha256": "0')
    )
    (tmp_path / "notes.txt").write_text("mine")
    assert main([*command, "--format", "onnx"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx", "notes.txt"]
    assert main([*command, "--format", "torch"]) == 0  # of the same weights, beside the other file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx", "model.pt2", "notes.txt"]


def test_without_its_test_set_a_run_is_compared_on_noise(run, tmp_path, capsys):
    record = read_record(run.folder)
    record["config"]["data"]["cache"] = str(tmp_path / "nothing")
    write_record(tmp_path, record)
    (tmp_path / "checkpoints").symlink_to(run.folder / "checkpoints")
    assert main(["export", str(tmp_path), "--format", "torch"]) == 0
    assert "256 images of noise" in capsys.readouterr().out


class Undecided(torch.nn.Module):
    """What it does depends on the values of an image, which no graph can say."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :7] * (2 if images.sum() > 0 else 1)


def test_a_network_that_is_no_graph_is_refused_in_a_line(tmp_path):
    run = untrained("tiny_cnn", 1, 12)
    other = TrainedRun({}, Undecided(), run.classes, 12, 1, run.normalize)
    with pytest.raises(export.RequestError, match="torch cannot export Undecided") as error:
        export.export(other, {}, tmp_path / "out", ["onnx"], np.zeros((1, 12, 12, 1), np.uint8))
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["{run}", "--format", "onx"], "did you mean 'onnx'"),
        (["{run}", "--weights", "first"], "best, last"),
        (["{run}/.."], "it is a sweep: name one of its runs"),
        (["{run}", "--out", "{run}/result.json"], "result.json cannot be written"),
        ([], "RUN"),
        (["{run}", "--fromat", "onnx"], "cnnbench export --help"),
    ],
)
def test_a_wrong_request_is_told_in_a_line(run, arguments, says, capsys):
    assert main(["export", *(text.format(run=run.folder) for text in arguments)]) == 2
    told = capsys.readouterr().err
    assert says in told and len(told.splitlines()) == 1


def test_without_onnx_it_is_said_what_to_install_and_torch_still_works(run, tmp_path, monkeypatch, capsys):
    known = export.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name.startswith("onnx") else known(name))
    assert main(["export", str(run.folder), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "pip install 'cnnbench[export]'" in told and len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert main(["export", str(run.folder), "--out", str(tmp_path / "out"), "--format", "torch"]) == 0
