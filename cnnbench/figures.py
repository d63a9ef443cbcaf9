"""Figures of one run, as matplotlib figures without global state (no pyplot)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS_WRITTEN = 20  # classes up to which every cell carries its number
MOST_NAMES = 40  # classes up to which every class is named on the axes


def confusion_figure(matrix: np.ndarray, classes: list[str], title: str) -> Figure:
    """The confusion matrix twice: counts, and each row as shares of its true class.

    Args:
        matrix: counts (C, C); rows are the true class, columns the prediction.
        classes: C names.
        title: above both.
    """
    from matplotlib.figure import Figure

    count = len(classes)
    side = float(np.clip(0.42 * count + 1.2, 4.2, 8.5))
    figure = Figure(figsize=(2 * side + 0.6, side + 0.5), dpi=100, layout="constrained")
    recall = np.divide(
        matrix,
        matrix.sum(axis=1, keepdims=True),
        where=matrix.sum(axis=1, keepdims=True) > 0,
        out=np.zeros(matrix.shape),
    )
    correct = np.trace(matrix) / max(matrix.sum(), 1)
    figure.suptitle(f"{title}: {correct:.2%} of {int(matrix.sum()):,} correct")
    counts, shares = figure.subplots(1, 2)
    # colour shows the errors: on the scale of counts the diagonal would hide them
    _panel(counts, recall, [[f"{n}" if n else "" for n in row] for row in matrix], classes, "counts")
    _panel(shares, recall, [[_percent(p) for p in row] for row in recall], classes, "share of the true class, %")
    return figure


def _percent(share: float) -> str:
    """A share as a whole percentage; nothing for none, and a dot for what would round to 0."""
    return "" if share == 0 else "·" if share < 0.005 else f"{100 * share:.0f}"


def _panel(axes: Axes, shares: np.ndarray, texts: list[list[str]], classes: list[str], title: str) -> None:
    count = len(classes)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(title=title, xlabel="prediction", ylabel="true class")
    ticks = np.arange(0, count, -(-count // MOST_NAMES))
    small = 9 if count <= 20 else 6
    axes.set_xticks(
        ticks, [_short(classes[t]) for t in ticks], rotation=90 if count > 12 or _long(classes) else 0, size=small
    )
    axes.set_yticks(ticks, [_short(classes[t]) for t in ticks], size=small)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if count <= MOST_CELLS_WRITTEN:
        for row, line in enumerate(texts):
            for column, text in enumerate(line):
                if text:
                    colour = "white" if shares[row, column] > 0.4 else "#333333"
                    axes.text(column, row, text, ha="center", va="center", size=8, color=colour)


def _long(classes: list[str]) -> bool:
    return max(map(len, classes)) > 3


def _short(name: str) -> str:
    """A class name without surprises for matplotlib: at most 18 characters, no mathematics."""
    return (name if len(name) <= 18 else name[:17] + "…").replace("$", r"\$")


def pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
