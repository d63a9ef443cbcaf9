"""The kinds of claim, each judged by an interval: a function from a ``Case`` to a verdict and its evidence."""

import re
from collections.abc import Callable, Hashable, Sequence
from statistics import mean, stdev
from typing import Final, Literal, NamedTuple

from scipy.special import fdtri

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import CONFIDENCE, compare, finite_values, summarise
from cnnbench.analysis.studies.study import SIZES, Runs, Study, class_count, measure, metric_of

NO_VERDICT: Final = "no verdict at this budget"
Verdict = Literal["reproduced", "contradicted", "not shown", "no verdict at this budget"]
Finding = tuple[Verdict, str]  # a verdict and its evidence in words
RELATIVE = 0.1  # the tolerance of what is not a share, relative to the number
LATE_GAIN = 0.05  # share of the whole gain that may come, or go again, after a curve has levelled off
LAST = 10  # the last tenth of the epochs gives the pace at which a curve still rises


class Case(NamedTuple):
    """A claim that has been read, with the runs it is judged on."""

    match: re.Match[str]  # "a" to "d" are its rows, "on" its column or expression
    study: Study
    rows: Runs

    @property
    def expression(self) -> str:
        """What is measured."""
        return self.study.expression(self.match["on"])

    @property
    def metric(self) -> str:
        """The metric within the expression."""
        return metric_of(self.expression)

    def runs(self, key: str = "a") -> Sequence[Run]:
        """Of the row ``a`` to ``d``."""
        return self.rows[self.match[key]]

    def by_seed(self, key: str) -> dict[Hashable, float]:
        """The finite values of the row ``a`` to ``d`` by seed."""
        values = {run.seed: measure(run, self.expression) for run in self.runs(key)}
        return {seed: value for seed, value in values.items() if value is not None}


def decide(reproduced: bool, contradicted: bool) -> Verdict:
    """The verdict where neither, or only one, is so."""
    return "reproduced" if reproduced else "contradicted" if contradicted else "not shown"


def by_mean(values: Sequence[float], show: Callable[[float], str], threshold: float, above: bool = True) -> Finding:
    """The finding on one number a seed, whose mean should be above, or below, ``threshold``."""
    if (summary := summarise(values)).mean is None:
        return "not shown", "no numbers"
    if summary.low is None or summary.high is None:
        return "not shown", f"{show(summary.mean)} with {'one seed' if summary.n < 2 else 'no spread'}: no interval"
    text = f"{show(summary.mean)}, 95% interval {show(summary.low)} to {show(summary.high)}, n = {summary.n}"
    higher, lower = summary.low > threshold, summary.high < threshold
    return (decide(higher, lower) if above else decide(lower, higher)), text


def compare_rows(case: Case) -> Finding:
    """``A > B``, ``A < B`` and ``A ~ B`` (within the study's tolerance)."""
    low, high, evidence = _gap(case)
    if low is None or high is None:
        return "not shown", evidence
    if case.match["relation"] != "~":
        return decide(low > 0, high < 0), evidence
    margin = case.study.tolerance
    verdict = decide(-margin < low and high < margin, low > margin or high < -margin)
    return verdict, f"{evidence}; asked within {names.amount(margin, case.metric)}"


def compare_size(case: Case) -> Finding:
    """``A > B by about X`` and ``A < B by at most X``; X is in points where the column is a share. *At most* asks for an
    interval that ends before X, also where the other row is better. *About* asks for a gain that is shown and is X within
    the study's tolerance, or has X in its interval."""
    low, high, evidence = _gap(case)
    if low is None or high is None:
        return "not shown", evidence
    size, margin = float(case.match["size"]) / names.scale(case.metric), case.study.tolerance
    evidence += f"; asked {case.match['bound']} {names.amount(size, case.metric)}"
    if case.match["bound"] == "at most":
        return decide(high <= size, low > size), evidence
    near = low <= size <= high or size - margin <= low <= high <= size + margin
    return decide(low > 0 and near, high < 0 or low > size + margin or high < size - margin), evidence


