"""A study's own table: for each row and column what the report says, ours, the difference, and whether it fits."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cnnbench.analysis.metric_names import COSTS, compact, is_share, number, plus_minus
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import CONFIDENCE, Summary, summarise, t_quantile
from cnnbench.analysis.studies.study import Reported, Row, Study, measure
from cnnbench.analysis.studies.verdicts import NO_VERDICT, RELATIVE

TIMES = ("seconds_per_epoch", "fit_seconds")  # never a match or not: other machines make other times


class TableCell(NamedTuple):
    """One number of the table."""

    metric: str  # says how it is written
    reported: Reported | None
    ours: Summary
    gap: float | None  # ours minus the report's
    fit: str  # "match", "differs", NO_VERDICT or ""

    @property
    def reported_text(self) -> str:
        """``60.65``, ``28.00 to 30.00``, or a dash."""
        numbers = self.reported if isinstance(self.reported, tuple) else (self.reported,)
        return " to ".join(number(value, self.metric) for value in numbers)

    def ours_text(self, n: int) -> str:
        """``61.20 ± 0.41``, a count in few characters, or a dash; with its own n where not all ``n`` runs have it."""
        if self.metric in COSTS:
            return compact(self.ours.mean)
        text = plus_minus(self.ours.mean, self.ours.std, self.metric)
        return f"{text} (n = {self.ours.n})" if 0 < self.ours.n < n else text

    @property
    def gap_text(self) -> str:
        """``+0.55 (match)``, in points where it is a share, or a dash."""
        return number(self.gap, self.metric, sign=True) + (f" ({self.fit})" if self.fit else "")


class TableRow(NamedTuple):
    """One row of the table: means of ``n`` completed runs."""

    row: Row
    cells: tuple[TableCell, ...]
    n: int
    lost: Mapping[str, int]  # runs that did not complete, by how they ended

    @property
    def count_text(self) -> str:
        """``3``, or ``2, and 1 diverged``, or ``not run``."""
        if not self.n and not self.lost:
            return "not run"
        return str(self.n) + "".join(f", and {count} {how}" for how, count in self.lost.items())


def build_table(
    study: Study, rows: Sequence[Row], runs: Mapping[str, Sequence[Run]], short: Collection[str] = ()
) -> list[TableRow]:
    """The table of a study; a row without runs has empty cells.

    The rows in ``short`` had less than the report's budget: of those that have not learned no number is judged.
    """
    table = []
    for row in rows:
        all_runs = runs.get(row.name, [])
        completed = [run for run in all_runs if run.completed]
        is_early = row.name in short and not study.is_learned_by(all_runs)
        cells = []
        for column in study.columns:
            ours = summarise(measure(run, column.measure) for run in completed)
            cell = compared(row.reported.get(column.key), ours, column.metric, study.tolerance)
            cells.append(cell._replace(fit=NO_VERDICT) if is_early and cell.fit else cell)
        lost = Counter(run.status for run in all_runs if not run.completed)
        table.append(TableRow(row, tuple(cells), len(completed), lost))
    return table


def compared(reported: Reported | None, ours: Summary, metric: str, tolerance: float) -> TableCell:
    """A reported number beside ours.

    A report gives one run. It is a match where it lies within ``tolerance`` of our mean (of a share; a tenth of any
    other number), or within the interval in which one more run of ours would lie with a probability of 95%
    (mean ± t s sqrt(1 + 1/n); Hahn & Meeker 1991), for which it takes three runs.
    """
    if reported is None or ours.mean is None or metric in TIMES:
        return TableCell(metric, reported, ours, None, "")
    low, high = reported if isinstance(reported, tuple) else (reported, reported)
    gap = ours.mean - min(max(ours.mean, low), high)
    allowed = tolerance if is_share(metric) else RELATIVE * abs(high)
    if ours.std is not None and ours.n > 2:
        spread = t_quantile((1 + CONFIDENCE) / 2, ours.n - 1) * ours.std * (1 + 1 / ours.n) ** 0.5
        allowed = max(allowed, spread)
    return TableCell(metric, reported, ours, gap, "match" if abs(gap) <= allowed else "differs")
