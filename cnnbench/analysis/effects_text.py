"""The sentences about main effects and interactions."""

from __future__ import annotations

from collections.abc import Mapping

from cnnbench.analysis.anova import AnovaRow
from cnnbench.analysis.metric_names import difference, higher_is_better, interval, is_share, p_value, title
from cnnbench.analysis.statistics import ALPHA


def _size(value: float, metric: str) -> str:
    return difference(abs(value), metric).lstrip("+")


def main_sentence(
    name: str, before: str, after: str, value: float, low: float | None, high: float | None, line: AnovaRow, metric: str,
    count: int,
) -> str:  # fmt: skip
    """What ``name`` does from level ``before`` to ``after``; of more than two levels (``count``), its extremes."""
    if count > 2 and value < 0:  # of several levels the highest and the lowest are told, apart by so much
        before, after, value = after, before, -value
        low, high = (None, None) if low is None or high is None else (-high, -low)
    span = "" if low is None else f"95% interval {interval(low, high, metric, sign=True)}, "
    told = f" ({span}corrected p {_p(line.p)})" if line.p is not None else " (no test possible)"
    shown = line.p is not None and line.p < ALPHA
    pair = f"{name}={after} instead of {name}={before}"
    if count > 2:
        doubt = "" if shown or line.p is None else "no effect shown; "
        apart = f"{after} is highest and {before} lowest, {_size(value, metric)} apart on average{told}"
        return f"{name} and {title(metric)}: {doubt}{apart}."
    if not shown:
        doubt = "no effect shown" if line.p is not None else "measured"
        return f"{name}: {doubt} on {title(metric)}; {pair} is {difference(value, metric)} on average{told}."
    verb = "raises" if value > 0 else "lowers"
    good = "better" if (value > 0) == higher_is_better(metric) else "worse"
    return f"{pair} {verb} {title(metric)} by {_size(value, metric)} on average, which is {good}{told}."


def _p(p: float | None) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def interaction_sentence(
    name: str, other: str, before: str, after: str, effects: Mapping[str, float | None], line: AnovaRow, metric: str
) -> str:
    """What ``name`` does from level ``before`` to ``after`` at each level of ``other`` (``effects``)."""
    known = {level: value for level, value in effects.items() if value is not None}
    if len(known) > 3:  # the two ends tell it
        ordered = sorted(known, key=lambda level: known[level])
        known = {level: known[level] for level in (ordered[0], ordered[-1])}
    scale, points = (100, " points") if is_share(metric) else (1, "")
    digits = 2 if is_share(metric) else 4
    parts = ", ".join(f"{scale * value:+.{digits}f}{points} at {other}={level}" for level, value in known.items())
    told = "no test possible" if line.p is None else f"corrected p {_p(line.p)}"
    if line.p is None or line.p >= ALPHA:
        return f"{name} and {other}: no interaction shown; {name}={before} to {after} is {parts} ({told})."
    return f"The effect of {name} depends on {other}: {name}={before} to {after} is {parts} ({told})."
