"""Reading images that a CSV file lists, and what is said of lines that are wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import cnnbench
from PIL import Image

from cnnbench.data.cache import PreparedSet, prepare
from cnnbench.data.sources import Csv, ImageFolder
from cnnbench.utils.errors import RequestError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve images, each of one grey, of three classes; their table is written by each test."""
    (tmp_path / "img").mkdir()
    for number in range(12):
        Image.new("L", (6, 6), 10 * number).save(tmp_path / "img" / f"{number}.png")
    return tmp_path / "labels.csv"


def listed(table: Path, text: str, **options: object) -> PreparedSet:
    table.write_text(text, encoding="utf-8")
    return prepare(Csv(channels=1, **options), table, 6, table.parent / "cache")


def content(store: PreparedSet, split: str) -> dict[str, tuple[str, int]]:
    """Class and grey of each image of a split, by its file."""
    files, images, labels = (store.arrays[f"{split}_{kind}"] for kind in ("files", "images", "labels"))
    return {
        file.decode(): (store.classes[label], int(image[0, 0, 0]))
        for file, image, label in zip(files, images, labels, strict=True)
    }


def lines(separator: str = ",", header: str = "path,label,split") -> str:
    rows = [f"img/{i}.png,{'abc'[i % 3]},{('train', 'Test', 'valid')[i // 6 + i // 9]}" for i in range(12)]
    return "\n".join([header, *rows]).replace(",", separator) + "\n"


