"""How an interval comes to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Final, Literal

from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import finite_values, summarise
from cnnbench.analysis.studies.measure import measure
from cnnbench.analysis.studies.study import Study

NO_VERDICT: Final = "no verdict at this budget"
Verdict = Literal["reproduced", "contradicted", "not shown", "no verdict at this budget"]
Finding = tuple[Verdict, str]  # a verdict and its evidence in words
Rows = Mapping[str, Sequence[Run]]  # runs by row
Side = Literal["above", "below", "unclear"]


def expression_of(study: Study, name: str, form: str) -> str:
    """What a column measures in this form; a name that is no column's is an expression itself."""
    column = study.column(name)
    return column.measures[form] if column else name


def has_learned(study: Study, runs: Sequence[Run]) -> bool:
    """Whether the completed runs of a row are above guessing, as the study's YAML says; no if there is none."""
    values = finite_values([measure(run, study.learned.measure) for run in runs if run.completed])
    return bool(values) and mean(values) >= study.learned.times_chance / class_count(runs)


def class_count(runs: Sequence[Run]) -> int:
    """Classes of the set that the runs saw."""
    return max((run.part("data").get("classes") or 10) for run in runs)


def side(low: float | None, high: float | None, threshold: float = 0.0) -> Side:
    """On which side of ``threshold`` an interval lies as a whole."""
    if low is None or high is None:
        return "unclear"
    return "above" if low > threshold else "below" if high < threshold else "unclear"


def found(reproduced: bool, contradicted: bool) -> Verdict:
    """The verdict where neither, or only one, is so."""
    return "reproduced" if reproduced else "contradicted" if contradicted else "not shown"


def judged(
    values: Sequence[float], show: Callable[[float], str], threshold: float, wanted: Literal["above", "below"]
) -> Finding:
    """The finding on one number a seed, whose mean should be on the ``wanted`` side of ``threshold``."""
    told = summarise(values)
    if told.mean is None:
        return "not shown", "no numbers"
    if told.low is None or told.high is None:
        return "not shown", f"{show(told.mean)} with one seed: no interval"
    where = side(told.low, told.high, threshold)
    text = f"{show(told.mean)}, 95% interval {show(told.low)} to {show(told.high)}, n = {told.n}"
    return found(where == wanted, where not in (wanted, "unclear")), text
