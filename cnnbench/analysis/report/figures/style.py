"""What all figures share: colours, sizes, and the way from a matplotlib figure to SVG that fits into a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito (2008)
BLUE, ORANGE, GREEN = COLOURS[:3]
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), "-", (0, (5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_LINES = len(COLOURS)
INK = "#010203"  # stands for the page's text colour until the SVG is written
SMALL = (4.3, 2.9)  # inches; three of these stand side by side on a desk, one below the other on a phone


@contextmanager
def style() -> Iterator[None]:
    """The settings under which a figure is made and written; those from before return afterwards."""
    import matplotlib

    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.labelsize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.7,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.18,
            "grid.linewidth": 0.6,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "lines.linewidth": 1.6,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",  # the page shows through
            "axes.facecolor": "none",
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color",
                 "grid.color"), INK,
            ),
        }
    ):  # fmt: skip
        yield


def panel(size: tuple[float, float] = SMALL, title: str = "", x: str = "", y: str = "") -> tuple[Figure, Axes]:
    """A figure of one axes; call it, and draw on it, within ``style()``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    axes = figure.subplots()
    axes.set(title=plain(title), xlabel=plain(x), ylabel=plain(y))
    return figure, axes


def plain(text: str, most: int = 0) -> str:
    """``text`` without mathematics or unprintable characters, cut to ``most`` characters (0 is no limit)."""
    text = printable(text)
    if most and len(text) > most:
        text = text[: most - 1] + "…"
    return text.replace("$", r"\$")


def printable(text: str) -> str:
    """``text`` with a space for everything that XML cannot hold or a reader cannot see."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def whole_epochs(axes: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def svg(figure: Figure, name: str, told: str) -> str:
    """The figure as an ``<svg>`` element that takes its text colour from the page and asks nothing of the network.

    Args:
        name: makes its ids unique in a page of several; letters, digits and dashes.
        told: what it shows, for those who cannot see it.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has its own fonts
        FigureCanvasSVG(figure).print_svg(
            buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid=")', rf"\1{name}-", text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", text)
    text = text.replace(INK, "currentColor")
    width = figure.get_figwidth() * 96
    size = f'style="width:100%;max-width:{width:.0f}px;height:auto" role="img" aria-label="{escape(printable(told))}"'
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', lambda match: f"<svg {size} {match[1]}", text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
    return text.strip()
