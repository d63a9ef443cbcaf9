"""Reading local files in the formats of Hugging Face, compared with what ``datasets`` itself decodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnbench.data.cache import prepare
from cnnbench.data.sources import HuggingFace
from cnnbench.utils.errors import RequestError


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    package = pytest.importorskip("datasets", reason="needs pip install 'cnnbench[hf]'")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "of_datasets")
    return package


def parquet(datasets: Any, path: Path, classes: list[str] | None = None, **columns: Any) -> Any:
    """Twelve grey images in a .parquet file; the class is a number with names, or what ``columns`` say."""
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    features = {"image": datasets.Image()}
    if classes:
        columns |= {"label": [row % len(classes) for row in range(12)]}
        features |= {"label": datasets.ClassLabel(names=classes)}
    whole = datasets.Dataset.from_dict({**columns, "image": [Image.fromarray(one) for one in pixels]})
    whole = whole.cast(datasets.Features({**whole.features, **features}))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.to_parquet(path)
    return whole


def test_a_folder_of_parquet_files_has_the_pixels_of_datasets(datasets: Any, tmp_path: Path) -> None:
    names = {"train": "train", "val": "validation", "test": "test"}
    for name in names.values():
        parquet(datasets, tmp_path / "set" / "data" / f"{name}-00000-of-00001.parquet", ["cat", "dog"])
    store = prepare(HuggingFace(path="set", channels=1), tmp_path / "set", None, tmp_path / "cache")
    loaded = datasets.load_dataset(str(tmp_path / "set"))
    for split, name in names.items():
        expected = np.stack([np.asarray(image) for image in loaded[name]["image"]])
        np.testing.assert_array_equal(store.arrays[f"{split}_images"][..., 0], expected)
        assert store.arrays[f"{split}_labels"].tolist() == [*loaded[name]["label"]]
    assert store.classes == ["cat", "dog"] and "val is validation (12)" in store.notes[0]
    with pytest.raises(RequestError, match=r"say which is .* with data\.splits"):
        prepare(HuggingFace(path="set", splits={"train": "training"}), tmp_path / "set", None, tmp_path / "cache")
    two = HuggingFace(path="set", splits={"train": "train", "test": "validation"})
    assert "val_labels" not in prepare(two, tmp_path / "set", None, tmp_path / "cache").arrays


def test_a_file_is_split_and_its_columns_are_found_or_chosen(datasets: Any, tmp_path: Path) -> None:
    file, words = tmp_path / "a.parquet", ["b", "a", "c"] * 4
    whole = parquet(datasets, file, kind=words, number=[row % 2 for row in range(12)])
    with pytest.raises(
        RequestError, match=r"no known column of labels; choose data\.source\.label_column from kind, number"
    ):
        HuggingFace(path="a.parquet").read(file)
    store = prepare(HuggingFace(path="a", label_column="kind", test_share=0.5), file, None, tmp_path / "cache")
    assert store.classes == ["a", "b", "c"] and np.bincount(store.arrays["test_labels"]).tolist() == [2, 2, 2]
    found = {image.tobytes(): store.classes[label] for image, label in zip(
        [*store.arrays["train_images"][..., 0], *store.arrays["test_images"][..., 0]],
        [*store.arrays["train_labels"], *store.arrays["test_labels"]], strict=True)}  # fmt: skip
    assert found == {np.asarray(row["image"]).tobytes(): row["kind"] for row in whole}
    with pytest.raises(RequestError, match="image is Image, no column of classes"):
        HuggingFace(path="a", label_column="image").read(file)


def test_images_that_have_no_class_or_do_not_decode_are_named(datasets: Any, tmp_path: Path) -> None:
    parquet(datasets, tmp_path / "a.parquet", label=[-1, *range(11)])
    whole = datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"))["train"]
    named = datasets.ClassLabel(names=[str(number) for number in range(11)])
    whole.cast_column("label", named).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(RequestError, match="without one class in label of train"):
        HuggingFace(path="b").read(tmp_path / "b.parquet")
    rows = {"image": [{"bytes": b"no image", "path": None}] * 4, "label": [0, 1] * 2}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(RequestError, match=r"train\[\d\] cannot be decoded as an image"):
        prepare(HuggingFace(path="c", test_share=0.5), tmp_path / "c.parquet", None, tmp_path / "cache")


def test_what_is_missing_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"data\.name=OWNER/NAME .* or data\.path"):
        HuggingFace().identity(None)
    with pytest.raises(RequestError, match=r"data\.path=FOLDER.*; there are no files in .*nope"):
        HuggingFace(path="nope").identity(tmp_path / "nope")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(RequestError, match=r"pip install 'cnnbench\[hf\]'"):
        HuggingFace("a/b").read(None)


@pytest.mark.parametrize(
    "files",
    [
        "http://127.0.0.1:9/a.parquet",
        "a::http://127.0.0.1:9/spec.json",
        "../*.parquet",
        "/etc/*",
        "h\\u0074tp:\\u002f/x",
    ],
)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_card_that_names_data_elsewhere_is_refused(datasets: Any, tmp_path: Path, name: str, files: str) -> None:
    parquet(datasets, tmp_path / "set" / "train.parquet", ["cat", "dog"])
    text = f'configs:\n- config_name: a\n  data_files: train.parquet\n- config_name: b\n  data_files: "{files}"\n'
    (tmp_path / "set" / name).write_text(f"---\n{text}---\n" if name == "README.md" else text)
    with pytest.raises(RequestError, match=rf"{name} names data outside of the set"):
        HuggingFace(path="set").read(tmp_path / "set")
    (tmp_path / "set" / name).unlink()
    os.mkfifo(tmp_path / "set" / name)  # which is not waited for
    with pytest.raises(RequestError, match=rf"{name} cannot be read"):
        HuggingFace(path="set").read(tmp_path / "set")


def test_the_card_of_a_set_on_the_hub_is_looked_at_first(
    datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "card").write_text("configs: [{config_name: a, data_files: 'http://127.0.0.1:9/a.parquet'}]")
    (tmp_path / "card").rename(tmp_path / ".huggingface.yaml")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(tmp_path / ".huggingface.yaml"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(RequestError, match="names data outside of the set"):
        HuggingFace("owner/name").read(None)


def test_a_name_that_is_not_of_the_hub_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    for name in (
        "pandas",
        "generator",
        "../set",
        "/etc",
        "http://x/y",
        "hf://a/b",
        "buckets/a",
        ".",
        "owner/name",
        "a/b/c",
    ):
        with pytest.raises(RequestError, match="is not OWNER/NAME of the hub"):
            HuggingFace(name).identity(None)
    assert HuggingFace("owner/other").identity(None)["dataset"] == "owner/other"


def test_an_image_that_is_a_pipe_is_not_waited_for(datasets: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    rows = {"image": [{"bytes": None, "path": str(tmp_path / "pipe")}] * 4, "label": [0, 1] * 2}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(RequestError, match=r"pipe cannot be decoded as an image \(it is no file\)"):
        prepare(HuggingFace(path="a", test_share=0.5), tmp_path / "a.parquet", 8, tmp_path / "cache")


@pytest.mark.parametrize("name", ["train/metadata.csv", "train/a/x.png", "dataset_infos.json", "x.parquet"])
def test_a_pipe_or_device_in_a_folder_is_left_out(datasets: Any, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    for number in range(8):
        path = folder / ("train", "test")[number // 4] / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    for make in (lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        make(folder / name)
        prepared = prepare(HuggingFace(path=str(folder)), folder, None, tmp_path / f"cache {make}")
        assert prepared.classes == ["a", "b"] and len(prepared.arrays["train_labels"]) == 4
        (folder / name).unlink()
