"""What all figures share: colours, sizes, and the way from a matplotlib figure to SVG that fits into a page.

Text, axes and grid take the page's own colour, so one figure serves a light and a dark page; dashes and markers say the
same as colours again.
"""

import io
import re
import warnings
from html import escape
from pathlib import Path
from typing import Any

from matplotlib import rc_context, rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito (2008)
BLUE, ORANGE = COLOURS[:2]
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), "-", (0, (5, 2)))
LINES = list(zip(COLOURS, DASHES, "os^DvP", strict=True))  # colour, dashes and marker of each
INK = "#010203"  # stands for the page's text colour until the SVG is written
SMALL = (4.3, 2.9)  # inches; three of these stand side by side on a desk, one below the other on a phone
# Of every function that makes a figure: @rc_context(STYLE)
STYLE: Any = rc_params_from_file(Path(__file__).with_name("report.mplstyle"), use_default_template=False)


def panel(size: tuple[float, float] = SMALL, title: str = "", x: str = "", y: str = "") -> tuple[Figure, Axes]:
    """A figure of one axes; call it, and draw on it, within ``rc_context(STYLE)``."""
    figure = Figure(figsize=size)
    axes = figure.subplots()
    axes.set(title=plain(title), xlabel=plain(x), ylabel=plain(y))
    return figure, axes


def plain(text: str, most: int = 0) -> str:
    """``text`` without mathematics or unprintable characters, cut to ``most`` characters (0 is no limit)."""
    text = without_control_characters(text)
    return (text[: most - 1] + "…" if 0 < most < len(text) else text).replace("$", r"\$")


def without_control_characters(text: str) -> str:
    """``text`` with a space for everything that XML cannot hold or a reader cannot see."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def whole_epochs(axes: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element that takes its text colour from the page and asks nothing of the network; ``name``
    (letters, digits and dashes) makes its ids unique in the page, ``description`` is for those who cannot see it."""
    buffer = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has its own fonts
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = "<svg" + buffer.getvalue().partition("<svg")[2]
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\1{name}-", text).replace(INK, "currentColor")
    size = f"width:100%;max-width:{figure.get_figwidth() * 96:.0f}px;height:auto"
    label = f'style="{size}" role="img" aria-label="{escape(without_control_characters(description))}"'
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', lambda _: f" {label}", text, count=1).strip()
