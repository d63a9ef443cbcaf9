"""The leaderboard as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cnnbench.analysis.leaderboard import Leaderboard, Row
from cnnbench.analysis.metric_names import MISSING, compact, number, plural, plus_minus, title, unit
from cnnbench.analysis.report.tables import caption, interval_text, trouble
from cnnbench.config.settings import short_names, show

WIDTH = 100
MOST_ROWS = 40


def to_text(board: Leaderboard, width: int = WIDTH) -> str:
    """An aligned table of at most ``width`` columns, best first, then what did not complete, and why."""
    parts = [_wrap(caption(board), width)]
    if board.rows:
        parts.append(_table(board, width))
    if len(board.rows) > MOST_ROWS:
        parts.append(f"... and {plural(len(board.rows) - MOST_ROWS, 'more configuration')} in the files")
    parts += [_wrap(f"note: {note}", width) for note in board.notes]
    if lines := trouble(board):
        told = [textwrap.shorten(f"  {line}", 3 * width, placeholder=" ...") for line in lines[:MOST_ROWS]]
        if len(lines) > MOST_ROWS:
            told.append(f"... and {len(lines) - MOST_ROWS} more")
        parts.append("\n".join(["not completed:", *(_wrap(f"  {line}", width) for line in told)]))
    return "\n".join(parts) + "\n"


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(text, width, subsequent_indent="      ", break_on_hyphens=False)


def _table(board: Leaderboard, width: int) -> str:
    """The fullest of some layouts that fits; the last is made to."""
    everything = {"factors", "recall", "costs", "interval"}
    for left_out in (set(), {"recall"}, {"recall", "costs"}, {"recall", "costs", "interval"}, everything):
        columns = _columns(board, everything - left_out)
        widths = [max(map(len, column)) for column in columns]
        excess = sum(widths) + 2 * (len(widths) - 1) - width
        if excess <= 0:
            return _aligned(columns, widths)
    widths[1] = max(12, widths[1] - excess)  # the configuration's name is what gives way
    columns[1] = [text if len(text) <= widths[1] else "..." + text[3 - widths[1] :] for text in columns[1]]
    return _aligned(columns, widths)


def _columns(board: Leaderboard, parts: set[str]) -> list[list[str]]:
    """Texts by column, the title first.

    Args:
        parts: "factors" is a column a factor, instead of one for the whole name; "interval" the objective's; "recall"
            the test set's; "costs" the weights and the seconds per epoch.
    """
    rows = board.rows[:MOST_ROWS]
    names = short_names(board.grid.factors)
    columns = [["#", *(str(row.place) for row in rows)]]
    if "factors" in parts:
        columns += [[names[f], *(_value(row, f) for row in rows)] for f in board.grid.factors]
    else:
        columns.append(["configuration", *(row.configuration.short for row in rows)])
    counts = [(row.n, row.n + len(row.configuration.incomplete)) for row in rows]
    columns.append(["n", *(str(n) if n == of else f"{n}/{of}" for n, of in counts)])
    for metric in board.metrics:
        if metric == "test/recall" and metric != board.objective and "recall" not in parts:
            continue
        summaries = [row.objective if metric == board.objective else row.final[metric] for row in rows]
        name = title(metric).replace("validation", "val").replace("accuracy", "acc.") + unit(metric)
        columns.append([name, *(plus_minus(s.mean, s.std, metric) for s in summaries)])
        if metric == board.objective and "interval" in parts:
            columns.append(["95% interval", *(interval_text(s, metric) for s in summaries)])
    if "costs" in parts:
        columns.append(["weights", *(compact(row.costs["parameters"]) for row in rows)])
        columns.append(["s/epoch", *(_seconds(row.costs["seconds_per_epoch"]) for row in rows)])
    return columns


def _value(row: Row, factor: str) -> str:
    values = row.configuration.values
    return show(values[factor]) if factor in values else MISSING


def _seconds(value: float | None) -> str:
    return number(value) if value is None else f"{value:.2f}"


def _aligned(columns: Sequence[list[str]], widths: Sequence[int]) -> str:
    """Names to the left, numbers to the right."""
    numeric = [all(text[:1].isdigit() or text[:1] in f"-+{MISSING}" for text in column[1:]) for column in columns]
    lines = []
    for texts in zip(*columns, strict=True):
        cells = (t.rjust(w) if right else t.ljust(w) for t, w, right in zip(texts, widths, numeric, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])
