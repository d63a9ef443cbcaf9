"""What the figures of a run share. They are matplotlib figures without global state (no pyplot), or PIL images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def short(name: str) -> str:
    """A class name without surprises for matplotlib: at most 18 characters, no mathematics."""
    return (name if len(name) <= 18 else name[:17] + "…").replace("$", r"\$")


def pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
