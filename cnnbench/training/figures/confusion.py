"""The confusion matrix of a run, in counts and row-normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cnnbench.training.figures.drawing import BLUES, DARK, GREY, fitted, font

MOST_CELLS_WRITTEN = 20  # classes up to which every cell carries its number
MOST_NAMES = 40  # classes up to which every class is named on the axes
CELL, SIDE = 36, 640  # pixels of a cell with a number in it, and of a panel without numbers
MARGIN, NAME = 24, 110  # pixels around, and the most for a name


def confusion_sheet(matrix: np.ndarray, classes: Sequence[str], title: str, counts: bool = True) -> np.ndarray:
    """The confusion matrix twice: counts, and each row as percentages of its true class.

    Args:
        matrix: counts (C, C); rows are the true class, columns the prediction.
        classes: C names.
        title: above both.
        counts: whether there are counts; without, the percentages alone.

    Returns:
        uint8 (H, W, 3).
    """
    count = len(classes)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, where=totals > 0, out=np.zeros(matrix.shape))
    correct = np.trace(matrix) / max(matrix.sum(), 1)
    written = count <= MOST_CELLS_WRITTEN
    cell = CELL if written else max(SIDE // count, 2)
    side, small = cell * count, font(12 if written else 10)
    names = int(max(small.getlength(fitted(name, NAME, small)) for name in classes)) + 8
    upright = names > cell  # names below do not fit beside one another
    below = names if upright else 22
    wide = names + side + 2 * MARGIN
    heading = f"{title}: {correct:.2%} of {int(matrix.sum()):,} correct"
    said = worst(matrix, classes)
    room = (2 if counts else 1) * wide + MARGIN
    width = max(room, int(max(font(15).getlength(heading), font(13).getlength(said))) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, side + below + 138), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((sheet.width / 2, 18), heading, DARK, font=font(15), anchor="mm")
    draw.text((sheet.width / 2, 40), said, DARK, font=font(13), anchor="mm")
    percents = [[_percent(p) for p in row] for row in shares] if written else []
    panels = [(100 * shares, percents, "% of the true class")]
    if counts:
        panels.insert(0, (matrix, [[f"{n}" if n else "" for n in row] for row in matrix] if written else [], "counts"))
    for place, (values, texts, told) in enumerate(panels):
        left, top = (width - room) // 2 + MARGIN + 18 + names + place * wide, 84
        sheet.paste(_cells(values, cell), (left, top))
        draw.rectangle((left - 1, top - 1, left + side, top + side), outline="#d0d0d0")
        draw.text((left + side / 2, top - 14), told, DARK, font=font(13), anchor="mm")
        for row, line in enumerate(texts):
            for column, text in enumerate(line):
                colour = "white" if shares[row, column] > 0.3 else DARK
                centre = (left + (column + 0.5) * cell, top + (row + 0.5) * cell)
                draw.text(centre, text, colour, font=font(11), anchor="mm")
        for at in range(0, count, -(-count // MOST_NAMES)):
            name = fitted(classes[at], NAME, small)
            draw.text((left - 6, top + (at + 0.5) * cell), name, DARK, font=small, anchor="rm")
            if upright:
                _upright(sheet, name, left + (at + 0.5) * cell, top + side + 5, small.size)
            else:
                draw.text((left + (at + 0.5) * cell, top + side + 13), name, DARK, font=small, anchor="mm")
        draw.text((left + side / 2, top + side + below + 14), "prediction", GREY, font=font(12), anchor="mm")
        if not written:
            told = f"darkest: {values.max():,.0f}{' %' * told.startswith('%')}"
            draw.text((left + side, top - 14), told, GREY, font=font(11), anchor="rm")
        _upright(sheet, "true class", left - names - 14, top + side / 2, 12, centred=True)
    return np.asarray(sheet)


def _cells(values: np.ndarray, cell: int) -> Image.Image:
    """The matrix as squares of ``cell`` pixels; the root of the value, for the diagonal would hide the errors."""
    depth = np.sqrt(values / max(float(values.max()), 1e-9))
    stops = np.linspace(0, 1, len(BLUES))
    colours = np.stack([np.interp(depth, stops, [shade[c] for shade in BLUES]) for c in range(3)], axis=-1)
    image = Image.fromarray(colours.round().astype(np.uint8))
    return image.resize((cell * len(values), cell * len(values)), Image.Resampling.NEAREST)


def _upright(sheet: Image.Image, text: str, x: float, y: float, size: float, centred: bool = False) -> None:
    """Write ``text`` from the bottom up; ``x`` is its middle, ``y`` its top, or its middle if ``centred``."""
    face = font(round(size))
    line = Image.new("L", (int(face.getlength(text)) + 2, round(1.4 * size)), 255)
    ImageDraw.Draw(line).text((1, line.height / 2), text, 34, font=face, anchor="lm")
    line = line.rotate(90, expand=True)
    sheet.paste(line.convert("RGB"), (round(x - line.width / 2), round(y - line.height / 2 if centred else y)))


def worst(matrix: np.ndarray, classes: Sequence[str], most: int = 3) -> str:
    """The most frequent confusions in words."""
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(errors, axis=None)[::-1][:most]
    found = [(errors.flat[i], *np.unravel_index(i, errors.shape)) for i in order if errors.flat[i] > 0]
    if not found:
        return "no confusions"
    face = font(13)
    names = [fitted(name, NAME, face) for name in classes]
    return "most often: " + ", ".join(f"{names[t]} taken for {names[p]} ({n})" for n, t, p in found)


def _percent(share: float) -> str:
    """A share as a whole percentage; nothing for none, and a dot for what would round to 0."""
    return "" if share == 0 else "·" if share < 0.005 else f"{100 * share:.0f}"
