"""A sheet of images with what they are, what the network says, and how sure it is; the wrong ones are marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cnnbench.training.figures.drawing import DARK, RIGHT, WRONG, fitted, font

SIDE = 96  # pixels of an image on the sheet, at least
GAP, LINE = 12, 15  # between images, and of a line of text


@dataclass(frozen=True)
class Predicted:
    """Images (N, H, W, C), uint8, with true and predicted class indices (N,) and the prediction's probability (N,)."""

    images: np.ndarray
    truth: np.ndarray
    predictions: np.ndarray
    confidence: np.ndarray


def prediction_sheet(shown: Predicted, classes: Sequence[str], title: str, columns: int = 10) -> np.ndarray:
    """Draw the sheet.

    Returns:
        uint8 (H, W, 3).
    """
    count = len(shown.images)
    columns = min(columns, max(count, 1))
    times = max(SIDE // max(shown.images.shape[1:3], default=1), 1)
    side = times * shown.images.shape[1] if count else SIDE
    wide, high = max(side, SIDE) + GAP, side + 2 * LINE + GAP
    heading, text = font(15), font(11)
    width = max(columns * wide + GAP, int(heading.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, -(-count // columns) * high + 40), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), title, DARK, font=heading)
    for place in range(count):
        left, top = GAP + place % columns * wide, 40 + place // columns * high
        raw = shown.images[place]
        image = Image.fromarray(raw[..., 0] if raw.shape[-1] == 1 else raw).convert("RGB")
        sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (left, top))
        guess, true = int(shown.predictions[place]), int(shown.truth[place])
        colour = RIGHT if guess == true else WRONG
        if guess != true:
            draw.rectangle((left - 3, top - 3, left + side + 2, top + side + 2), outline=WRONG, width=3)
        sure = f" ({shown.confidence[place]:.0%})"
        says = fitted(classes[guess], wide - 4 - text.getlength(sure), text) + sure
        draw.text((left, top + side + 3), says, colour, font=text)
        if guess != true:
            draw.text((left, top + side + 3 + LINE), fitted(f"is {classes[true]}", wide - 4, text), DARK, font=text)
    return np.asarray(sheet)
