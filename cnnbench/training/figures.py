"""Pictures of one run, each a function of plain arrays that returns uint8 (H, W, 3), drawn with PIL: matplotlib takes
0.1 s for a confusion matrix, PIL 0.005 s, and a sweep of small networks would draw as long as it trains."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnnbench.utils.console import escape

DARK, GREY, RIGHT, WRONG = "#222222", "#8a8a8a", "#1a7f37", "#c62828"
# Blues of ColorBrewer (Harrower & Brewer 2003), from none to most
BLUES = ((247, 251, 255), (222, 235, 247), (198, 219, 239), (158, 202, 225), (107, 174, 214), (66, 146, 198),
         (33, 113, 181), (8, 81, 156), (8, 48, 107))  # fmt: skip
MAX_WRITTEN = 20  # classes up to which every cell has its number
MAX_NAMED = 40  # classes up to which every class is named on the axes
CELL, SIDE = 36, 640  # pixels of a cell with a number in it, and of a panel without numbers
MARGIN, NAME = 24, 110  # pixels around, and the most for a name
IMAGE_SIDE = 96  # pixels of an image among predictions, at least
GAP, LINE = 12, 15  # between images, and of a line of text
AXIS_WIDTH, BAR_HEIGHT, NAME_WIDTH = 480, 22, 140  # of recalls by class; the last is the most for a name
MAX_KERNELS, KERNEL_SCALE, KERNEL_GAP = 128, 10, 6  # kernels shown, pixels of a weight, and between kernels


def font_file() -> str:
    """DejaVu Sans, which has the letters of most alphabets; it comes with matplotlib."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """That font."""
    return ImageFont.truetype(font_file(), size)


@lru_cache
def _letters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font_file()).get_charmap())


def drawable(text: str) -> str:
    """``text`` on one line, with what the font lacks (Chinese, for example) as ``\\u732b`` instead of an empty box."""
    text = escape(" ".join(text.split()))
    return "".join(c if ord(c) in _letters() else c.encode("ascii", "backslashreplace").decode() for c in text)


def fit_text(text: str, width: float, face: ImageFont.FreeTypeFont) -> str:
    """``text`` on one line, cut with an ellipsis where it is wider than ``width`` pixels."""
    text, end = drawable(text), ""
    while text and face.getlength(text + end) > width:
        text, end = text[:-1], "…"
    return text + end


def confusion_picture(matrix: np.ndarray, classes: Sequence[str], title: str, counts: bool = True) -> np.ndarray:
    """A confusion matrix (rows are the true class) as percentages of each true class and, with ``counts``, as counts to
    the left of them; above are the title, the accuracy and the most frequent confusions."""
    count = len(classes)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, where=totals > 0, out=np.zeros(matrix.shape))
    written = count <= MAX_WRITTEN
    cell = CELL if written else max(SIDE // count, 2)
    side, face = cell * count, font(12 if written else 10)
    names = [fit_text(name, NAME, face) for name in classes]
    name_width = int(max(map(face.getlength, names))) + 8
    upright = name_width > cell  # names below do not fit beside one another
    below, panel_width = name_width if upright else 22, name_width + side + 2 * MARGIN

    heading = f"{title}: {np.trace(matrix) / max(matrix.sum(), 1):.2%} of {int(matrix.sum()):,} correct"
    texts = (18, heading, font(15)), (40, drawable(most_frequent_confusions(matrix, classes)), font(13))
    panels_width = (2 if counts else 1) * panel_width + MARGIN
    text_width = int(max(of.getlength(text) for _, text, of in texts)) + 2 * MARGIN
    picture = Image.new("RGB", (max(panels_width, text_width), side + below + 138), "white")
    draw = ImageDraw.Draw(picture)
    for y, text, of in texts:
        draw.text((picture.width / 2, y), text, DARK, font=of, anchor="mm")

    panels = [(matrix, "counts", ""), (100 * shares, "% of the true class", " %")]
    for panel, (values, label, unit) in enumerate(panels if counts else panels[1:]):
        left, top = (picture.width - panels_width) // 2 + MARGIN + 18 + name_width + panel * panel_width, 84
        picture.paste(_cells(values, cell), (left, top))
        draw.rectangle((left - 1, top - 1, left + side, top + side), outline="#d0d0d0")
        draw.text((left + side / 2, top - 14), label, DARK, font=font(13), anchor="mm")
        draw.text((left + side / 2, top + side + below + 14), "prediction", DARK, font=font(12), anchor="mm")
        _draw_upright(picture, "true class", left - name_width - 14, top + side / 2, 12, centred=True)
        if written:
            for (row, column), value in np.ndenumerate(values):
                centre = left + (column + 0.5) * cell, top + (row + 0.5) * cell
                colour = "white" if shares[row, column] > 0.3 else DARK
                # a dot for a percentage that would round to 0
                text = "" if value == 0 else "·" if value < 0.5 else f"{value:.0f}"
                draw.text(centre, text, colour, font=font(11), anchor="mm")
        else:
            draw.text((left + side, top - 14), f"darkest: {values.max():,.0f}{unit}", GREY, font=font(11), anchor="rm")
        for i in range(0, count, -(-count // MAX_NAMED)):
            middle = (i + 0.5) * cell
            draw.text((left - 6, top + middle), names[i], DARK, font=face, anchor="rm")
            if upright:
                _draw_upright(picture, names[i], left + middle, top + side + 5, face.size)
            else:
                draw.text((left + middle, top + side + 13), names[i], DARK, font=face, anchor="mm")
    return np.asarray(picture)


def most_frequent_confusions(matrix: np.ndarray, classes: Sequence[str], most: int = 3) -> str:
    """``"most often: b taken for c (5), a taken for b (3)"``."""
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(errors, axis=None)[::-1][:most]
    found = [divmod(int(i), len(classes)) for i in order if errors.flat[i] > 0]
    names = [fit_text(name, NAME, font(13)) for name in classes]
    texts = [f"{names[true]} taken for {names[guess]} ({errors[true, guess]})" for true, guess in found]
    return f"most often: {', '.join(texts)}" if texts else "no confusions"


def _cells(values: np.ndarray, cell: int) -> Image.Image:
    """The matrix as squares of ``cell`` pixels; by the root of the value, for the diagonal would hide the errors."""
    depth = np.sqrt(values / max(float(values.max()), 1e-9))
    stops = np.linspace(0, 1, len(BLUES))
    colours = np.stack([np.interp(depth, stops, channel) for channel in np.transpose(BLUES)], axis=-1)
    image = Image.fromarray(colours.round().astype(np.uint8))
    return image.resize((cell * len(values), cell * len(values)), Image.Resampling.NEAREST)


def _draw_upright(picture: Image.Image, text: str, x: float, y: float, size: float, centred: bool = False) -> None:
    """Write ``text`` from the bottom up; ``x`` is its middle, ``y`` its top, or its middle if ``centred``."""
    face = font(round(size))
    line = Image.new("L", (int(face.getlength(text)) + 2, round(1.4 * size)), 255)
    ImageDraw.Draw(line).text((1, line.height / 2), text, 34, font=face, anchor="lm")
    line = line.rotate(90, expand=True)
    picture.paste(line.convert("RGB"), (round(x - line.width / 2), round(y - line.height / 2 if centred else y)))


class Predictions(NamedTuple):
    """Images (N, H, W, C), uint8, square or twice as wide, with true (-1 where it is unknown) and predicted class indices (N,) and the prediction's probability (N,)."""

    images: np.ndarray
    truth: np.ndarray
    predictions: np.ndarray
    confidence: np.ndarray


