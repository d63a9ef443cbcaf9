"""A study's own table: for each row and column what the report says, ours, the difference, and whether it fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from cnnbench.analysis.metric_names import COSTS, MISSING, compact, is_share, number, plus_minus
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import CONFIDENCE, Summary, summarise, t_quantile
from cnnbench.analysis.studies.measure import has_learned, measure, metric_of
from cnnbench.analysis.studies.study import Reported, Row, Study
from cnnbench.analysis.studies.verdicts import NO_VERDICT, RELATIVE

TIMES = ("seconds_per_epoch", "fit_seconds")  # never a match or not: other machines make other times
Fit = Literal["match", "differs", "no verdict at this budget", ""]


@dataclass(frozen=True)
class TableCell:
    """One number of the table; ``metric`` says how it is written, ``gap`` is ours minus the report's."""

    metric: str
    reported: Reported | None
    ours: Summary
    gap: float | None
    fit: Fit


@dataclass(frozen=True)
class TableRow:
    """One row of the table: means of ``n`` completed runs; ``lost`` counts the others by how they ended, and ``refused``
    says why the row could not be run."""

    row: Row
    cells: tuple[TableCell, ...]
    n: int
    lost: Mapping[str, int]
    refused: str = ""


def build_table(
    study: Study,
    rows: Sequence[Row],
    runs: Mapping[str, Sequence[Run]],
    form: str,
    refused: Mapping[str, str] = MappingProxyType({}),
    short: Collection[str] = (),
) -> list[TableRow]:
    """The table of a study in one form; a row without runs has empty cells.

    The rows in ``short`` had less than the report's budget: of those that have not learned no number is judged.
    """
    table = []
    for row in rows:
        all_runs = runs.get(row.name, [])
        completed = [run for run in all_runs if run.completed]
        early = row.name in short and not has_learned(study.learned, all_runs)
        cells = []
        for column in study.columns:
            expression = column.measures[form]
            ours = summarise([measure(run, expression) for run in completed])
            cell = compared(row.reported.get(column.key), ours, metric_of(expression), study.tolerance)
            cells.append(replace(cell, fit=NO_VERDICT) if early and cell.fit else cell)
        lost = Counter(run.status for run in all_runs if not run.completed)
        table.append(TableRow(row, tuple(cells), len(completed), lost, refused.get(row.name, "")))
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


def count_text(row: TableRow) -> str:
    """``3``, or ``2, and 1 diverged``, or ``not run``."""
    if not row.n and not row.lost:
        return "not run"
    return str(row.n) + "".join(f", and {count} {how}" for how, count in row.lost.items())


def reported_text(cell: TableCell) -> str:
    """``60.65``, ``28.00 to 30.00``, or a dash."""
    if cell.reported is None:
        return MISSING
    parts = cell.reported if isinstance(cell.reported, tuple) else (cell.reported,)
    return " to ".join(number(part, cell.metric) for part in parts)


def ours_text(cell: TableCell, n: int) -> str:
    """``61.20 ± 0.41``, a count in few characters, or a dash; with its own n where not all ``n`` runs have the number."""
    if cell.metric in COSTS:
        return compact(cell.ours.mean)
    text = plus_minus(cell.ours.mean, cell.ours.std, cell.metric)
    return f"{text} (n = {cell.ours.n})" if 0 < cell.ours.n < n else text


def gap_text(cell: TableCell) -> str:
    """``+0.55 (match)``, in points where it is a share, or a dash."""
    return number(cell.gap, cell.metric, sign=True) + (f" ({cell.fit})" if cell.fit else "")
