"""Recall by class, from the hardest to the easiest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cnnbench.training.figures.drawing import DARK, GREY, fitted, font

WIDE, HIGH, NAME = 480, 22, 140  # pixels of the axis, of a line, and of a name at most


def per_class_sheet(recall: Sequence[float], classes: Sequence[str], title: str) -> np.ndarray:
    """Bars of the recall of each class, in per cent (the share of its images that are found; per-class accuracy).

    Args:
        recall: one value in [0, 1] a class; NaN for a class that never occurs, which is left out.

    Returns:
        uint8 (H, W, 3).
    """
    values = np.asarray(recall, dtype=float)
    order = [int(i) for i in np.argsort(values) if np.isfinite(values[i])]
    face = font(12)
    names = [fitted(classes[i], NAME, face) for i in order]
    left, top = int(max(map(face.getlength, names), default=0)) + 24, 44
    sheet = Image.new("RGB", (left + WIDE + 30, top + HIGH * len(order) + 46), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((left, 20), title, DARK, font=font(15), anchor="lm")
    bottom = top + HIGH * len(order)
    for tick in range(0, 101, 20):
        x = left + WIDE * tick / 100
        draw.line((x, top, x, bottom), fill="#e4e4e4")
        draw.text((x, bottom + 12), f"{tick}", GREY, font=font(11), anchor="mm")
    for place, i in enumerate(order):
        y = top + HIGH * (place + 0.5)
        end = left + WIDE * values[i]
        draw.rectangle((left, y - 8, end, y + 8), fill="#0072B2")
        inside = values[i] > 0.12
        draw.text((left + 5 if inside else end + 5, y), f"{100 * values[i]:.1f}", "white" if inside else DARK,
                  font=font(11), anchor="lm")  # fmt: skip
        draw.text((left - 8, y), names[place], DARK, font=face, anchor="rm")
    mean = float(np.mean(values[order])) if order else 0.0
    x = left + WIDE * mean
    draw.line((x, top, x, bottom), fill="#D55E00", width=2)
    draw.text((left, bottom + 32), f"recall, %; the line is the mean over the classes, {100 * mean:.2f}", GREY,
              font=font(11), anchor="lm")  # fmt: skip
    return np.asarray(sheet)
