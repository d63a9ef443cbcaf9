"""The tables of a report: texts, and the number behind each. The formats only lay them out.

The leaderboard's columns are defined once for every format: CSV and JSON, Markdown, LaTeX, HTML and the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnbench.analysis.comparison import Comparison
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow
from cnnbench.analysis.metric_names import (
    COSTS,
    MISSING,
    compact,
    difference,
    higher_is_better,
    interval,
    leaf,
    number,
    p_value,
    plural,
    plus_minus,
    title,
    unit,
)  # fmt: skip
from cnnbench.analysis.statistics import MOST_SEEDS, Summary
from cnnbench.config.settings import short_names, show

if TYPE_CHECKING:
    from cnnbench.analysis.analyse import Analysis
    from cnnbench.analysis.effects import Effects

# Layout 0 is that of Markdown, LaTeX and HTML. A terminal takes the first of 1 to 5 that fits: 2 leaves out the test
# set's recall, 3 the costs too, 4 the interval too, and 5 has the configuration's name in place of its factors.
LAYOUTS = range(6)
TERMINAL, TABLES, NOWHERE = LAYOUTS[1:], LAYOUTS[:1], LAYOUTS[:0]
SUMMARY = ("mean", "std", "low", "high")
SHORT_COSTS = {"parameters": "weights", "flops_per_image": "FLOPs/image", "seconds_per_epoch": "s/epoch",
               "images_per_second": "images/s"}  # fmt: skip
METHODS = {"paired t": "{} pairs, t", "Welch t": "Welch t", "exact permutation": "exact", "none": MISSING}


class Cell(NamedTuple):
    """What a table shows, and what it sorts by: None sorts last."""

    text: str
    value: float | str | None


class Table(NamedTuple):
    """A caption, column titles, and rows of as many cells."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, and so stand to the right."""
        return [not any(isinstance(row[i].value, str) for row in self.rows) for i in range(len(self.headers))]


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        value: of a row: a number, words, None where it is unknown, or a metric's ``Summary`` over seeds.
        key: its name in CSV and JSON, where a summary has a column for each of ``SUMMARY``; empty: not there.
        title: its heading in tables, with the unit.
        metric: that the value is a summary of.
        text: how a row's value is written; by default as on the command line, a summary as mean ± deviation.
        sort_by: the part of a summary that the table sorts by.
        layouts: the tables that have it.
    """

    value: Callable[[LeaderboardRow], Any]
    key: str = ""
    title: str = ""
    metric: str = ""
    text: Callable[[LeaderboardRow], str] | None = None
    sort_by: str = "mean"
    layouts: range = NOWHERE

    @property
    def keys(self) -> list[str]:
        """The columns of CSV."""
        return [f"{self.key} {part}" for part in SUMMARY] if self.metric else [self.key]

    def numbers(self, row: LeaderboardRow) -> list[Any]:
        """The values by ``keys``."""
        value = self.value(row)
        return [getattr(value, part) for part in SUMMARY] if self.metric else [value]

    def cell(self, row: LeaderboardRow) -> Cell:
        """The row's cell in a table."""
        value = self.value(row)
        if self.metric:
            text = plus_minus(value.mean, value.std, self.metric)
            value = getattr(value, self.sort_by)
        else:
            text = MISSING if value is None else show(value)
        return Cell(self.text(row) if self.text else text, value)


def columns(board: Leaderboard) -> list[Column]:
    """Every column, in their order."""
    names = short_names(board.grid.factors)
    found = [
        Column(lambda row: row.rank, "place", "#", layouts=LAYOUTS),
        Column(lambda row: row.configuration.label, "configuration"),
        Column(lambda row: row.configuration.short, "", "configuration", layouts=LAYOUTS[5:]),
        *(Column(_setting(factor), factor, names[factor], layouts=LAYOUTS[:5]) for factor in board.grid.factors),
        Column(lambda row: row.n, "n", "n", text=_count, layouts=LAYOUTS),
        Column(lambda row: len(row.configuration.incomplete), "not completed"),
    ]
    for metric in dict.fromkeys((*board.metrics, *sorted(board.known.difference(COSTS)))):
        found += _metric(metric, board)
    found.append(Column(lambda row: row.best_epoch, "best epoch", "best epoch", layouts=TABLES,
                        text=lambda row: MISSING if row.best_epoch is None else f"{row.best_epoch:.3g}"))  # fmt: skip
    return found + [_cost(name) for name in COSTS]


def _setting(factor: str) -> Callable[[LeaderboardRow], float | str | None]:
    def value(row: LeaderboardRow) -> float | str | None:
        setting = row.configuration.values.get(factor)
        is_number = isinstance(setting, (int, float)) and not isinstance(setting, bool)
        return setting if is_number or factor not in row.configuration.values else show(setting)

    return value


def _count(row: LeaderboardRow) -> str:
    others = len(row.configuration.incomplete)
    return f"{row.n} of {row.n + others}" if others else str(row.n)


