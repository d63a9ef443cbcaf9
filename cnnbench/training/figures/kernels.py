"""The kernels of a network's first convolution, as pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image

MOST = 128  # kernels shown
SCALE, GAP = 10, 6  # screen pixels of a weight, and between kernels


def kernel_sheet(weights: np.ndarray) -> np.ndarray:
    """Each kernel on its own scale, mid-grey where a weight is zero; in colour where it reads three channels.

    Args:
        weights: float (filters, channels, height, width), of the first convolution.

    Returns:
        uint8 (H, W, 3).
    """
    weights = weights[:MOST]
    if weights.shape[1] != 3:
        weights = weights.mean(axis=1, keepdims=True).repeat(3, axis=1)
    most = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    shades = (127.5 + 127.5 * weights / np.where(most > 0, most, 1)).round().astype(np.uint8)
    count, _, high, wide = shades.shape
    columns = min(count, 16 if count > 24 else 8)
    size = (columns * (wide * SCALE + GAP) + GAP, -(-count // columns) * (high * SCALE + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    for place, kernel in enumerate(shades.transpose(0, 2, 3, 1)):
        picture = Image.fromarray(kernel).resize((wide * SCALE, high * SCALE), Image.Resampling.NEAREST)
        sheet.paste(
            picture, (GAP + place % columns * (wide * SCALE + GAP), GAP + place // columns * (high * SCALE + GAP))
        )
    return np.asarray(sheet)
