"""Claims that compare rows: which is better, by how much, and whose gain is larger."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from cnnbench.analysis.metric_names import compact, difference, interval, scale
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import Difference, compare, finite_values
from cnnbench.analysis.studies.measure import SIZES, measure, metric_of
from cnnbench.analysis.studies.study import Study
from cnnbench.analysis.studies.verdicts import Finding, Rows, expression_of, found, judged, side


def which(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    """``A > B``, ``A < B`` and ``A ~ B``."""
    gap, metric, told = _gap(match, study, rows, form)
    if gap.low is None or gap.high is None:
        return "not shown", told
    if match["relation"] == "~":
        margin = study.tolerance
        apart = side(gap.low, gap.high, margin) == "above" or side(gap.low, gap.high, -margin) == "below"
        near = -margin < gap.low and gap.high < margin
        return found(near, apart), f"{told}; asked within {_size(margin, metric)}"
    where = side(gap.low, gap.high)
    wanted = "above" if match["relation"] == ">" else "below"
    return found(where == wanted, where not in (wanted, "unclear")), told


def by_how_much(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    """``A > B by about X`` and ``A < B by at most X``; X is in points where the column is a share.

    *At most* asks for an interval that ends before X, and is contradicted too where it is the other row that is better.
    *About* asks for a gain that is shown and is X within the study's tolerance, or has X in its interval.
    """
    gap, metric, told = _gap(match, study, rows, form)
    if gap.low is None or gap.high is None:
        return "not shown", told
    sign, size, margin = 1 if match["relation"] == ">" else -1, float(match["size"]) / scale(metric), study.tolerance
    low, high = sorted((sign * gap.low, sign * gap.high))
    if match["bound"] == "at most":
        return found(0 <= high <= size, high < 0 or low > size), f"{told}; asked at most {_size(size, metric)}"
    near = low <= size <= high or size - margin <= low <= high <= size + margin
    far = high < 0 or low > size + margin or high < size - margin
    return found(low > 0 and near, far), f"{told}; asked about {_size(size, metric)}"


def gains(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    """``A - B > C - D``, by the seeds that all four have."""
    expression = expression_of(study, match["on"], form)
    a, b, c, d = (_by_seed(rows[match[key]], expression) for key in "abcd")
    values = [(a[s] - b[s]) - (c[s] - d[s]) for s in a if s in b and s in c and s in d]
    return judged(values, lambda value: difference(value, metric_of(expression)), 0.0, "above")


def _gap(match: re.Match[str], study: Study, rows: Rows, form: str) -> tuple[Difference, str, str]:
    """A minus B on a column, the column's metric, and the gap in words."""
    expression = expression_of(study, match["on"], form)
    metric = metric_of(expression)
    one, other = (_by_seed(rows[match[key]], expression) for key in "ab")
    gap = compare(one, other)
    if gap.value is None:
        return gap, metric, "no numbers"
    if metric in SIZES:
        exact = Difference(gap.value, gap.value, gap.value, None, None, "none", gap.n, 0.0)
        return exact, metric, " against ".join(compact(max(by.values())) for by in (one, other))
    if gap.n < 2:
        return gap, metric, f"{difference(gap.value, metric)} with one seed: no interval"
    told = f"{difference(gap.value, metric)}, 95% interval {interval(gap.low, gap.high, metric, sign=True)}"
    told += f", {gap.method}, n = {gap.n}"
    if gap.low is None and gap.sd == 0.0:  # all seeds agree to the last digit
        gap = Difference(gap.value, gap.value, gap.value, gap.effect, gap.p, gap.method, gap.n, gap.sd)
    return gap, metric, told


def _by_seed(runs: Sequence[Run], expression: str) -> dict[Hashable, float]:
    values = {run.seed: measure(run, expression) for run in runs}
    return {seed: value for seed, value in values.items() if finite_values([value]) and value is not None}


def _size(value: float, metric: str) -> str:
    return difference(value, metric).lstrip("+")
