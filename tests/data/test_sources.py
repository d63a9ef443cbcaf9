"""Reading folders of image files, and what is said where one is missing, mixed or damaged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnbench.config.schema import check_values
from cnnbench.data import decode
from cnnbench.data.cache import prepare
from cnnbench.data.decode import decode_image
from cnnbench.data.sources import Digits, ImageFolder
from cnnbench.utils.errors import RequestError


def picture(path: Path, colour: tuple[int, ...] | int = (255, 0, 0), size: tuple[int, int] = (8, 8), mode: str = "RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/ and test/ with two classes: red cats and blue dogs."""
    root = tmp_path / "pictures"
    for split, count in (("train", 6), ("test", 3)):
        for name, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
            for number in range(count):
                picture(root / split / name / f"{number}.png", colour)
    return root


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    store = prepare(Digits(), None, None, tmp_path)
    assert store.image_size == 8 and store.channels == 1 and store.classes == [str(d) for d in range(10)]
    images = np.concatenate([store.arrays["train_images"], store.arrays["test_images"]])
    assert len(images) == 1797 and images.max() == 255 and images.dtype == np.uint8


def test_a_folder_with_train_and_test(folder: Path, tmp_path: Path) -> None:
    store = prepare(ImageFolder(), folder, None, tmp_path / "cache")
    assert store.classes == ["cat", "dog"] and len(store.arrays["train_labels"]) == 12
    for label, colour in ((0, (255, 0, 0)), (1, (0, 0, 255))):
        chosen = store.arrays["test_images"][store.arrays["test_labels"] == label]
        assert len(chosen) == 3 and (chosen == colour).all()