def compare_gains(case: Case) -> Finding:
    """``A - B > C - D``, by the seeds that all four have."""
    a, b, c, d = map(case.by_seed, "abcd")
    gains = [(a[s] - b[s]) - (c[s] - d[s]) for s in a if s in b and s in c and s in d]
    return by_mean(gains, lambda value: names.difference(value, case.metric), 0.0)


def _gap(case: Case) -> tuple[float | None, float | None, str]:
    """The interval of A minus B (of B minus A for ``A < B``) where there is one, and A minus B in words."""
    first, second = case.by_seed("a"), case.by_seed("b")
    gap, metric = compare(first, second), case.metric
    if gap.value is None:
        return None, None, "no numbers"
    low, high = gap.low, gap.high
    if metric in SIZES:
        evidence = f"{names.compact(max(first.values()))} against {names.compact(max(second.values()))}"
    elif gap.n < 2:
        evidence = f"{names.difference(gap.value, metric)} with one seed: no interval"
    else:
        limits = names.interval(low, high, metric, sign=True)
        evidence = f"{names.difference(gap.value, metric)}, 95% interval {limits}, {gap.method}, n = {gap.n}"
    if metric in SIZES:  # of which there is no spread
        low = high = gap.value
    if case.match["relation"] == "<" and low is not None and high is not None:
        low, high = -high, -low
    return low, high, evidence


def fails_to_learn(case: Case) -> Finding:
    """``A fails to learn``: every seed diverged or is below ``learned``'s multiple of guessing, by the study's YAML."""
    runs = case.runs()
    chance = 1 / class_count(runs)
    enough = case.study.learned.times_chance * chance
    values = [measure(run, case.expression) for run in runs]
    known = finite_values([value for run, value in zip(runs, values, strict=True) if run.completed])
    diverged = [run.status == "diverged" for run in runs]
    shown = f"{names.number(mean(known), case.metric)} %" if known else "no number"
    ending = f"; {sum(diverged)} of {len(runs)} runs diverged" if any(diverged) else ""
    failing = [d or (None if v is None else v < enough) for d, v in zip(diverged, values, strict=True)]
    ending += f"; {failing.count(None)} of {len(runs)} without a value" if None in failing else ""
    evidence = f"{shown}; guessing gives {names.number(chance, case.metric)} %{ending}, n = {len(runs)}"
    if len(runs) < 2:
        return "not shown", f"{evidence}: one seed"
    return decide(all(failing), all(fails is False for fails in failing)), evidence


def finds_hardest(case: Case) -> Finding:
    """``A finds X, Y hardest``: these classes have the lowest recall."""
    asked = [name.strip() for name in case.match["classes"].split(",")]
    found = [run.per_class("test/recall").items() for run in case.runs()]
    tables = [{name: value for name, value in recalls if value is not None} for recalls in found]
    tables = [table for table in tables if table and len(table) == max(map(len, tables))]
    if not tables or not set(asked) < set(tables[0]):
        return "not shown", f"the classes are {', '.join(tables[0]) if tables else 'unknown'}"
    recall = {name: mean([table[name] for table in tables]) for name in tables[0]}
    easiest = max(asked, key=recall.__getitem__)
    rival = min(recall.keys() - set(asked), key=recall.__getitem__)
    gaps = [table[rival] - table[easiest] for table in tables]
    verdict, evidence = by_mean(gaps, lambda value: names.difference(value, "recall"), 0.0)
    lowest = sorted(recall, key=recall.__getitem__)[: len(asked) + 1]
    shown = ", ".join(f"{name} {recall[name]:.1%}" for name in lowest)
    return verdict, f"lowest recall: {shown}; {rival} minus {easiest}: {evidence}"


