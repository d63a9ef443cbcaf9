"""The tables of a report: texts, and the number behind each. The formats only lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cnnbench.analysis.comparison import Comparison, describe_seeds_needed
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard
from cnnbench.analysis.metric_names import MISSING, higher_is_better, interval, number, p_value, title, unit
from cnnbench.analysis.report.columns import Cell, columns

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis
    from cnnbench.analysis.effects import Effects

METHODS = {"paired t": "{} pairs, t", "Welch t": "Welch t", "exact permutation": "exact", "none": MISSING}


@dataclass(frozen=True)
class Table:
    """A caption, column titles, and rows of as many cells."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @cached_property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, and so stand to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headers)
        return tuple(not any(isinstance(cell.value, str) for cell in column) for column in columns)


def text(value: str) -> Cell:
    """A cell of words."""
    return Cell(value, value)


def leaderboard_table(board: Leaderboard, layout: int = 0, most: int | None = None) -> Table:
    """The first ``most`` rows in one of ``columns.LAYOUTS``."""
    shown = [column for column in columns(board) if layout in column.layouts]
    rows = [tuple(column.cell(row) for column in shown) for row in board.rows[:most]]
    return Table(caption(board), tuple(column.title for column in shown), tuple(rows))


def caption(board: Leaderboard) -> str:
    """What orders the rows and what ± is."""
    way = "highest" if higher_is_better(board.objective) else "lowest"
    return (f"Ordered by {title(board.objective)}, {way} first; mean ± standard deviation over seeds, "
            "95% Student-t interval of the mean.")  # fmt: skip


def trouble(board: Leaderboard) -> list[str]:
    """A line for each run that did not complete: how it ended, what it was, why."""
    lines = []
    for configuration, run in board.grid.incomplete:
        seed = "" if run.seed is None else f", seed {run.seed}"
        lines.append(f"{run.status}: {configuration.short}{seed}: {run.reason} ({run.path.name})")
    return lines


def report_tables(analysis: Analysis) -> dict[str, Table]:
    """The leaderboard, and the comparison and the analysis of variance where there is one."""
    tables = {"leaderboard": leaderboard_table(analysis.board)}
    if analysis.comparisons and analysis.reference:
        tables["comparison"] = comparison_table(analysis.comparisons, analysis.reference, analysis.metric)
    if analysis.effects:
        tables["anova"] = anova_table(analysis.effects)
    return tables


def comparison_table(comparisons: Sequence[Comparison], reference: Configuration, metric: str) -> Table:
    """Every other configuration against the reference."""
    rows = []
    for c in comparisons:
        d = c.difference
        effect = MISSING if d.effect is None else f"{d.effect:+.2f}"
        rows.append((
            text(c.configuration.short), Cell(number(d.value, metric, sign=True), d.value),
            Cell(interval(d.low, d.high, metric, sign=True), d.low), Cell(effect, d.effect),
            Cell(p_value(d.p), d.p), Cell(p_value(c.p), c.p), text(c.verdict), text(METHODS[d.method].format(d.n)),
            Cell(describe_seeds_needed(c, metric), c.seeds_needed),
        ))  # fmt: skip
    points = ", points" if unit(metric) else ""
    headers = ("configuration", f"difference{points}", "95% interval", "Hedges' g", "p", "p, Holm", "verdict",
               "test", "seeds needed to show")  # fmt: skip
    return Table(f"Difference in {title(metric)} from {reference.short}.", headers, tuple(rows))


def anova_table(effects: Effects) -> Table:
    """Analysis of variance, type 2."""
    rows = []
    for line in effects.table.rows:
        name = " × ".join(effects.short[factor] for factor in line.term)  # noqa: RUF001
        f = MISSING if line.f is None else f"{line.f:.2f}"
        eta = MISSING if line.partial_eta_squared is None else f"{line.partial_eta_squared:.3f}"
        rows.append((text(name), Cell(f"{line.sum_of_squares:.3e}", line.sum_of_squares), Cell(str(line.df), line.df),
                     Cell(f, line.f), Cell(p_value(line.p_raw), line.p_raw), Cell(p_value(line.p), line.p),
                     Cell(eta, line.partial_eta_squared)))  # fmt: skip
    rest = effects.table.full
    blank = Cell("", None)
    rows.append((text("residual"), Cell(f"{rest.residual:.3e}", rest.residual), Cell(str(rest.df), rest.df),
                 blank, blank, blank, blank))  # fmt: skip
    headers = ("term", "sum of squares", "df", "F", "p", "p, Holm", "partial η²")
    return Table(f"Analysis of variance of {title(effects.metric)}, type 2.", headers, tuple(rows))
