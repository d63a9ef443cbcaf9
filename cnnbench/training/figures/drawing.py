"""What the figures of a run share. They are PIL images: matplotlib takes a third of a second for each, and a sweep of
small networks draws as long as it trains."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

DARK, GREY, RIGHT, WRONG = "#222222", "#8a8a8a", "#1a7f37", "#c62828"
# Blues of ColorBrewer (Harrower & Brewer 2003), from none to most
BLUES = ((247, 251, 255), (222, 235, 247), (198, 219, 239), (158, 202, 225), (107, 174, 214), (66, 146, 198),
         (33, 113, 181), (8, 81, 156), (8, 48, 107))  # fmt: skip

Font = ImageFont.FreeTypeFont


@lru_cache
def font(size: int) -> Font:
    """DejaVu Sans, which has the letters of most alphabets; it comes with matplotlib."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def fitted(words: str, width: float, face: Font) -> str:
    """``words`` on one line, cut with an ellipsis where they are wider than ``width`` pixels."""
    words = " ".join(words.split())
    if face.getlength(words) <= width:
        return words
    while words and face.getlength(f"{words}…") > width:
        words = words[:-1]
    return f"{words}…"