def _metric(metric: str, board: Leaderboard) -> list[Column]:
    """A metric's columns: in tables its mean and interval, in CSV the best and the final value, or the test set's."""
    chosen = metric == board.objective

    def shown(row: LeaderboardRow) -> Summary:
        return row.objective if chosen else row.final(metric)

    found = []
    if metric in board.metrics:
        heading = f"{title(metric)}{',' * bool(unit(metric))}{unit(metric)}"
        layouts = LAYOUTS[:2] if metric == "test/recall" and not chosen else LAYOUTS
        found.append(Column(shown, "", heading, metric, layouts=layouts))
    if metric in board.metrics and leaf(metric) == leaf(board.objective):
        found.append(Column(shown, "", "95% interval", metric, lambda row: _interval(shown(row), metric),
                            sort_by="low", layouts=LAYOUTS[:4] if chosen else TABLES))  # fmt: skip
    if metric.startswith("test/"):
        found.append(Column(lambda row: row.final(metric), metric, metric=metric))
    elif metric not in COSTS:
        found.append(Column(lambda row: row.best(metric), f"{metric} best", metric=metric))
        found.append(Column(lambda row: row.final(metric), f"{metric} final", "at the last epoch", metric,
                            layouts=TABLES if chosen else NOWHERE))  # fmt: skip
    return found


def _interval(summary: Summary, metric: str) -> str:
    return "none: n = 1" if summary.n == 1 else interval(summary.low, summary.high, metric)


def _cost(name: str) -> Column:
    layouts = LAYOUTS[:3] if name in ("parameters", "seconds_per_epoch") else TABLES if name in SHORT_COSTS else NOWHERE
    return Column(lambda row: row.cost(name), name, SHORT_COSTS.get(name, name), "",
                  lambda row: compact(row.cost(name)), layouts=layouts)  # fmt: skip


def leaderboard_table(board: Leaderboard, layout: int = 0, most: int | None = None) -> Table:
    """The first ``most`` rows in one of ``LAYOUTS``."""
    shown = [column for column in columns(board) if layout in column.layouts]
    rows = [[column.cell(row) for column in shown] for row in board.rows[:most]]
    return Table(caption(board), [column.title for column in shown], rows)


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


def _cell(value: float | None, form: str) -> Cell:
    return Cell(MISSING if value is None else format(value, form), value)


def comparison_table(comparisons: Sequence[Comparison], reference: Configuration, metric: str) -> Table:
    """Every other configuration against the reference."""
    rows = []
    for c in comparisons:
        d, name = c.difference, c.configuration.short
        rows.append([
            Cell(name, name), Cell(number(d.value, metric, sign=True), d.value),
            Cell(interval(d.low, d.high, metric, sign=True), d.low), _cell(d.effect, "+.2f"),
            Cell(p_value(d.p), d.p), Cell(p_value(c.p), c.p), Cell(c.verdict, c.verdict),
            Cell(METHODS[d.method].format(d.n), d.method), Cell(describe_seeds_needed(c, metric), c.seeds_needed),
        ])  # fmt: skip
    points = ", points" if unit(metric) else ""
    headers = ["configuration", f"difference{points}", "95% interval", "Hedges' g", "p", "p, Holm", "verdict",
               "test", "seeds needed to show"]  # fmt: skip
    return Table(f"Difference in {title(metric)} from {reference.short}.", headers, rows)


def describe_seeds_needed(comparison: Comparison, metric: str) -> str:
    """How many seeds would show a difference of the given size, in words."""
    size = difference(comparison.size, metric).lstrip("+").replace("1.00 points", "1 point")
    if comparison.seeds_needed is None:
        alone = comparison.difference.n < 2
        return "one run a side: no test" if alone else "no spread between seeds to reckon with"
    if comparison.seeds_needed > MOST_SEEDS:
        return f"more than {MOST_SEEDS} seeds for {size}"
    return f"{plural(comparison.seeds_needed, 'seed')} for {size}"


def anova_table(effects: Effects) -> Table:
    """Analysis of variance, type 2."""
    rows = []
    for line in effects.table.rows:
        name = " × ".join(effects.short[factor] for factor in line.term)  # noqa: RUF001
        rows.append([Cell(name, name), _cell(line.sum_of_squares, ".3e"), _cell(line.df, "d"), _cell(line.f, ".2f"),
                     Cell(p_value(line.p_raw), line.p_raw), Cell(p_value(line.p), line.p),
                     _cell(line.partial_eta_squared, ".3f")])  # fmt: skip
    rest = effects.table.full
    rows.append([Cell("residual", "residual"), _cell(rest.residual, ".3e"), _cell(rest.df, "d"), *[Cell("", None)] * 4])
    headers = ["term", "sum of squares", "df", "F", "p", "p, Holm", "partial η²"]
    return Table(f"Analysis of variance of {title(effects.metric)}, type 2.", headers, rows)