def levels_off(case: Case) -> Finding:
    """``A levels off by epoch N``: less than ``LATE_GAIN`` of all that is gained comes after it, or is lost again: from the
    mean of as many epochs as a tenth of N before it to that of the last ones."""
    epoch = int(case.match["epoch"])
    part = max(epoch // LAST, 1)

    def moved(curve: Sequence[float]) -> float:
        lost = mean(curve[epoch - part : epoch]) - mean(curve[-part:])
        return max(max(curve) - max(curve[:epoch]), lost)

    return _gain_share(case, moved, f"of all that was gained, won or lost after epoch {epoch}", epoch + 1, above=False)


def still_rises(case: Case) -> Finding:
    """``A is still rising at epoch N``: at the pace of its last tenth, as many epochs again would bring more than
    ``LATE_GAIN``. The pace is from the mean of the tenth before to the mean of the last."""
    epoch = int(case.match["epoch"])
    part = max(epoch // LAST, 1)

    def ahead(curve: Sequence[float]) -> float:
        return (mean(curve[epoch - part : epoch]) - mean(curve[epoch - 2 * part : epoch - part])) * epoch / part

    evidence = f"of all that was gained, in {epoch} epochs more at the pace of epoch {epoch}"
    return _gain_share(case, ahead, evidence, max(epoch, 2 * part), above=True)


def spreads_more(case: Case) -> Finding:
    """``A spreads more at epoch N than at epoch M``: by the ratio of two variances over seeds, with its F interval."""
    epochs = int(case.match["epoch"]), int(case.match["other"])
    curves = _curves(case)
    if (shortest := min(map(len, curves))) < max(epochs):
        return NO_VERDICT, f"the runs have {shortest} epochs; it takes {max(epochs)}"
    if len(curves) < 2:
        return "not shown", "one seed: no spread"
    first, second = (stdev([curve[epoch - 1] for curve in curves]) for epoch in epochs)
    evidence = (f"standard deviation {names.number(first, case.metric)} at epoch {epochs[0]}, "
                f"{names.number(second, case.metric)} at epoch {epochs[1]}")  # fmt: skip
    if not second:
        return "not shown", evidence
    factor = float(fdtri(len(curves) - 1, len(curves) - 1, (1 + CONFIDENCE) / 2)) ** 0.5
    ratio, low, high = first / second, first / second / factor, first / second * factor
    evidence += f"; ratio {ratio:.3g}, 95% interval {low:.3g} to {high:.3g}, n = {len(curves)}"
    return decide(low > 1, high < 1), evidence


def _gain_share(case: Case, part: Callable[[Sequence[float]], float], what: str, needed: int, above: bool) -> Finding:
    """The finding on the share that ``part`` is of all that a curve gains from its first epoch to its best."""
    curves = _curves(case)
    if (shortest := min(map(len, curves))) < needed:
        return NO_VERDICT, f"the runs have {shortest} epochs; it takes {needed}"
    gains = [max(curve) - curve[0] for curve in curves]
    least = [case.study.tolerance if names.is_share(case.metric) else RELATIVE * abs(curve[0]) for curve in curves]
    if flat := sum(gain <= enough for gain, enough in zip(gains, least, strict=True)):
        return "not shown", f"nothing was gained in {flat} of {len(curves)} runs"
    shares = [part(curve) / gain for curve, gain in zip(curves, gains, strict=True)]
    if len(shares) > 1 and len({*shares}) == 1:  # such as nothing, which is no mean that other seeds would move
        right = (shares[0] > LATE_GAIN) == above
        return decide(right, not right), f"{what}: {shares[0]:.1%} in all {len(shares)} runs"
    verdict, evidence = by_mean(shares, lambda share: f"{share:.1%}", LATE_GAIN, above)
    return verdict, f"{what}: {evidence}"


def _curves(case: Case) -> list[list[float]]:
    """The epochs' values, turned so that more is better; a test metric, which has one value, by its validation."""
    sign, validation = 1 if names.higher_is_better(case.metric) else -1, case.metric.replace("test/", "val/")
    series = (run.series(case.metric if case.metric in run.part("history") else validation) for run in case.runs())
    return [[sign * value for value in finite_values(values)] for values in series]
