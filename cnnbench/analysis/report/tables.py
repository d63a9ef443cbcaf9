"""The tables of a report, as texts with the number behind each; ``formats`` and the page only lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from cnnbench.analysis.comparison import Comparison, describe_seeds_needed
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, Row
from cnnbench.analysis.metric_names import (
    COSTS,
    MISSING,
    compact,
    higher_is_better,
    interval,
    leaf,
    number,
    p_value,
    plus_minus,
    title,
    unit,
)
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import Summary
from cnnbench.config.settings import short_names, show

if TYPE_CHECKING:
    from cnnbench.analysis.effects import Effects

SHOWN_COSTS = {
    "parameters": "weights",
    "flops_per_image": "FLOPs/image",
    "seconds_per_epoch": "s/epoch",
    "images_per_second": "images/s",
}


class Cell(NamedTuple):
    """What a table shows, and what it sorts by: None sorts last."""

    text: str
    value: float | str | None

    @property
    def numeric(self) -> bool:
        """Whether it stands to the right."""
        return not isinstance(self.value, str)


@dataclass(frozen=True)
class Table:
    """A caption, column titles, and rows of as many cells."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return self._numeric[column]

    @cached_property
    def _numeric(self) -> tuple[bool, ...]:  # once a table, for the page asks at every cell
        return tuple(all(row[column].numeric for row in self.rows) for column in range(len(self.headers)))


def text(value: str) -> Cell:
    """A cell of words."""
    return Cell(value, value)


def leaderboard_table(board: Leaderboard) -> Table:
    """A row a configuration, best first."""
    names = short_names(board.grid.factors)
    headers = ["#", *(names[factor] for factor in board.grid.factors), "n"]
    for metric in board.metrics:
        headers.append(f"{title(metric)}{',' * bool(unit(metric))}{unit(metric)}")
        headers += ["95% interval"] * _has_interval(board, metric)
    if _has_last_epoch(board):
        headers.append("at the last epoch")
    headers += ["best epoch", *SHOWN_COSTS.values()]
    return Table(caption(board), tuple(headers), tuple(tuple(_cells(board, row)) for row in board.rows))


def _has_interval(board: Leaderboard, metric: str) -> bool:
    """Whether the table gives a metric's interval: of the objective, and of what it is on the test set."""
    return metric == board.objective or leaf(metric) == leaf(board.objective)


def _has_last_epoch(board: Leaderboard) -> bool:
    """Whether the objective is measured every epoch, so that its best and its last value differ."""
    return not board.objective.startswith("test/") and board.objective not in COSTS


def _cells(board: Leaderboard, row: Row) -> list[Cell]:
    others = len(row.configuration.incomplete)
    cells = [Cell(str(row.place), row.place)]
    cells += [_factor(row.configuration, factor) for factor in board.grid.factors]
    cells.append(Cell(f"{row.n} of {row.n + others}" if others else str(row.n), row.n))
    for metric in board.metrics:
        summary = row.objective if metric == board.objective else row.final[metric]
        cells.append(_summary(summary, metric))
        if _has_interval(board, metric):
            cells.append(Cell(interval_text(summary, metric), summary.low))
    if _has_last_epoch(board):
        cells.append(_summary(row.final[board.objective], board.objective))
    cells.append(Cell(MISSING if row.best_epoch is None else f"{row.best_epoch:.3g}", row.best_epoch))
    return cells + [Cell(compact(row.costs[name]), row.costs[name]) for name in SHOWN_COSTS]


def _factor(configuration: Configuration, factor: str) -> Cell:
    if factor not in configuration.values:
        return text(MISSING)
    value = configuration.values[factor]
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(show(value), value if plain else show(value))


def _summary(summary: Summary, metric: str) -> Cell:
    return Cell(plus_minus(summary.mean, summary.std, metric), summary.mean)


def interval_text(summary: Summary, metric: str) -> str:
    """The interval, or why there is none."""
    return "none: n = 1" if summary.n == 1 else interval(summary.low, summary.high, metric)


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


def comparison_table(comparisons: Sequence[Comparison], reference: Configuration, metric: str) -> Table:
    """Every other configuration against the reference."""
    rows = []
    for c in comparisons:
        d = c.difference
        effect = MISSING if d.effect is None else f"{d.effect:+.2f}"
        pairs = {"paired t": f"{d.n} pairs, t", "Welch t": "Welch t", "exact permutation": "exact", "none": MISSING}
        rows.append((
            text(c.configuration.short), Cell(number(d.value, metric, sign=True), d.value),
            Cell(interval(d.low, d.high, metric, sign=True), d.low), Cell(effect, d.effect),
            Cell(p_value(d.p), d.p), Cell(p_value(c.p), c.p), text(c.verdict), text(pairs[d.method]),
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
        name = " × ".join(effects.names[factor] for factor in line.term)  # noqa: RUF001
        f = MISSING if line.f is None else f"{line.f:.2f}"
        eta = MISSING if line.partial_eta_squared is None else f"{line.partial_eta_squared:.3f}"
        rows.append((text(name), Cell(f"{line.sum_of_squares:.3e}", line.sum_of_squares), Cell(str(line.df), line.df),
                     Cell(f, line.f), Cell(p_value(line.p_raw), line.p_raw), Cell(p_value(line.p), line.p),
                     Cell(eta, line.partial_eta_squared)))  # fmt: skip
    rest = effects.table
    blank = Cell("", None)
    rows.append((text("residual"), Cell(f"{rest.residual:.3e}", rest.residual), Cell(str(rest.df), rest.df),
                 blank, blank, blank, blank))  # fmt: skip
    headers = ("term", "sum of squares", "df", "F", "p", "p, Holm", "partial η²")
    return Table(f"Analysis of variance of {title(effects.metric)}, type 2.", headers, tuple(rows))


def environment_table(runs: Sequence[Run]) -> Table:
    """What the runs were made with; several values where they differ."""
    names = (
        "cnnbench",
        "git",
        "git_dirty",
        "python",
        "torch",
        "torchvision",
        "lightning",
        "device",
        "gpu",
        "cpu",
        "threads",
    )
    rows = []
    for name in names:
        found = [run.part("environment").get(name) for run in runs]
        kinds = list(dict.fromkeys(show(value) for value in found if value is not None))
        if kinds:
            rows.append((text(name.replace("_", " ")), text(", ".join(kinds))))
    return Table("What the runs were made with.", ("what", "which"), tuple(rows))
