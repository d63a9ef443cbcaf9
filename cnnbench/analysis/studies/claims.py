"""A report's conclusions, each judged on our runs: reproduced, contradicted or not shown.

``KINDS`` has the forms of a claim, and docs/howto/study_row.md explains them: A to D are rows, COLUMN is one of the
study's columns or an expression (cnnbench.analysis.studies.study). Each claim comes to one number a seed and an interval
for its mean: it is reproduced where the whole 95% interval lies on its side, contradicted where it lies on the other, and
not shown otherwise, nor with one seed (but for weights and FLOPs, which have no spread). Where a seed diverged or failed,
a mean of the others would be of a favourable selection, so nothing is shown.

With less than the report's budget, a row that has not learned (``learned`` in the study's YAML) gets no verdict, and
that one fails to learn only where the study's baseline has learned. How large a difference is (*by about*, *by at most*,
``~``, one gain against another) and that a curve stays level are judged with the report's budget alone, and what a run
has at an epoch needs so many. Sizes and seconds an epoch are of any budget.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from cnnbench.analysis.metric_names import COSTS, compact, plural
from cnnbench.analysis.runs import COMPLETED, Run
from cnnbench.analysis.statistics import finite_values
from cnnbench.analysis.studies import verdicts
from cnnbench.analysis.studies.study import SIZES, Claim, Runs, Study
from cnnbench.analysis.studies.verdicts import NO_VERDICT, Case, Finding, Verdict
from cnnbench.utils.errors import RequestError

DIVERGED, FAILED = "diverged", "failed"
NUMBER = r"\d+(\.\d+)?"
Kind = Callable[[Case], Finding]
KINDS: dict[str, Kind] = {
    r"A - B > C - D on COLUMN": verdicts.compare_gains,
    r"A (?P<relation>[<>~]) B on COLUMN": verdicts.compare_rows,
    rf"A (?P<relation>[<>]) B by (?P<bound>about|at most) (?P<size>{NUMBER})( points?)? on COLUMN": verdicts.compare_size,
    r"A fails to learn on COLUMN": verdicts.fails_to_learn,
    r"A levels off by epoch (?P<epoch>\d+) on COLUMN": verdicts.levels_off,
    r"A is still rising at epoch (?P<epoch>\d+) on COLUMN": verdicts.still_rises,
    r"A spreads more at epoch (?P<epoch>\d+) than at epoch (?P<other>\d+) on COLUMN": verdicts.spreads_more,
    r"A finds (?P<classes>.+) hardest": verdicts.finds_hardest,
}
ROWS = {row: rf"(?P<{row.lower()}>[\w.]+)" for row in "ABCD"}
PATTERNS = {  # A to D and COLUMN as named groups
    re.compile(re.sub(r"\b[ABCD]\b", lambda row: ROWS[row[0]], text).replace("COLUMN", "(?P<on>.+)")): kind
    for text, kind in KINDS.items()
}


class Judgement(NamedTuple):
    """A verdict and its evidence in words."""

    claim: Claim
    verdict: Verdict
    evidence: str


def read(claim: Claim, study: Study) -> tuple[re.Match[str], Kind, list[str]]:
    """The claim taken apart (``on`` is its column), what judges it, and the rows that it compares; or RequestError."""
    for pattern, kind in PATTERNS.items():
        if match := pattern.fullmatch(claim.holds):
            return match, kind, list(dict.fromkeys(name for key, name in match.groupdict().items() if key in "abcd"))
    raise RequestError(f"conf/study/{study.name}.yaml: the claim {claim.holds!r} cannot be read")


def judge(claim: Claim, study: Study, rows: Runs, short: Collection[str] = ()) -> Judgement:
    """Judge one claim on all runs there are; the rows in ``short`` had less than the report's budget."""
    match, kind, named = read(claim, study)
    missing = [row for row in named if not any(run.status in (COMPLETED, DIVERGED) for run in rows.get(row, ()))]
    if missing:
        return Judgement(claim, "not shown", f"no finished run of {' and '.join(missing)}")
    on_cost = "on" in match.groupdict() and Case(match, study, rows).metric in {*COSTS, *SIZES} - {"fit_seconds"}
    counted = {COMPLETED}  # these costs do not depend on how a run ended
    counted |= {DIVERGED, FAILED} if on_cost else {DIVERGED} if kind is verdicts.fails_to_learn else set()
    usable = {row: [run for run in rows[row] if run.status in counted] for row in named}
    left_out = [text for row in named if (text := _left_out(row, rows[row], counted))]
    if not all(usable.values()):
        return Judgement(claim, "not shown", "; ".join(left_out))
    verdict, evidence = kind(Case(match, study, usable))
    early = [] if on_cost else _too_early(match, kind, study, rows, {row: usable[row] for row in named if row in short})
    verdict = NO_VERDICT if early else "not shown" if left_out else verdict
    sizes = [] if on_cost else _different_sizes(usable)
    return Judgement(claim, verdict, "; ".join([*early, *left_out, evidence, *sizes]))


def _too_early(match: re.Match[str], kind: Kind, study: Study, rows: Runs, short: Runs) -> list[str]:
    """Why a smaller budget allows no verdict, of the runs in ``short`` that had one."""
    if short and (kind in (verdicts.compare_size, verdicts.compare_gains) or match.groupdict().get("relation") == "~"):
        return ["a size is judged at the report's budget"]
    if short and kind is verdicts.levels_off:
        return ["that a curve stays level is judged at the report's budget"]
    asked = [study.baseline] if short and kind is verdicts.fails_to_learn else list(short)
    if late := [row for row in asked if not study.is_learned_by(rows.get(row, ()))]:
        return [f"{' and '.join(late)} {'has' if len(late) == 1 else 'have'} not been seen to learn at this budget"]
    needed = max(
        map(int, re.findall(r" at epoch (\d+)", study.expression(match.groupdict().get("on") or ""))), default=0
    )
    have = min(
        (len(run.part("history").get("epoch", ())) for of_row in short.values() for run in of_row), default=needed
    )
    return [f"the runs have {have} epochs; it takes {needed}"] if have < needed else []


def _different_sizes(usable: Runs) -> list[str]:
    """The weights and the FLOPs of networks that are compared, where they differ; in full where they nearly do not."""
    texts = []
    for name, what in {"parameters": "weights", "flops_per_image": "FLOPs an image"}.items():
        sizes = finite_values(runs[0].cost(name) for runs in usable.values())
        shown = [compact(size) for size in sizes]
        if len(set(shown)) < len(set(sizes)):
            shown = [f"{size:,.0f}" for size in sizes]
        if len(set(sizes)) > 1:
            texts.append(f"{shown[0]} {what} against {' against '.join(shown[1:])}")
    return [", ".join(texts)] if texts else []


def _left_out(row: str, runs: Sequence[Run], counted: Collection[str]) -> str:
    """``2 of 5 seeds of ROW diverged and are left out``, or nothing."""
    lost = [run.status for run in runs if run.status in (DIVERGED, FAILED) and run.status not in counted]
    how, are = " or ".join(sorted(set(lost))), "is" if len(lost) == 1 else "are"
    return f"{len(lost)} of {plural(len(runs), 'seed')} of {row} {how} and {are} left out" if lost else ""
