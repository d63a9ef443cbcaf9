"""The confusion matrix of a run, in counts and row-normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnnbench.figures.drawing import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS_WRITTEN = 20  # classes up to which every cell carries its number
MOST_NAMES = 40  # classes up to which every class is named on the axes


def confusion_figure(matrix: np.ndarray, classes: list[str], title: str) -> Figure:
    """The confusion matrix twice: counts, and each row as percentages of its true class.

    Args:
        matrix: counts (C, C); rows are the true class, columns the prediction.
        classes: C names.
        title: above both.
    """
    from matplotlib.figure import Figure

    count = len(classes)
    side = float(np.clip(0.46 * count + 1.0, 4.4, 8.5))
    figure = Figure(figsize=(2 * side + 0.8, side + 1.1), dpi=100, layout="compressed")
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, where=totals > 0, out=np.zeros(matrix.shape))
    correct = np.trace(matrix) / max(matrix.sum(), 1)
    figure.suptitle(f"{title}: {correct:.2%} of {int(matrix.sum()):,} correct\n{worst(matrix, classes)}", size=11)
    left, right = figure.subplots(1, 2)
    _panel(left, matrix, shares, [[f"{n}" if n else "" for n in row] for row in matrix], classes, "counts")
    _panel(right, 100 * shares, shares, [[_percent(p) for p in row] for row in shares], classes, "% of the true class")
    return figure


def worst(matrix: np.ndarray, classes: list[str], most: int = 3) -> str:
    """The most frequent confusions in words."""
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(errors, axis=None)[::-1][:most]
    found = [(errors.flat[i], *np.unravel_index(i, errors.shape)) for i in order if errors.flat[i] > 0]
    if not found:
        return "no confusions"
    return "most often: " + ", ".join(f"{short(classes[t])} taken for {short(classes[p])} ({n})" for n, t, p in found)


def _percent(share: float) -> str:
    """A share as a whole percentage; nothing for none, and a dot for what would round to 0."""
    return "" if share == 0 else "·" if share < 0.005 else f"{100 * share:.0f}"


def _panel(
    axes: Axes, values: np.ndarray, shares: np.ndarray, texts: list[list[str]], classes: list[str], title: str
) -> None:
    from matplotlib.colors import PowerNorm

    count = len(classes)
    # the root brings out the errors, which the diagonal would hide
    norm = PowerNorm(0.5, vmin=0, vmax=max(float(values.max()), 1e-9))
    shown = axes.imshow(values, cmap="Blues", norm=norm, interpolation="nearest")
    if count > MOST_CELLS_WRITTEN and axes.figure is not None:
        axes.figure.colorbar(shown, ax=axes, shrink=0.7)
    axes.set(title=title, xlabel="prediction", ylabel="true class")
    ticks = np.arange(0, count, -(-count // MOST_NAMES))
    small = 9 if count <= 20 else 6
    axes.set_xticks(
        ticks, [short(classes[t]) for t in ticks], rotation=90 if count > 12 or _long(classes) else 0, size=small
    )
    axes.set_yticks(ticks, [short(classes[t]) for t in ticks], size=small)
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
