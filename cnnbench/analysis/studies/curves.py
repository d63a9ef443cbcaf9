"""Claims on a curve: that it levels off, that it still rises, or that its seeds spread more at one epoch than another."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Literal

from cnnbench.analysis.metric_names import higher_is_better, is_share, number
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import CONFIDENCE, finite_values
from cnnbench.analysis.studies.measure import metric_of
from cnnbench.analysis.studies.study import Study
from cnnbench.analysis.studies.tables import RELATIVE
from cnnbench.analysis.studies.verdicts import NO_VERDICT, Finding, Rows, expression_of, found, judged

LEFT = 0.05  # of all that is gained may come after a curve has levelled off
LAST = 10  # a tenth of the epochs tells how fast it still rises


def levels_off(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    """``A levels off by epoch N``: less than ``LEFT`` of all that is gained comes after it."""
    epoch = int(match["epoch"])

    def later(series: Sequence[float]) -> float:
        return max(series) - max(series[:epoch])

    told = f"of all that was gained, after epoch {epoch}"
    return _shares(match, study, rows, form, later, told, epoch + 1, "below")


def still_rises(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    """``A is still rising at epoch N``: at the pace of its last tenth, as many epochs again would bring more than ``LEFT``.

    The pace is from the mean of the tenth before to the mean of the last, for the best epoch of a flat curve that
    shakes is as likely late as early.
    """
    epoch = int(match["epoch"])
    part = max(epoch // LAST, 1)

    def ahead(series: Sequence[float]) -> float:
        return (mean(series[epoch - part : epoch]) - mean(series[epoch - 2 * part : epoch - part])) * epoch / part

    told = f"of all that was gained, in {epoch} epochs more at the pace of epoch {epoch}"
    return _shares(match, study, rows, form, ahead, told, max(epoch, 2 * part), "above")


def spreads_more(match: re.Match[str], study: Study, rows: Rows, form: str) -> Finding:
    """``A spreads more at epoch N than at epoch M``: by the ratio of the two variances over seeds, with its F interval."""
    from scipy.special import fdtri

    metric = metric_of(expression_of(study, match["on"], form))
    epochs = int(match["epoch"]), int(match["other"])
    curves = [_curve(run, metric) for run in rows[match["a"]]]
    if (shortest := min(map(len, curves))) < max(epochs):
        return NO_VERDICT, f"the runs have {shortest} epochs; it takes {max(epochs)}"
    if len(curves) < 2:
        return "not shown", "one seed: no spread"
    one, other = (stdev([curve[epoch - 1] for curve in curves]) for epoch in epochs)
    told = (
        f"standard deviation {number(one, metric)} at epoch {epochs[0]}, {number(other, metric)} at epoch {epochs[1]}"
    )
    if not other:
        return "not shown", told
    most = float(fdtri(len(curves) - 1, len(curves) - 1, (1 + CONFIDENCE) / 2)) ** 0.5
    low, high = one / other / most, one / other * most
    told += f"; ratio {one / other:.3g}, 95% interval {low:.3g} to {high:.3g}, n = {len(curves)}"
    return found(low > 1, high < 1), told


def _shares(
    match: re.Match[str],
    study: Study,
    rows: Rows,
    form: str,
    part: Callable[[Sequence[float]], float],
    told: str,
    needed: int,
    wanted: Literal["above", "below"],
) -> Finding:
    """The finding on the share that ``part`` is of all that a curve gains from its first epoch to its best."""
    runs = rows[match["a"]]
    metric = metric_of(expression_of(study, match["on"], form))
    curves = [_curve(run, metric) for run in runs]
    if (shortest := min(map(len, curves))) < needed:
        return NO_VERDICT, f"the runs have {shortest} epochs; it takes {needed}"
    gained = [max(curve) - curve[0] for curve in curves]
    flat = [g for g, c in zip(gained, curves, strict=True) if g <= _nothing(metric, c[0], study)]
    if flat:
        return "not shown", f"nothing was gained in {len(flat)} of {len(runs)} runs"
    shares = [part(curve) / g for curve, g in zip(curves, gained, strict=True)]
    verdict, numbers = judged(shares, lambda share: f"{share:.1%}", LEFT, wanted)
    return verdict, f"{told}: {numbers}"


def _curve(run: Run, metric: str) -> list[float]:
    """The epochs' values, turned so that more is better; a test metric, which has one value, by its validation."""
    metric = metric if metric in run.part("history") else metric.replace("test/", "val/")
    sign = 1 if higher_is_better(metric) else -1
    return [sign * value for value in finite_values(run.series(metric))]


def _nothing(metric: str, first: float, study: Study) -> float:
    """What is as good as no gain: what the study calls a match."""
    return study.tolerance if is_share(metric) else RELATIVE * abs(first)
