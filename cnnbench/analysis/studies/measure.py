"""What a study's columns and claims measure: an expression in words, evaluated on the record of a run.

val/recall                   of the weights that the run stands for (its last, or its best epoch's)
val/recall mean over epochs  the mean of the epochs' values
train/loss at epoch 1        the value after that epoch, counted from 1
test/recall of cat           of one class
val/loss minus train/loss    the difference of two of these
parameters                   or another cost: flops_per_image, bits, seconds_per_epoch, ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import mean

from cnnbench.analysis.metric_names import COSTS
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import finite_values, to_number
from cnnbench.analysis.studies.study import Learned

MEAN, MINUS = " mean over epochs", " minus "
SIZES = ("parameters", "flops_per_image", "bits")  # of the network alone, so that seeds do not differ


def metric_of(expression: str) -> str:
    """The metric's name within an expression."""
    return expression.split(" ")[0]


def is_cost(metric: str) -> bool:
    """Whether a metric is a size or a time, which a run has however it ended."""
    return metric in COSTS or metric in SIZES


def measure(run: Run, expression: str) -> float | None:
    """The value of ``expression`` in a run; None where the run does not have it."""
    if MINUS in expression:
        first, second = (measure(run, part) for part in expression.split(MINUS, 1))
        return None if first is None or second is None else first - second
    if expression.endswith(MEAN):
        values = finite_values(run.series(expression.removesuffix(MEAN)))
        return mean(values) if values else None
    if match := re.fullmatch(r"(\S+) at epoch (\d+)", expression):
        series, epoch = run.series(match[1]), int(match[2])
        return series[epoch - 1] if 0 < epoch <= len(series) else None
    if match := re.fullmatch(r"(\S+) of (.+)", expression):
        return per_class(run, match[1]).get(match[2])
    return run.cost(expression) if expression in SIZES else run.value(expression)


def per_class(run: Run, metric: str) -> dict[str, float | None]:
    """A metric by class name; empty where the run has none."""
    part = run.part("per_class")
    return {
        str(name): to_number(value)
        for name, value in zip(part.get("classes") or (), part.get(metric) or (), strict=False)
    }


def class_count(runs: Sequence[Run]) -> int:
    """Classes of the set that the runs saw."""
    return max((run.part("data").get("classes") or 10) for run in runs)


def has_learned(learned: Learned, runs: Sequence[Run]) -> bool:
    """Whether the completed runs of a row are above guessing, as the study's YAML says; no if there is none."""
    values = finite_values([measure(run, learned.measure) for run in runs if run.completed])
    return bool(values) and mean(values) >= learned.times_chance / class_count(runs)
