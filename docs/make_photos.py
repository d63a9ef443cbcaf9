"""Draw 200 noisy pictures of each of three shapes: photos/circle, photos/square, photos/triangle."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

random = np.random.default_rng(0)
for shape, sides in (("circle", 40), ("square", 4), ("triangle", 3)):
    folder = Path("photos") / shape
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(200):
        background, colour = random.integers((40, 140), (120, 240), (3, 2)).T
        picture = Image.new("RGB", (40, 40), tuple(background))
        centre = tuple(random.uniform(14, 26, 2))
        turn = float(random.uniform(0, 360))
        ImageDraw.Draw(picture).regular_polygon((centre, random.uniform(9, 14)), sides, turn, tuple(colour))
        noise = random.normal(0, 15, (40, 40, 3))
        pixels = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
