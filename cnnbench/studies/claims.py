"""A report's conclusions, each judged on our runs: reproduced, contradicted or not shown.

    A > B on COLUMN                A is better in the plain sense of the number (A < B likewise)
    A ~ B on COLUMN                they differ by less than the study's tolerance
    A - B > C - D on COLUMN        one gain is larger than another
    A fails to learn on COLUMN     no more than twice the accuracy of guessing
    A levels off by epoch N on METRIC   later epochs bring less than a twentieth of all that was gained
    A finds X, Y hardest           these classes have the lowest recall

A and B are rows. Each comes to one number a seed and an interval for its mean: a claim is reproduced where the whole 95%
interval lies on its side, contradicted where it lies on the other, and not shown otherwise, nor with one seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnbench.errors import RequestError
from cnnbench.results.collect import Run
from cnnbench.results.names import difference, higher_is_better, interval, number
from cnnbench.results.statistics import compare, kept, mean, summarise
from cnnbench.studies.measure import measure, metric_of, per_class
from cnnbench.studies.study import Claim, Study

Verdict = Literal["reproduced", "contradicted", "not shown"]
LEFT = 0.05  # of the gain over the whole run may come after a curve has levelled off
Rows = Mapping[str, Sequence[Run]]  # the finished and diverged runs by row


@dataclass(frozen=True)
class Judgement:
    """A verdict and its evidence in words."""

    claim: Claim
    verdict: Verdict
    evidence: str


def judge(claim: Claim, study: Study, rows: Rows, form: str) -> Judgement:
    """Judge one claim.

    Raises:
        RequestError: the claim cannot be read.
    """
    for pattern, decide in KINDS:
        if match := pattern.fullmatch(claim.holds):
            asked = [row for row in re.findall(ROW, _rows_part(claim.holds)) if row in _all_rows(study)]
            missing = [row for row in asked if not rows.get(row)]
            if missing:
                return Judgement(claim, "not shown", f"no finished run of {' and '.join(missing)}")
            return Judgement(claim, *decide(match, study, rows, form))
    raise RequestError(f"conf/study/{study.name}.yaml: the claim {claim.holds!r} cannot be read")


def _rows_part(holds: str) -> str:
    return re.split(r" (?:on|fails|levels|finds) ", holds)[0]


def _all_rows(study: Study) -> list[str]:
    from cnnbench.studies.study import row_names

    return row_names(study.name)


def _expression(study: Study, name: str, form: str) -> str:
    column = study.column(name)
    return column.measures[form] if column else name


def _by_seed(runs: Sequence[Run], expression: str) -> dict[Hashable, float | None]:
    return {run.seed: measure(run, expression) for run in runs}


def _side(low: float | None, high: float | None, threshold: float = 0.0) -> Literal["above", "below", "unclear"]:
    if low is None or high is None:
        return "unclear"
    return "above" if low > threshold else "below" if high < threshold else "unclear"


def _compared(match: re.Match[str], study: Study, rows: Rows, form: str) -> tuple[Verdict, str]:
    one, relation, other, name = match.groups()
    expression = _expression(study, name, form)
    metric = metric_of(expression)
    found = compare(_by_seed(rows[one], expression), _by_seed(rows[other], expression))
    told = f"{difference(found.value, metric)}, 95% interval {interval(found.low, found.high, metric, sign=True)}"
    told += f", {found.method}, n = {found.n}"
    if found.n < 2:
        return "not shown", f"{difference(found.value, metric)} with one seed: no interval"
    low, high = found.low, found.high
    if low is None and found.sd == 0.0:  # all seeds agree to the last digit
        low = high = found.value
    if relation == "~":
        margin = study.tolerance
        if low is not None and high is not None and -margin < low and high < margin:
            return "reproduced", f"{told}; within {difference(margin, metric).lstrip('+')}"
        apart = _side(low, high, margin) == "above" or _side(low, high, -margin) == "below"
        return ("contradicted" if apart else "not shown"), told
    side = _side(low, high)
    wanted = "above" if relation == ">" else "below"
    return ("not shown" if side == "unclear" else "reproduced" if side == wanted else "contradicted"), told


def _gains(match: re.Match[str], study: Study, rows: Rows, form: str) -> tuple[Verdict, str]:
    one, two, three, four, name = match.groups()
    expression = _expression(study, name, form)
    metric = metric_of(expression)
    a, b, c, d = (_by_seed(rows[row], expression) for row in (one, two, three, four))
    values = []
    for seed in a:
        parts = [by.get(seed) for by in (a, b, c, d)]
        if all(part is not None for part in parts):
            values.append((parts[0] - parts[1]) - (parts[2] - parts[3]))  # type: ignore[operator]
    return _judged(values, lambda value: difference(value, metric), 0.0, "above")


def _fails(match: re.Match[str], study: Study, rows: Rows, form: str) -> tuple[Verdict, str]:
    row, name = match.groups()
    expression = _expression(study, name, form)
    metric = metric_of(expression)
    classes = max((run.part("data").get("classes") or 10) for run in rows[row])
    values = [measure(run, expression) for run in rows[row]]
    diverged = sum(run.status == "diverged" for run in rows[row])
    limit = 2 / classes
    known = kept(values)
    ending = f"; {diverged} of {len(rows[row])} runs diverged" if diverged else ""
    shown = f"{number(mean(known), metric)} %" if known else "no number"
    told = f"{shown}; guessing gives {number(1 / classes, metric)} %{ending}, n = {len(rows[row])}"
    if len(rows[row]) < 2:
        return "not shown", f"{told}: one seed"
    failing = [
        run.status == "diverged" or (v is not None and v < limit) for run, v in zip(rows[row], values, strict=True)
    ]
    return ("reproduced" if all(failing) else "contradicted" if not any(failing) else "not shown"), told


def _levels(match: re.Match[str], study: Study, rows: Rows, form: str) -> tuple[Verdict, str]:
    row, epoch_text, name = match.groups()
    metric = metric_of(_expression(study, name, form))
    metric = metric if metric in rows[row][0].part("history") else metric.replace("test/", "val/")
    epoch, shares = int(epoch_text), []
    for run in rows[row]:
        series = kept(run.series(metric))
        if len(series) <= epoch:
            return "not shown", f"the runs have {len(series)} epochs; it takes more than {epoch}"
        best = max if higher_is_better(metric) else min
        gained = abs(best(series) - series[0])
        later = abs(best(series) - best(series[:epoch]))
        shares.append(later / gained if gained else 0.0)
    verdict, told = _judged(shares, lambda share: f"{share:.1%}", LEFT, "below")
    return verdict, f"{told} of the gain comes after epoch {epoch}"


def _hardest(match: re.Match[str], study: Study, rows: Rows, form: str) -> tuple[Verdict, str]:
    row, names = match[1], [name.strip() for name in match[2].split(",")]
    tables = [per_class(run, "test/recall") for run in rows[row]]
    tables = [table for table in tables if table and None not in table.values()]
    if not tables or not set(names) < set(tables[0]):
        return "not shown", f"the classes are {', '.join(tables[0]) if tables else 'unknown'}"
    centre = {name: mean([table[name] for table in tables if table[name] is not None]) for name in tables[0]}  # type: ignore[misc]
    ranked = sorted(centre, key=lambda name: centre[name])
    easiest = max(names, key=lambda name: centre[name])
    rival = min((name for name in centre if name not in names), key=lambda name: centre[name])
    gaps = [table[rival] - table[easiest] for table in tables]  # type: ignore[operator]
    verdict, told = _judged(gaps, lambda value: difference(value, "recall"), 0.0, "above")
    lowest = ", ".join(f"{name} {centre[name]:.1%}" for name in ranked[: len(names) + 1])
    return verdict, f"lowest recall: {lowest}; {rival} minus {easiest}: {told}"


def _judged(
    values: Sequence[float], show: Callable[[float], str], threshold: float, wanted: Literal["above", "below"]
) -> tuple[Verdict, str]:
    """The verdict on one number a seed, which should be on the ``wanted`` side of ``threshold``."""
    told = summarise(values)
    if told.mean is None:
        return "not shown", "no numbers"
    if told.n < 2 or told.low is None or told.high is None:
        return "not shown", f"{show(told.mean)} with one seed: no interval"
    side = _side(told.low, told.high, threshold)
    text = f"{show(told.mean)}, 95% interval {show(told.low)} to {show(told.high)}, n = {told.n}"
    return ("not shown" if side == "unclear" else "reproduced" if side == wanted else "contradicted"), text


ROW = r"[\w.]+"
KINDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Study, Rows, str], tuple[Verdict, str]]], ...] = (
    (re.compile(rf"({ROW}) - ({ROW}) > ({ROW}) - ({ROW}) on (.+)"), _gains),
    (re.compile(rf"({ROW}) ([<>~]) ({ROW}) on (.+)"), _compared),
    (re.compile(rf"({ROW}) fails to learn on (.+)"), _fails),
    (re.compile(rf"({ROW}) levels off by epoch (\d+) on (.+)"), _levels),
    (re.compile(rf"({ROW}) finds (.+) hardest"), _hardest),
)
