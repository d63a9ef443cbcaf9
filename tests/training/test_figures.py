"""The figures of a run show what is in the arrays; whether they are pleasant is for eyes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from cnnbench.training.figures import (
    LINE,
    WRONG,
    Predictions,
    confusion_picture,
    drawable,
    fit_text,
    font,
    kernel_sheet,
    most_frequent_confusions,
    prediction_sheet,
    recall_bars,
)


@pytest.mark.parametrize("count", [2, 10, 100])
@pytest.mark.parametrize("name", ["{}", "a $long$ name of a class {}", "猫\n{}"])
def test_a_confusion_picture_is_dark_where_the_counts_are(count, name):
    matrix = np.zeros((count, count), dtype=int)
    matrix[0, 1] = 50
    sheet = confusion_picture(matrix, [name.format(i) for i in range(count)], "confusion/test")
    assert sheet.dtype == np.uint8 and sheet.ndim == 3
    darkest = np.argwhere((sheet == (8, 48, 107)).all(axis=-1))
    panels = np.argwhere((sheet == (247, 251, 255)).all(axis=-1))  # cells without a count
    assert len(darkest) and len(panels)
    left = darkest[darkest[:, 1] < sheet.shape[1] / 2]
    left_panel = panels[panels[:, 1] < sheet.shape[1] / 2]
    assert left[:, 0].min() == left_panel[:, 0].min()  # the first row
    assert left[:, 1].min() > left_panel[:, 1].min()  # not its first column
    assert max(sheet.shape) < 2000


def test_the_most_frequent_confusions_are_named_in_their_order():
    matrix = np.array([[9, 3, 0], [0, 9, 5], [1, 0, 9]])
    assert (
        most_frequent_confusions(matrix, ["a", "b", "c"])
        == "most often: b taken for c (5), a taken for b (3), c taken for a (1)"
    )
    assert most_frequent_confusions(np.diag([3, 3]), ["a", "b"]) == "no confusions"


@pytest.mark.parametrize("channels", [1, 3])
def test_only_wrong_predictions_are_framed(channels):
    images = np.full((4, 28, 28, channels), 200, dtype=np.uint8)
    truth, guess = np.array([0, 1, 0, 1]), np.array([0, 0, 0, 1])
    sheet = prediction_sheet(Predictions(images, truth, guess, np.full(4, 0.75)), ["cat", "dog"], "Title")
    framed = np.argwhere((sheet == ImageColor.getrgb(WRONG)).all(axis=-1))
    pictures = np.argwhere((sheet == 200).all(axis=-1))
    columns = sorted({int(x) for x in pictures[:, 1]})
    starts = [x for x in columns if x - 1 not in columns]
    assert len(starts) == 4
    assert starts[0] < framed[:, 1].min() < starts[1] < framed[:, 1].max() < starts[2]


def test_an_empty_sheet_is_a_sheet():
    none = np.zeros((0, 28, 28, 1), dtype=np.uint8)
    assert prediction_sheet(Predictions(none, none, none, none), ["cat"], "Nothing").ndim == 3


def test_kernels_are_grey_where_weights_are_zero_and_scaled_by_themselves():
    weights = np.zeros((2, 1, 3, 3))
    weights[0, 0, 0, 0], weights[1, 0, 0, 0] = 1e-3, -5.0
    sheet = kernel_sheet(weights)
    assert (sheet[: 2 * LINE] < 128).any()  # the title
    shades, _ = np.unique(sheet[2 * LINE :].reshape(-1, 3), axis=0, return_counts=True)
    assert {tuple(int(v) for v in shade) for shade in shades} == {(255,) * 3, (128,) * 3, (0,) * 3}


def test_classes_that_never_occur_are_left_out_of_the_recalls():
    with_gap = recall_bars([0.5, float("nan"), 1.0], ["a", "b", "c"], "Recall")
    without = recall_bars([0.5, 1.0], ["a", "c"], "Recall")
    assert np.array_equal(with_gap, without)


def test_names_are_cut_to_the_width_that_there_is():
    face = font(12)
    assert fit_text("short", 100, face) == "short"
    cut = fit_text("a very long name indeed", 60, face)
    assert cut.endswith("…") and face.getlength(cut) <= 60


def test_what_the_font_lacks_is_escaped_instead_of_an_empty_box() -> None:
    assert drawable("caf\u00e9 \u0416 \u03b1") == "caf\u00e9 \u0416 \u03b1"
    assert drawable("\u732b cat\n2") == "\\u732b cat 2"
