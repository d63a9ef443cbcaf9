"""The leaderboard's columns, defined once for every format: CSV and JSON, Markdown, LaTeX, HTML and the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow
from cnnbench.analysis.metric_names import COSTS, MISSING, compact, interval, leaf, plus_minus, title, unit
from cnnbench.analysis.statistics import Summary
from cnnbench.config.settings import short_names, show

# Layout 0 is that of Markdown, LaTeX and HTML. A terminal takes the first of 1 to 5 that fits: 2 leaves out the test
# set's recall, 3 the costs too, 4 the interval too, and 5 has the configuration's name in place of its factors.
LAYOUTS = range(6)
TERMINAL, TABLES, NOWHERE = LAYOUTS[1:], LAYOUTS[:1], LAYOUTS[:0]
SUMMARY = ("mean", "std", "low", "high")
SHORT_COSTS = {"parameters": "weights", "flops_per_image": "FLOPs/image", "seconds_per_epoch": "s/epoch",
               "images_per_second": "images/s"}  # fmt: skip


class Cell(NamedTuple):
    """What a table shows, and what it sorts by: None sorts last."""

    text: str
    value: float | str | None


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
        Column(lambda row: row.place, "place", "#", layouts=LAYOUTS),
        Column(lambda row: row.configuration.label, "configuration"),
        Column(lambda row: row.configuration.short, "", "configuration", layouts=LAYOUTS[5:]),
        *(_factor(factor, names[factor]) for factor in board.grid.factors),
        Column(lambda row: row.n, "n", "n", text=_count, layouts=LAYOUTS),
        Column(lambda row: len(row.configuration.incomplete), "not completed"),
    ]
    for metric in dict.fromkeys((*board.metrics, *sorted(board.known.difference(COSTS)))):
        found += _metric(metric, board)
    found.append(Column(lambda row: row.best_epoch, "best epoch", "best epoch", text=_best_epoch, layouts=TABLES))
    return found + [_cost(name) for name in COSTS]


def _metric(metric: str, board: Leaderboard) -> list[Column]:
    """A metric's columns: in tables its mean and interval, in CSV the best and the final value, or the test set's."""

    def shown(row: LeaderboardRow) -> Summary:
        return row.objective if metric == board.objective else row.final(metric)

    found = []
    chosen = metric == board.objective
    if metric in board.metrics:
        heading = f"{title(metric)}{',' * bool(unit(metric))}{unit(metric)}"
        layouts = LAYOUTS[:2] if metric == "test/recall" and not chosen else LAYOUTS
        found.append(Column(shown, "", heading, metric, layouts=layouts))
    if metric in board.metrics and leaf(metric) == leaf(board.objective):
        found.append(Column(shown, "", "95% interval", metric, lambda row: interval_text(shown(row), metric),
                            sort_by="low", layouts=LAYOUTS[:4] if chosen else TABLES))  # fmt: skip
    if metric.startswith("test/"):
        found.append(Column(lambda row: row.final(metric), metric, metric=metric))
    elif metric not in COSTS:
        found.append(Column(lambda row: row.best(metric), f"{metric} best", metric=metric))
        found.append(Column(lambda row: row.final(metric), f"{metric} final", "at the last epoch", metric,
                            layouts=TABLES if chosen else NOWHERE))  # fmt: skip
    return found


def interval_text(summary: Summary, metric: str) -> str:
    """The interval, or why there is none."""
    return "none: n = 1" if summary.n == 1 else interval(summary.low, summary.high, metric)


def _factor(factor: str, name: str) -> Column:
    def value(row: LeaderboardRow) -> float | str | None:
        if factor not in row.configuration.values:
            return None
        found = row.configuration.values[factor]
        return found if isinstance(found, (int, float)) and not isinstance(found, bool) else show(found)

    return Column(value, factor, name, layouts=LAYOUTS[:5])


def _count(row: LeaderboardRow) -> str:
    others = len(row.configuration.incomplete)
    return f"{row.n} of {row.n + others}" if others else str(row.n)


def _best_epoch(row: LeaderboardRow) -> str:
    return MISSING if row.best_epoch is None else f"{row.best_epoch:.3g}"


def _cost(name: str) -> Column:
    layouts = LAYOUTS[:3] if name in ("parameters", "seconds_per_epoch") else TABLES if name in SHORT_COSTS else NOWHERE
    return Column(lambda row: row.cost(name), name, SHORT_COSTS.get(name, name), "",
                  lambda row: compact(row.cost(name)), layouts=layouts)  # fmt: skip
