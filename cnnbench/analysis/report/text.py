"""Tables for a terminal."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.metric_names import plural
from cnnbench.analysis.report.tables import TERMINAL, leaderboard_table

MOST_ROWS = 40


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    """A table of aligned columns, the ``numeric`` ones to the right, with a rule below the headers."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    form = "  ".join(f"{{:{'>' if right else '<'}{width}}}" for width, right in zip_longest(widths, numeric))
    lines = [form.format(*texts).rstrip() for texts in (headers, *rows)]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def leaderboard_text(board: Leaderboard, width: int = 100) -> str:
    """A table of at most ``width`` columns, best first, then what did not complete, and why."""

    def wrapped(text: str, indent: str = "") -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent="      ", break_on_hyphens=False)

    parts = [textwrap.fill(board.caption, width), _fitting_table(board, width)] if board.rows else []
    if len(board.rows) > MOST_ROWS:
        parts.append(f"... and {plural(len(board.rows) - MOST_ROWS, 'more configuration')} in the files")
    parts += [wrapped(f"note: {note}") for note in board.notes]
    if lines := board.trouble:
        shown = [textwrap.shorten(line, 3 * width, placeholder=" ...") for line in lines[:MOST_ROWS]]
        parts += ["not completed:", *(wrapped(line, "  ") for line in shown)]
        if len(lines) > MOST_ROWS:
            parts.append(f"  ... and {len(lines) - MOST_ROWS} more")
    return "\n".join(parts) + "\n"


def answer_text(sentences: Sequence[str], width: int = 100) -> str:
    """A report's answer as a list."""
    return "\n".join(textwrap.fill(f"- {text}", width, subsequent_indent="  ") for text in sentences)


def _fitting_table(board: Leaderboard, width: int) -> str:
    """The fullest layout that fits; in the last one the configuration's name gives way."""
    for layout in TERMINAL:
        table = leaderboard_table(board, layout, MOST_ROWS)
        headers = [
            h.replace("validation", "val").replace("accuracy", "acc.").replace(", %", " %") for h in table.headers
        ]
        rows = [[cell.text for cell in row] for row in table.rows]
        text = text_table(headers, rows, table.numeric)
        if (excess := max(map(len, text.splitlines())) - width) <= 0:
            return text
    most = max(12, max(len(row[1]) for row in rows) - excess)
    for row in rows:
        row[1] = row[1] if len(row[1]) <= most else "..." + row[1][3 - most :]
    return text_table(headers, rows, table.numeric)
