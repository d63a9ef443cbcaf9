"""A report's conclusions, each judged on our runs: reproduced, contradicted or not shown.

    A > B on COLUMN                    A is better in the plain sense of the number (A < B likewise)
    A > B by about X on COLUMN         and by X, within the study's tolerance or with X in the interval
    A < B by at most X on COLUMN       A is worse by no more than X; X is in points (1.5 points) where COLUMN is a share
    A ~ B on COLUMN                    they differ by less than the study's tolerance
    A - B > C - D on COLUMN            one gain is larger than another
    A fails to learn on COLUMN         no more than twice the accuracy of guessing, or diverged
    A spreads more at epoch N than at epoch M on METRIC  the standard deviation over seeds is larger
    A levels off by epoch N on METRIC  later epochs bring less than a twentieth of all that was gained
    A is still rising at epoch N on METRIC  at its pace, as many epochs again would bring more than a twentieth
    A finds X, Y hardest               these classes have the lowest recall

A and B are rows; COLUMN is one of the study's, or an expression of cnnbench.analysis.studies.measure. Each comes to one number a
seed and an interval for its mean: a claim is reproduced where the whole 95% interval lies on its side, contradicted where
it lies on the other, and not shown otherwise, nor with one seed (but for counts of weights and FLOPs, which have no spread).
Where a seed diverged or failed, a mean of the others would be of the lucky ones: that is told, and nothing is shown.

With less than the report's budget, a row that has not learned (``learned`` in the study's YAML) takes part in no verdict,
and one that fails to learn only has one where the study's baseline has learned; how large a difference is (*by about*,
*by at most*) is judged with the report's budget alone. Costs are of any budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import mean

from cnnbench.analysis.metric_names import compact, difference, number, plural
from cnnbench.analysis.runs import COMPLETED, Run
from cnnbench.analysis.statistics import finite_values
from cnnbench.analysis.studies.comparisons import by_how_much, gains, which
from cnnbench.analysis.studies.curves import levels_off, spreads_more, still_rises
from cnnbench.analysis.studies.measure import SIZES, is_cost, measure, metric_of, per_class
from cnnbench.analysis.studies.study import Claim, Study
from cnnbench.analysis.studies.verdicts import (
    NO_VERDICT,
    Finding,
    Rows,
    Verdict,
    class_count,
    expression_of,
    found,
    has_learned,
    judged,
)
from cnnbench.utils.errors import RequestError

DIVERGED, FAILED = "diverged", "failed"


@dataclass(frozen=True)
class Judgement:
    """A verdict and its evidence in words."""

    claim: Claim
    verdict: Verdict
    evidence: str


def rows_of(claim: Claim, study: Study) -> list[str]:
    """The rows that a claim compares; raises RequestError where it cannot be read."""
    match, _ = read(claim, study)
    return _named(match)


def _named(match: re.Match[str]) -> list[str]:
    return list(dict.fromkeys(name for key, name in match.groupdict().items() if key in "abcd"))


def judge(claim: Claim, study: Study, rows: Rows, form: str, short: Collection[str] = ()) -> Judgement:
    """Judge one claim on all runs there are; the rows in ``short`` had less than the report's budget.

    Raises:
        RequestError: the claim cannot be read.
    """
    match, decide = read(claim, study)
    named = _named(match)
    missing = [row for row in named if not any(run.status in (COMPLETED, DIVERGED) for run in rows.get(row, ()))]
    if missing:
        return Judgement(claim, "not shown", f"no finished run of {' and '.join(missing)}")
    counted = _counted(match, decide, study, form)
    usable = {row: [run for run in rows[row] if run.status in counted] for row in named}
    lost = [told for row in named if (told := _left_out(row, rows[row], counted))]
    if not all(usable.values()):
        return Judgement(claim, "not shown", "; ".join(lost))
    verdict, evidence = decide(match, study, usable, form)
    verdict = "not shown" if lost else verdict
    if _is_cost(match, study, form):
        return Judgement(claim, verdict, "; ".join([*lost, evidence]))
    early = _too_early(decide, study, rows, [row for row in named if row in short])
    verdict = NO_VERDICT if early else verdict
    return Judgement(claim, verdict, "; ".join([*early, *lost, evidence, *_sizes(usable)]))


def _too_early(decide: Callable[..., Finding], study: Study, rows: Rows, short: Sequence[str]) -> list[str]:
    """Why a smaller budget allows no verdict, of the rows that had one."""
    if short and decide is by_how_much:
        return ["a size is judged at the report's budget"]
    asked = [study.baseline] if short and decide is _fails else short
    late = [row for row in asked if not has_learned(study, rows.get(row, ()))]
    return (
        [f"{' and '.join(late)} {'has' if len(late) == 1 else 'have'} not been seen to learn at this budget"]
        if late
        else []
    )


def _sizes(usable: Rows) -> list[str]:
    """The weights and FLOPs of networks that are compared and differ in size."""
    sizes = [[of_row[0].cost(name) for of_row in usable.values()] for name in SIZES[:2]]
    if all(len(set(of)) == 1 for of in sizes):
        return []
    told = zip(sizes, ("weights", "FLOPs an image"), strict=True)
    return [", ".join(f"{compact(of[0])} {what} against {' against '.join(map(compact, of[1:]))}" for of, what in told)]


def _is_cost(match: re.Match[str], study: Study, form: str) -> bool:
    column = match.groupdict().get("on")
    return column is not None and is_cost(metric_of(expression_of(study, column, form)))


def read(claim: Claim, study: Study) -> tuple[re.Match[str], Callable[..., Finding]]:
    """The claim taken apart, and what judges it: ``a`` to ``d`` are its rows, ``on`` its column.

    Raises:
        RequestError: the claim cannot be read.
    """
    for pattern, decide in KINDS:
        if match := pattern.fullmatch(claim.holds):
            return match, decide
    raise RequestError(f"conf/study/{study.name}.yaml: the claim {claim.holds!r} cannot be read")


def _counted(match: re.Match[str], decide: Callable[..., Finding], study: Study, form: str) -> tuple[str, ...]:
    """The states of the runs that a claim is judged on: what a run cost does not depend on how it ended."""
    if decide is _fails:
        return COMPLETED, DIVERGED
    return (COMPLETED, DIVERGED, FAILED) if _is_cost(match, study, form) else (COMPLETED,)


def _left_out(row: str, runs: Sequence[Run], counted: Sequence[str]) -> str:
    """``2 of 5 seeds of ROW diverged and are left out``, or nothing."""
    lost = [run.status for run in runs if run.status in (DIVERGED, FAILED) and run.status not in counted]
    how = " or ".join(sorted(set(lost)))
    are = "is" if len(lost) == 1 else "are"
    return f"{len(lost)} of {plural(len(runs), 'seed')} of {row} {how} and {are} left out" if lost else ""


def _fails(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    runs, expression = rows[match["a"]], expression_of(study, match["on"], form)
    metric = metric_of(expression)
    classes = class_count(runs)
    values = [measure(run, expression) for run in runs]
    diverged = sum(run.status == DIVERGED for run in runs)
    known = finite_values([value for run, value in zip(runs, values, strict=True) if run.completed])
    ending = f"; {diverged} of {len(runs)} runs diverged" if diverged else ""
    shown = f"{number(mean(known), metric)} %" if known else "no number"
    told = f"{shown}; guessing gives {number(1 / classes, metric)} %{ending}, n = {len(runs)}"
    if len(runs) < 2:
        return "not shown", f"{told}: one seed"
    failing = [
        run.status == DIVERGED or (value is not None and value < 2 / classes)
        for run, value in zip(runs, values, strict=True)
    ]
    return found(all(failing), not any(failing)), told


def _hardest(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    names = [name.strip() for name in match["classes"].split(",")]
    recalls = [per_class(run, "test/recall") for run in rows[match["a"]]]
    tables = [{name: value for name, value in table.items() if value is not None} for table in recalls]
    tables = [table for table in tables if table and len(table) == max(map(len, recalls))]
    if not tables or not set(names) < set(tables[0]):
        return "not shown", f"the classes are {', '.join(tables[0]) if tables else 'unknown'}"
    centre = {name: mean([table[name] for table in tables]) for name in tables[0]}
    ranked = sorted(centre, key=lambda name: centre[name])
    easiest = max(names, key=lambda name: centre[name])
    rival = min((name for name in centre if name not in names), key=lambda name: centre[name])
    gaps = [table[rival] - table[easiest] for table in tables]
    verdict, told = judged(gaps, lambda value: difference(value, "recall"), 0.0, "above")
    lowest = ", ".join(f"{name} {centre[name]:.1%}" for name in ranked[: len(names) + 1])
    return verdict, f"lowest recall: {lowest}; {rival} minus {easiest}: {told}"


def _kind(text: str, decide: Callable[..., Finding]) -> tuple[re.Pattern[str], Callable[..., Finding]]:
    """A form of claim from how it is written: A to D are rows, COLUMN is what it is on."""
    for row in "ABCD":
        text = re.sub(rf"\b{row}\b", rf"(?P<{row.lower()}>[\\w.]+)", text)
    return re.compile(text.replace("COLUMN", "(?P<on>.+)")), decide


KINDS = (
    _kind(r"A - B > C - D on COLUMN", gains),
    _kind(r"A (?P<relation>[<>~]) B on COLUMN", which),
    _kind(
        r"A (?P<relation>[<>]) B by (?P<bound>about|at most) (?P<size>\d+(\.\d+)?)( points?)? on COLUMN", by_how_much
    ),
    _kind(r"A fails to learn on COLUMN", _fails),
    _kind(r"A levels off by epoch (?P<epoch>\d+) on COLUMN", levels_off),
    _kind(r"A is still rising at epoch (?P<epoch>\d+) on COLUMN", still_rises),
    _kind(r"A spreads more at epoch (?P<epoch>\d+) than at epoch (?P<other>\d+) on COLUMN", spreads_more),
    _kind(r"A finds (?P<classes>.+) hardest", _hardest),
)
