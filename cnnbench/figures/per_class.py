"""Recall by class, from the hardest to the easiest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.figures.drawing import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def per_class_figure(recall: Sequence[float], classes: Sequence[str], title: str) -> Figure:
    """Bars of the recall of each class, in per cent (the share of its images that are found; per-class accuracy).

    Args:
        recall: one value in [0, 1] a class; NaN for a class that never occurs, which is left out.
    """
    from matplotlib.figure import Figure

    values = np.asarray(recall, dtype=float)
    order = [int(i) for i in np.argsort(values) if np.isfinite(values[i])]
    figure = Figure(figsize=(6.4, max(0.26 * len(order) + 1.0, 2.2)), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(order)), [100 * values[i] for i in order], color="#0072B2")
    axes.set_yticks(range(len(order)), [short(classes[i]) for i in order])
    axes.invert_yaxis()
    axes.set(title=title, xlabel="recall, % (dashed: mean over the classes)", xlim=(0, 100))
    for place, i in enumerate(order):
        colour = "white" if values[i] > 0.12 else "black"
        at = 1 if values[i] > 0.12 else 100 * values[i] + 1
        axes.text(at, place, f"{100 * values[i]:.1f}", va="center", size=8, color=colour)
    if order:
        axes.axvline(100 * float(np.mean(values[order])), color="#D55E00", linewidth=1, linestyle="--")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9 if len(order) <= 20 else 6)
    return figure
