"""Heat maps: the confusion matrix of a run, the difference between two, and recall by class and configuration.

A cell's strength is the opacity of one colour, so that nothing is the page, light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.analysis.report.figures.style import BLUE, INK, ORANGE, panel, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST_WRITTEN = 20  # classes up to which every cell carries its number
MOST_NAMED = 34  # classes up to which every class is named on an axis
LONGEST = 16  # characters of a class's name on an axis


def _rgba(colour: str, strength: NDArray) -> NDArray:
    from matplotlib.colors import to_rgb

    image = np.empty((*strength.shape, 4))
    image[..., :3] = to_rgb(colour)
    image[..., 3] = np.clip(np.nan_to_num(strength), 0, 1)
    return image


def _heat(axes: Axes, image: NDArray, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.imshow(image, interpolation="none", aspect="auto")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        ticks = list(range(0, len(names), -(-len(names) // MOST_NAMED)))
        axis.set_ticks(ticks, [plain(names[tick], LONGEST) for tick in ticks])
    if len(columns) > 12 or max(map(len, columns)) > 4:
        axes.tick_params(axis="x", rotation=90)


def _write(axes: Axes, texts: Sequence[Sequence[str]], image: NDArray, size: float = 7.5) -> None:
    """Numbers into the cells: white on a strong colour, else the page's."""
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            if text:
                colour = "#ffffff" if image[row, column, 3] > 0.6 else INK
                axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def _side(count: int) -> float:
    return float(np.clip(0.36 * count + 1.3, 3.4, 7.0))


def shares(matrix: NDArray) -> NDArray:
    """Each row divided by its sum; zeros where a class never occurs."""
    sums = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, sums, out=np.zeros(matrix.shape), where=sums > 0)


def confusion(matrix: NDArray, classes: Sequence[str], counts: bool) -> Figure:
    """A confusion matrix: rows are the true class, columns the prediction, the colour is the share of the row.

    Args:
        matrix: counts (C, C).
        counts: write counts into the cells, instead of shares in per cent.
    """
    share = shares(matrix)
    with style():
        title = "counts" if counts else "share of the true class, %"
        side = _side(len(classes))
        figure, axes = panel((side, side), title=title, x="prediction", y="true class")
        image = _rgba(BLUE, np.sqrt(share))  # the root lifts the few errors above nothing
        _heat(axes, image, classes, classes)
        if len(classes) <= MOST_WRITTEN:
            percent = [["" if s == 0 else "·" if s < 0.005 else f"{100 * s:.0f}" for s in row] for row in share]
            texts = [[f"{n:.0f}" if n else "" for n in row] for row in matrix] if counts else percent
            _write(axes, texts, image)
    return figure


def confusion_difference(one: NDArray, other: NDArray, classes: Sequence[str]) -> Figure:
    """Shares of ``one`` minus shares of ``other``, in percentage points: blue where the one has more."""
    change = shares(one) - shares(other)
    strongest = float(np.abs(change).max()) or 1.0
    strength = np.sqrt(np.abs(change) / strongest)
    with style():
        side = _side(len(classes))
        figure, axes = panel((side, side), title="difference, points", x="prediction", y="true class")
        image = np.where((change > 0)[..., None], _rgba(BLUE, strength), _rgba(ORANGE, strength))
        _heat(axes, image, classes, classes)
        if len(classes) <= MOST_WRITTEN:
            texts = [["" if abs(c) < 5e-5 else f"{100 * c:+.1f}" for c in row] for row in change]
            _write(axes, texts, image, 6.5)
    return figure


def class_recall(recalls: NDArray, rows: Sequence[str], classes: Sequence[str]) -> Figure:
    """Mean recall, (configurations, classes): the stronger the colour, the more of the class is missed."""
    with style():
        width = float(np.clip(0.36 * len(classes) + 0.5 + 0.075 * max(map(len, rows)), 4.5, 12))
        height = 0.27 * len(rows) + 0.6 + 0.075 * min(max(map(len, classes)), LONGEST)
        figure, axes = panel((width, height), title="recall, %: the stronger the colour, the more is missed")
        missed = 1 - recalls
        strongest = float(np.nanmax(missed)) if np.isfinite(missed).any() else 1.0
        image = _rgba(ORANGE, missed / (strongest or 1.0) * 0.85)
        _heat(axes, image, rows, classes)
        axes.set_yticks(range(len(rows)), [plain(row, 88) for row in rows])
        if len(classes) <= MOST_WRITTEN:
            percent = [["" if not np.isfinite(r) else f"{100 * r:.0f}" for r in line] for line in recalls]
            _write(axes, percent, image)
    return figure
