"""A row a configuration, best first: built from records alone. How it is written is ``formats`` and ``terminal``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from cnnbench.analysis.grouping import Configuration, Grid, group
from cnnbench.analysis.metric_names import COSTS, check_metric, higher_is_better, plural
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import Summary, summarise
from cnnbench.utils.record import write_atomically

DEFAULT_OBJECTIVE = "val/accuracy"
NAME = "leaderboard"


@dataclass(frozen=True)
class Row:
    """A configuration's place and numbers.

    Attributes:
        place: from 1.
        best, final: summaries over seeds, by metric: at the epoch that the run's objective chose, and after the last.
        costs: means over seeds; None where no run tells.
        best_epoch: mean over seeds of the chosen epoch, counted from 1.
    """

    place: int
    configuration: Configuration
    objective: Summary
    best: dict[str, Summary]
    final: dict[str, Summary]
    costs: dict[str, float | None]
    best_epoch: float | None

    @property
    def n(self) -> int:
        """Completed runs."""
        return len(self.configuration.runs)

    def value(self, metric: str) -> Summary:
        """A metric over seeds, of the weights that each run stands for."""
        return summarise([run.value(metric) for run in self.configuration.runs])


@dataclass(frozen=True)
class Leaderboard:
    """The rows, best first, and what to know about them.

    Attributes:
        objective: the metric that orders the rows.
        tests: the test metrics that are shown beside it; they order nothing unless the objective is one of them.
        rows: of the configurations with a completed run.
        known: every metric and cost that a completed run has.
    """

    grid: Grid
    objective: str
    tests: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    known: frozenset[str]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The objective, then the test metrics."""
        return (self.objective, *(name for name in self.tests if name != self.objective))


def build(runs: Sequence[Run], objective: str | None = None, ignore: Iterable[str] = ()) -> Leaderboard:
    """The leaderboard of ``runs``.

    Args:
        runs: of any status (``collect``).
        objective: a metric or a cost (``val/loss``, ``test/accuracy``, ``parameters``); by default the runs' own.
        ignore: factors to average over (``grid.group``).

    Raises:
        RequestError: no finished run has that metric.
    """
    grid = group(runs, ignore)
    known = {name for run in grid.runs for name in run.metrics()}
    if objective is not None and grid.runs:
        check_metric(objective, known)
    own = list(dict.fromkeys(run.objective for run in grid.runs if run.objective))
    chosen = objective or (own[0] if own else DEFAULT_OBJECTIVE)
    notes = list(grid.notes)
    if len(own) > 1:
        notes.append(f"The runs chose their best epochs by different objectives ({', '.join(own)}).")
    if chosen.startswith("test/"):
        notes.append(
            "Ordered by a test metric: the first place was chosen on the test set, so its value is optimistic."
        )
    lost = sum(not c.runs for c in grid.configurations)
    if lost:
        notes.append(f"{plural(lost, 'configuration')} without a completed run; listed below, not ranked.")
    beside = ("test/accuracy", "test/recall", *(["test/loss"] if chosen.endswith("loss") else []))
    tests = tuple(name for name in beside if name in known)
    names = sorted({chosen, *(name for name in known if name not in COSTS)})
    rows = [_row(c, chosen, names) for c in grid.configurations if c.runs]
    sign = -1 if higher_is_better(chosen) else 1
    rows.sort(key=lambda row: (row.objective.mean is None, sign * (row.objective.mean or 0), row.configuration.label))
    placed = tuple(replace(row, place=place) for place, row in enumerate(rows, start=1))
    return Leaderboard(grid, chosen, tests, placed, tuple(notes), frozenset(known))


def _row(configuration: Configuration, objective: str, names: Iterable[str]) -> Row:
    runs = configuration.runs
    costs = {name: _mean([run.cost(name) for run in runs]) for name in COSTS}
    epochs = [run.part("best").get("epoch") for run in runs]
    first = _mean([float(epoch) + 1 if isinstance(epoch, (int, float)) else None for epoch in epochs])
    best = {name: summarise([run.best(name) for run in runs]) for name in names}
    final = {name: summarise([run.final(name) for run in runs]) for name in names}
    return Row(0, configuration, summarise([run.value(objective) for run in runs]), best, final, costs, first)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def write(board: Leaderboard, folder: Path) -> list[Path]:
    """Write leaderboard.csv and leaderboard.md into ``folder`` and return their paths."""
    from cnnbench.analysis.report import formats

    paths = []
    for suffix, text in (("csv", formats.leaderboard_csv(board)), ("md", formats.leaderboard_markdown(board))):
        paths.append(Path(folder) / f"{NAME}.{suffix}")
        write_atomically(paths[-1], text)
    return paths


def to_text(board: Leaderboard, width: int = 100) -> str:
    """The leaderboard for a terminal: an aligned table, then its notes and the runs that did not complete."""
    from cnnbench.analysis.report import text as terminal

    return terminal.to_text(board, width)