def test_the_order_of_a_folder_mixes_its_classes_and_is_always_the_same(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate("abcd"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(16):
                Image.new("L", (4, 4), 60 * label).save(tmp_path / "set" / part / name / f"{number}.png")
    first, again = (prepare(ImageFolder(channels=1), tmp_path / "set", None, tmp_path / cache) for cache in "xy")
    labels = first.arrays["train_labels"]
    assert all(len(set(batch)) > 1 for batch in labels.reshape(-1, 16))  # without shuffling, as in eq2425
    np.testing.assert_array_equal(first.arrays["train_images"][:, 0, 0, 0], 60 * labels)
    np.testing.assert_array_equal(again.arrays["train_labels"], labels)


def test_one_tree_is_split_and_a_val_folder_is_kept(folder: Path, tmp_path: Path) -> None:
    tree = prepare(ImageFolder(test_share=0.5), folder / "train", None, tmp_path / "cache")
    assert (
        np.bincount(tree.arrays["test_labels"]).tolist() == [3, 3] == np.bincount(tree.arrays["train_labels"]).tolist()
    )
    shutil.copytree(folder / "test", folder / "val")
    assert len(prepare(ImageFolder(), folder, None, tmp_path / "cache").arrays["val_labels"]) == 6


def test_names_of_any_kind(tmp_path: Path) -> None:
    root = tmp_path / "très étrange"
    for name in ("猫", "a b;rm -rf", "$(x)", "<b>"):
        picture(root / name / "ünï 'code'.JPG")
        picture(root / name / "deep" / "er.png")
    (root / ".hidden").mkdir()
    (root / "猫" / "notes.txt").write_text("no image")
    store = prepare(ImageFolder(), root, None, tmp_path / "cache")
    assert set(store.classes) == {"猫", "a b;rm -rf", "$(x)", "<b>"}


MODES = {
    "1": (1, 255), "L": (100, 100), "P": (0, 0), "RGB": ((9, 9, 9), 9), "RGBA": ((200, 200, 200, 0), 0), "LA": ((200, 255), 200),
    "I;16": (65535, 255), "CMYK": ((0, 0, 0, 0), 255),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_eight_bits(tmp_path: Path, mode: str, channels: int) -> None:
    colour, expected = MODES[mode]
    for name in ("a", "b"):
        for number in range(2):
            ending = "tif" if mode == "CMYK" else "png"
            picture(tmp_path / "set" / name / f"{number}.{ending}", colour, mode=mode)
    store = prepare(ImageFolder(channels), tmp_path / "set", None, tmp_path / "cache")
    assert store.arrays["train_images"].shape[-1] == channels
    assert (store.arrays["train_images"] == expected).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_over_black_in_every_shade(tmp_path: Path, channels: int) -> None:
    shade, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    layer = Image.fromarray(np.stack([shade, 255 - shade, shade // 2, alpha], axis=2))
    layer.save(tmp_path / "x.png")
    over_black = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    expected = np.asarray(over_black.convert("L" if channels == 1 else "RGB")).reshape(256, 256, channels)
    np.testing.assert_array_equal(decode_image(tmp_path / "x.png", 256, channels, False)[0], expected)


PEAK = """
import re, sys
from pathlib import Path
from cnnbench.data.decode import decode_image
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
decode_image(Path(sys.argv[2]), 32, 3, True)
before = peak()
decode_image(Path(sys.argv[1]), 32, 3, True)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of memory")
@pytest.mark.parametrize(("mode", "copies"), [("RGBA", 2), ("RGB", 2), ("LA", 3)])
def test_a_large_image_is_in_memory_a_few_times_alone(tmp_path: Path, mode: str, copies: int) -> None:
    for side in (3000, 30):
        Image.new(mode, (side, side)).save(tmp_path / f"{side}.png", compress_level=1)
    code = [sys.executable, "-c", PEAK, tmp_path / "3000.png", tmp_path / "30.png"]
    added = int(subprocess.run(code, capture_output=True, text=True, check=True).stdout)
    assert added < (copies + 0.5) * 4 * 3000**2


def test_photographs_are_turned_upright_and_cut_to_a_square(tmp_path: Path) -> None:
    picture_ = Image.new("RGB", (40, 20), (0, 0, 0))
    picture_.paste((255, 255, 255), (0, 0, 20, 20))  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise: white is the upper half
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            picture_.save(tmp_path / "set" / name / f"{number}.png", exif=exif)
    image = prepare(ImageFolder(), tmp_path / "set", 10, tmp_path / "cache").arrays["train_images"][0]
    assert image.shape == (10, 10, 3) and image[:4].min() > 250 and image[6:].max() < 5


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("P", (4, 4), colour) for colour in (0, 1)]
    for frame in frames:
        frame.putpalette([10, 20, 30, 200, 210, 220])
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            path = tmp_path / "set" / name / f"{number}.gif"
            frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    images = prepare(ImageFolder(), tmp_path / "set", None, tmp_path / "cache").arrays["train_images"]
    assert (images == [10, 20, 30]).all()


def test_mixed_sizes_ask_for_one(folder: Path, tmp_path: Path) -> None:
    picture(folder / "train" / "dog" / "big.png", size=(9, 9))
    with pytest.raises(RequestError, match=r"big\.png is 9x9 where others are 8x8; set data\.image_size"):
        prepare(ImageFolder(), folder, None, tmp_path / "cache")
    assert prepare(ImageFolder(), folder, 4, tmp_path / "cache").image_size == 4


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_an_image_that_does_not_decode_is_named(folder: Path, tmp_path: Path, content: bytes | None) -> None:
    bad = folder / "train" / "dog" / "bad.png"
    bad.write_bytes((folder / "train" / "dog" / "0.png").read_bytes()[:50] if content is None else content)
    with pytest.raises(RequestError, match=r"bad\.png cannot be decoded"):
        prepare(ImageFolder(), folder, None, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_many_files_are_decoded_by_processes_with_the_same_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepare(ImageFolder(), folder, None, tmp_path / "one")
    monkeypatch.setattr("cnnbench.data.decode.SERIAL", 1)
    several = prepare(ImageFolder(), folder, None, tmp_path / "several")
    assert several.fingerprint == one.fingerprint
    (folder / "test" / "dog" / "bad.png").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"bad\.png cannot be decoded"):
        prepare(ImageFolder(), folder, None, tmp_path / "several")


DECODE_CHUNK = decode.decode_chunk


def killed_at_a_dog(target: Path, rows: list[int], paths: list[Path], *options: object) -> decode.Findings:
    """As ``decode_chunk``, in a process that the system kills at one image, for example because it has no memory left."""

    def decode_or_die(path: Path, *_: object) -> tuple[np.ndarray, None]:
        if path.parts[-2:] == ("dog", "3.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((8, 8, 3), np.uint8), None

    decode.decode_image = decode_or_die
    return DECODE_CHUNK(target, rows, paths, *options)


def test_where_a_process_that_decodes_was_killed_is_reported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnbench.data.decode.SERIAL", 1)
    monkeypatch.setattr("cnnbench.data.decode.decode_chunk", killed_at_a_dog)
    with pytest.raises(RequestError, match=r"was killed, at [^ ]*pictures/train/dog/3\.png;"):
        prepare(ImageFolder(), folder, None, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_folders_that_are_no_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a folder"):
        prepare(ImageFolder(), tmp_path / "nowhere", None, tmp_path / "cache")
    picture(tmp_path / "set" / "only" / "a.png")
    with pytest.raises(RequestError, match="two or more"):
        prepare(ImageFolder(), tmp_path / "set", None, tmp_path / "cache")
    for split in ("test", "val"):  # else these two would be taken for classes
        picture(tmp_path / "halves" / split / "cat" / "a.png")
    with pytest.raises(RequestError, match="has test and val but no train/"):
        prepare(ImageFolder(), tmp_path / "halves", None, tmp_path / "cache")


def test_a_class_that_only_the_test_set_has_is_refused(folder: Path, tmp_path: Path) -> None:
    picture(folder / "test" / "bird" / "a.png")
    with pytest.raises(RequestError, match="classes that train has not: bird"):
        prepare(ImageFolder(), folder, None, tmp_path / "cache")


def test_a_link_to_nothing_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "cat" / "away.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(RequestError, match=r"away\.png cannot be read"):
        prepare(ImageFolder(), folder, None, tmp_path / "cache")


def test_one_source_can_read_two_folders(folder: Path) -> None:
    source = ImageFolder()
    source.identity(folder)  # read must not take what was listed here for the other folder
    assert set(source.read(folder / "train").splits["train"].images[0].parts) >= {"train"}
    assert len(source.read(folder / "train").splits["test"].labels) == 2


@pytest.mark.parametrize(
    "wrong", [{"channels": 2}, {"test_share": 0.0}, {"test_share": 1.0}, {"test_share": 3}], ids=str
)
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(RequestError, match=f"data.source.{next(iter(wrong))}"):
        check_values({"data": {"source": wrong}})