@pytest.mark.parametrize("header", ["path,label,split", "FileName,Class,Set", "image,target,subset"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_usual_names_of_columns_and_splits_are_known(table: Path, header: str, separator: str) -> None:
    store = listed(table, lines(separator, header))
    expected = {f"img/{i}.png": ("abc"[i % 3], 10 * i) for i in range(12)}
    parts = {"train": range(6), "test": range(6, 9), "val": range(9, 12)}
    for split, numbers in parts.items():
        assert content(store, split) == {f"img/{i}.png": expected[f"img/{i}.png"] for i in numbers}


def test_columns_and_splits_may_be_named(table: Path) -> None:
    text = "x,label,truth,fold\n" + "\n".join(f"img/{i}.png,?,{i % 2},{i // 4}" for i in range(12))
    columns = {"path_column": "x", "label_column": "truth", "split_column": "fold"}
    store = listed(table, text, splits={"train": "0", "test": "2"}, **columns)
    assert {*content(store, "train")} == {f"img/{i}.png" for i in range(4)}
    assert {*content(store, "test")} == {f"img/{i}.png" for i in range(8, 12)}
    assert "left out are 4 of '1'" in store.notes[0]


def test_without_splits_the_test_set_is_that_of_a_folder_of_the_same_files(table: Path) -> None:
    store = listed(table, "path,label\n" + "\n".join(f"img/{i}.png,{'ab'[i % 2]}" for i in range(12)), test_share=0.5)
    for number in range(12):
        (table.parent / "tree" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (table.parent / "img" / f"{number}.png").rename(table.parent / "tree" / "ab"[number % 2] / f"{number}.png")
    tree = prepare(ImageFolder(channels=1, test_share=0.5), table.parent / "tree", 6, table.parent / "cache")
    assert store.fingerprint == tree.fingerprint


def test_paths_may_be_absolute_names_quoted_and_classes_numbers(table: Path) -> None:
    awkward = table.parent / "a, b \u00fc.png"
    Image.new("L", (6, 6), 7).save(awkward)
    rows = [f"{table.parent}/img/{i}.png,{i}" for i in range(11)] + [f'"{awkward.name}",10']
    store = listed(table, "\ufeffpath , label\n" + "\n\n".join(rows) + "\n", test_share=0.1)
    assert store.classes == [str(number) for number in range(11)]
    found = content(store, "train") | content(store, "test")
    assert found[awkward.name] == ("10", 7) and found["img/3.png"] == ("3", 30) and len(found) == 12


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\nimg/0.png,a\nimg/nope.png,b\n", r"line 3: .*/img/nope\.png is not a file"),
        ("path,label\nimg/0.png,a\nimg,b\n", "line 3: .*/img is not a file"),
        ("path,label\nimg/0.png,a\nimg/1.png,\n", "line 3 has no label"),
        ("path,label\nimg/0.png,a\nimg/1.png\n", "line 3 has no label"),
        ("path,label\n,a\nimg/1.png,b\n", "line 2 has no path"),
        ("path,label\nimg/0.png,a\nimg/./0.png,b\n", "line 3: .*/img/0.png is in line 2 too"),
        ("path,label,split\nimg/0.png,a,train\nimg/1.png,b,trian\n", r"line 3 has a split 'trian', none of .*data\.splits"),
        ("path,label,split\nimg/0.png,a,train\nimg/1.png,b,\n", "line 3 has a split ''"),
        ("path,label,split\nimg/0.png,a,test\nimg/1.png,b,test\n", "no line of the train split"),
        ("path,label,split\nimg/0.png,a,train\nimg/1.png,b,train\nimg/2.png,c,test\n", "test has classes that train.* not: c"),
        ("path,label\nimg/0.png,a\nimg/1.png,a\n", "one class only"),
        ("img/0.png,a\nimg/1.png,b\n", r"no known column of paths; choose data\.source\.path_column from img/0\.png, a"),
        ("path,y\nimg/0.png,a\n", r"no known column of labels; choose data\.source\.label_column from path, y"),
        ("", "no known column of paths"),
        ('path,label\n"img/0.png,a\n', "cannot be read as a CSV"),
        ("path,label\nimg/0.png,a\nimg,1.png,b\n", r"line 3 has 3 cells, the header 2; a cell that has a ',' in it needs quotes"),
        (",".join(["path", "label", *(f"c{number}" for number in range(10**6))]), "has more than 10,000 columns"),
        ("path,label\nimg/0.png,a\nimg/1.png,b" + ",x" * 10**6, "line 3 has 65,5.. cells, the header 2"),
        ("path;label\nimg/0.png;a\nimg/1.png;b" + ";x" * 10**4, "line 3 has 10,002 cells, the header 2; .* ';'"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(table: Path, text: str, told: str) -> None:
    with pytest.raises(RequestError, match=told) as error:
        listed(table, text)
    assert "\n" not in str(error.value)


def test_a_wrong_name_of_a_column_and_other_files_are_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"no column 'lable'; did you mean 'label'\?; choose data\.source\.label_column"
    ):
        listed(table, lines(), label_column="lable")
    with pytest.raises(RequestError, match="no line of the test split"):
        listed(table, lines(), splits={"train": "train", "test": "tset"})
    with pytest.raises(RequestError, match=r"data\.splits='tset'"):
        listed(table, lines(), splits={"train": "train", "tset": "Test"})
    table.write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(RequestError, match="UTF-8"):
        Csv().identity(table)
    with pytest.raises(RequestError, match=r"data\.path=.* is not a file"):
        Csv().identity(tmp_path)


def test_files_that_do_not_decode_and_copies_are_treated_as_in_a_folder(table: Path) -> None:
    (table.parent / "img" / "4.png").write_bytes(b"no image")
    with pytest.raises(RequestError, match=r"img/4\.png cannot be decoded.*skip_damaged"):
        listed(table, lines())
    assert len(listed(table, lines(), skip_damaged=True).arrays["train_labels"]) == 5
    (table.parent / "img" / "4.png").write_bytes((table.parent / "img" / "7.png").read_bytes())
    assert any("1 of 6 images of train are also in test" in note for note in listed(table, lines()).notes)


def test_a_class_of_many_digits_and_many_columns_are_no_traceback(table: Path) -> None:
    store = listed(table, "path,label\n" + "".join(f"img/{i}.png,{'12'[i % 2] * 5000}\n" for i in range(12)))
    assert store.classes == ["1" * 5000, "2" * 5000]
    with pytest.raises(RequestError, match=r"no known column of paths; .* c0, c1, ") as error:
        listed(table, ",".join(f"c{number}" for number in range(9_000)))
    assert len(str(error.value)) < 1000


def test_lines_may_be_shorter_than_a_wide_header_or_end_in_separators(table: Path) -> None:
    wide = ",".join(["path", "label", *(f"c{number}" for number in range(9_000))])
    store = listed(table, f"{wide}\n\n" + "".join(f"img/{i}.png,{'ab'[i % 2]}{',' * i}\n" for i in range(12)))
    assert (
        store.classes == ["a", "b"] and sum(len(store.arrays[f"{split}_labels"]) for split in ("train", "test")) == 12
    )
    narrow = listed(table, "path,label\n" + "".join(f"img/{i}.png,{'ab'[i % 2]},,\n" for i in range(12)))
    assert narrow.fingerprint == store.fingerprint


@pytest.mark.parametrize("name", ["pipe", "link", "/dev/zero"])
def test_what_is_no_file_is_not_read(table: Path, name: str) -> None:
    os.mkfifo(table.parent / "pipe")
    (table.parent / "link").symlink_to("/dev/zero")
    with pytest.raises(RequestError, match=r"line 2: .* is not a file"):
        listed(table, f"path,label\n{name},a\n")


def test_a_finished_run_is_refused_when_an_image_or_a_class_has_changed(table: Path) -> None:
    table.write_text(lines())
    run = ["data=csv", "data.path=labels.csv", "data.source.channels=1", "data.image_size=12", "model=tiny_cnn", "threads=1",
           "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none", "data.validation=own", "hydra.run.dir=run"]  # fmt: skip
    cnnbench(*run, cwd=table.parent, check=0)
    predictions = np.load(table.parent / "run" / "predictions.npz")
    assert predictions["test_file"].tolist() == sorted(predictions["test_file"], key=[*predictions["test_file"]].index)
    assert {*predictions["test_file"]} == {f"img/{number}.png" for number in range(6, 9)}
    table.write_text(lines().replace("img/1.png,b", "img/1.png,c"))
    assert "1 images changed class" in cnnbench("resume", "run", cwd=table.parent, check=2).stderr
