"""A folder as people have them, generated: ``python tests/photographs.py photos`` makes four classes of textures in mixed
sizes, colour modes and formats, with a photograph that lies on its side and a name that is not ASCII."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("checks", "clouds", "dots", "stripes")
ORIENTATION = 0x0112  # the EXIF tag


def texture(kind: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """A pattern of this kind at a random scale and angle: float (height, width) in [0, 1]."""
    rows, columns = np.mgrid[:height, :width] / min(width, height)
    if kind == "clouds":
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
        return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 255
    angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 8) * 2 * np.pi
    across = np.sin(waves * (columns * np.cos(angle) + rows * np.sin(angle)))
    along = np.sin(waves * (rows * np.cos(angle) - columns * np.sin(angle)))
    if kind == "stripes":
        return (across > 0).astype(float)
    return ((across * along > 0) if kind == "checks" else (across + along > 1)).astype(float)


def picture(kind: str, rng: np.random.Generator) -> Image.Image:
    """A texture in two colours, with noise, of any shape."""
    width, height = (int(side) for side in rng.integers(72, 200, 2))
    dark, light = rng.integers(0, 110, 3), rng.integers(145, 256, 3)
    pixels = dark + (light - dark) * texture(kind, width, height, rng)[..., None]
    return Image.fromarray(np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8))


def make_photographs(folder: Path, count: int = 60, seed: int = 0) -> None:
    """``count`` files a class below ``folder``."""
    rng = np.random.default_rng(seed)
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            mode = ("RGB", "L", "RGBA", "P", "RGB")[number % 5]
            path = folder / kind / f"{number:03d}.{'png' if mode in ('RGBA', 'P') else 'jpg'}"
            picture(kind, rng).convert(mode).save(path)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture("stripes", rng).save(folder / "stripes" / "on its side.jpg", exif=exif)
    picture("dots", rng).save(folder / "dots" / "Pünktchen 点.jpg")


if __name__ == "__main__":
    make_photographs(Path(sys.argv[1]))