def prediction_sheet(shown: Predictions, classes: Sequence[str], title: str, columns: int = 10) -> np.ndarray:
    """Images with the predicted class and its probability; the wrong ones are framed, and the true class is named."""
    count = len(shown.images)
    columns = min(columns, max(count, 1))
    scale = max(IMAGE_SIDE // max(shown.images.shape[1:3], default=1), 1)
    side, across = (scale * size for size in shown.images.shape[1:3]) if count else (IMAGE_SIDE, IMAGE_SIDE)
    wide, high = max(across, IMAGE_SIDE) + GAP, side + 2 * LINE + GAP
    heading, text = font(15), font(11)
    width = max(columns * wide + GAP, int(heading.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, -(-count // columns) * high + 40), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), title, DARK, font=heading)
    for i, (pixels, true, guess, confidence) in enumerate(zip(*shown, strict=True)):
        left, top = GAP + i % columns * wide, 40 + i // columns * high
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        sheet.paste(image.resize((across, side), Image.Resampling.NEAREST), (left, top))
        percent = f" ({confidence:.0%})"
        label = fit_text(classes[guess], wide - 4 - text.getlength(percent), text) + percent
        draw.text((left, top + side + 3), label, DARK if true < 0 else RIGHT if guess == true else WRONG, font=text)
        if 0 <= true != guess:
            draw.rectangle((left - 3, top - 3, left + across + 2, top + side + 2), outline=WRONG, width=3)
            draw.text((left, top + side + 3 + LINE), fit_text(f"is {classes[true]}", wide - 4, text), DARK, font=text)
    return np.asarray(sheet)


def recall_bars(recall: Sequence[float], classes: Sequence[str], title: str) -> np.ndarray:
    """The recall of each class, in per cent, from the lowest to the highest, with their mean; NaN is left out."""
    values = np.asarray(recall, dtype=float)
    order = [int(i) for i in np.argsort(values) if np.isfinite(values[i])]
    face, small = font(12), font(11)
    names = [fit_text(classes[i], NAME_WIDTH, face) for i in order]
    left, top = int(max(map(face.getlength, names), default=0)) + 24, 44
    bottom = top + BAR_HEIGHT * len(order)
    picture = Image.new("RGB", (left + AXIS_WIDTH + 30, bottom + 46), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((left, 20), title, DARK, font=font(15), anchor="lm")
    for tick in range(0, 101, 20):
        x = left + AXIS_WIDTH * tick / 100
        draw.line((x, top, x, bottom), fill="#e4e4e4")
        draw.text((x, bottom + 12), f"{tick}", GREY, font=small, anchor="mm")
    for row, value in enumerate(values[order]):
        y, end = top + BAR_HEIGHT * (row + 0.5), left + AXIS_WIDTH * value
        draw.rectangle((left, y - 8, end, y + 8), fill="#0072B2")
        x, colour = (left + 5, "white") if value > 0.12 else (end + 5, DARK)
        draw.text((x, y), f"{100 * value:.1f}", colour, font=small, anchor="lm")
        draw.text((left - 8, y), names[row], DARK, font=face, anchor="rm")
    mean = float(values[order].mean()) if order else 0.0
    x = left + AXIS_WIDTH * mean
    draw.line((x, top, x, bottom), fill="#D55E00", width=2)
    label = f"recall, %; the line is the mean over the classes, {100 * mean:.2f}"
    draw.text((left, bottom + 32), label, GREY, font=small, anchor="lm")
    return np.asarray(picture)


def kernel_sheet(weights: np.ndarray) -> np.ndarray:
    """The kernels of the first convolution (filters, channels, height, width), each on its own scale, mid-grey where a
    weight is zero; in colour where it reads three channels. Above them is how many there are, and of what size."""
    count, _, height, width = weights.shape
    weights = weights[:MAX_KERNELS]
    shown = f"{count} filters" if count == len(weights) else f"{len(weights)} of {count} filters"
    title, face = f"First convolution: {shown}, {height}x{width}", font(13)
    if weights.shape[1] != 3:
        weights = weights.mean(axis=1, keepdims=True).repeat(3, axis=1)
    most = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    shades = (127.5 + 127.5 * weights / np.where(most > 0, most, 1)).round().astype(np.uint8).transpose(0, 2, 3, 1)
    cells = shades.repeat(KERNEL_SCALE, axis=1).repeat(KERNEL_SCALE, axis=2)
    cells = np.pad(cells, ((0, 0), (KERNEL_GAP, 0), (KERNEL_GAP, 0), (0, 0)), constant_values=255)
    columns = min(len(cells), 16 if len(cells) > 24 else 8)
    cells = np.pad(cells, ((0, -len(cells) % columns), (0, 0), (0, 0), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(row), axis=1) for row in cells.reshape(-1, columns, *cells.shape[1:])]
    kernels = Image.fromarray(np.concatenate(rows))
    across = max(kernels.width, int(face.getlength(title)) + KERNEL_GAP)
    sheet = Image.new("RGB", (across + KERNEL_GAP, kernels.height + 2 * LINE), "white")
    ImageDraw.Draw(sheet).text((KERNEL_GAP, LINE - 2), title, DARK, font=face, anchor="lm")
    sheet.paste(kernels, (0, 2 * LINE - KERNEL_GAP))
    return np.asarray(sheet)
