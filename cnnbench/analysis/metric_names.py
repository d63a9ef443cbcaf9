"""How a metric is called, which way it is better, and how its numbers are written, for every table and figure.

Shares are shown in per cent, their differences in percentage points, and what is no finite number as a dash.
"""

import math
from collections.abc import Collection, Iterable

from cnnbench.config import schema
from cnnbench.utils.errors import RequestError, did_you_mean

LOWER_IS_BETTER = (*schema.LOWER_IS_BETTER, "parameters", "flops_per_image", "seconds_per_epoch", "fit_seconds")
SHARES = ("accuracy", "recall", "precision", "f1")  # in [0, 1]
COSTS = {"parameters": "weights", "flops_per_image": "FLOPs per image", "seconds_per_epoch": "seconds per epoch",
         "images_per_second": "images per second", "fit_seconds": "seconds of training"}  # fmt: skip
TIMES = ("seconds_per_epoch", "fit_seconds")
DEFINITIONS = {
    "accuracy": "top-1 over all images",
    "recall": "the mean over classes, also called balanced accuracy",
    "precision": "the mean over classes",
    "f1": "the mean over classes of the harmonic mean of precision and recall",
    "kappa": "Cohen's: 1 where all are right, 0 where no more are than by chance",
    "top5_accuracy": "the share of images whose class is among the five likeliest",
    "auroc": "the area under the ROC curve, the mean over classes of each against the rest",
    "calibration_error": "the mean distance of confidence from accuracy, over 15 bins of confidence",
    "brier": "the squared error of the probabilities, summed over the classes: 0 to 2",
}
SPLITS = {"train": "train", "val": "validation", "test": "test", "train_eval": "train (eval mode)"}
SIZES = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # written so from the first number on
MISSING = "–"  # noqa: RUF001


def leaf(metric: str) -> str:
    """``accuracy`` of ``val/accuracy``."""
    return metric.rsplit("/", 1)[-1]


def higher_is_better(metric: str) -> bool:
    """Whether more of ``metric`` is better: no for losses, errors and costs, yes for everything else."""
    return not metric.endswith(LOWER_IS_BETTER)


def definitions(metrics: Iterable[str]) -> str:
    """What each of these is, in a sentence; accuracy and recall always, costs and losses never."""
    shown = dict.fromkeys(("accuracy", "recall", *map(leaf, metrics)))
    told = "; ".join(f"{name.replace('_', ' ')} is {DEFINITIONS[name]}" for name in shown if name in DEFINITIONS)
    return f"{told[0].upper()}{told[1:]}."


def is_share(metric: str) -> bool:
    """Whether ``metric`` is a share in [0, 1], shown in per cent."""
    return metric.endswith(SHARES)


def title(metric: str) -> str:
    """``validation accuracy`` for ``val/accuracy``, ``weights`` for ``parameters``."""
    split, slash, name = metric.partition("/")
    words = name.replace("_", " ")
    return f"{SPLITS.get(split, split)} {words}" if slash else COSTS.get(metric, metric.replace("_", " "))


def unit(metric: str) -> str:
    """``" %"`` for a share, nothing for the rest."""
    return " %" if is_share(metric) else ""


def label(metric: str) -> str:
    """``validation accuracy, %``: the heading of a column or an axis."""
    return f"{title(metric)}, %" if is_share(metric) else title(metric)


def scale(metric: str) -> float:
    """What a value is multiplied by before it is shown: 100 for a share."""
    return 100.0 if is_share(metric) else 1.0


def number(value: float | None, metric: str = "", sign: bool = False) -> str:
    """``value`` as tables show it, without its unit: two decimals of a share in per cent, four digits of the rest."""
    if value is None or not math.isfinite(value):
        return MISSING
    plus = "+" if sign else ""
    if metric in COSTS:
        return plus * (value > 0) + compact(value)
    if is_share(metric):
        return f"{round(100 * value, 2) + 0.0:{plus}.2f}"  # adding 0 takes the sign from a zero
    return f"{round(value, 4) + 0.0:{plus}.4f}" if abs(value) < 1000 else f"{value:{plus}.4g}"


def difference(value: float | None, metric: str) -> str:
    """A signed difference with its unit: ``+3.10 points`` of a share, ``+12.5 s``, ``-0.0412`` of a loss."""
    text, own = number(value, metric, sign=True), " points" if is_share(metric) else " s" if metric in TIMES else ""
    return text + own * (text != MISSING)


def amount(value: float, metric: str) -> str:
    """An amount without a sign, with its unit: ``0.31 points``."""
    return difference(value, metric).lstrip("+")


def plus_minus(mean: float | None, std: float | None, metric: str) -> str:
    """``98.52 ± 0.31``, or the mean alone where there is no standard deviation (one run)."""
    return number(mean, metric) + (f" ± {number(std, metric)}" if std is not None and math.isfinite(std) else "")


def interval(low: float | None, high: float | None, metric: str, sign: bool = False) -> str:
    """``97.71 to 99.33``, of a difference with ``sign``; of a mean share cut at 0 and 100 %, as Student's t is not."""
    if low is None or high is None:
        return MISSING
    if is_share(metric) and not sign:
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{number(low, metric, sign)} to {number(high, metric, sign)}"


def compact(value: float | None) -> str:
    """A count or a duration in few characters: ``62.0k``, ``1.2M``, ``0.41``."""
    if value is None or not math.isfinite(value):
        return MISSING
    for least, size, letter in SIZES:
        if abs(value) >= least:
            return f"{value / size:{'.3g' if abs(value) < 999.5 * size else '.0f'}}{letter}"
    return f"{value:.3g}" if abs(value) < 100 and not float(value).is_integer() else f"{value:,.0f}"


def p_value(p: float | None) -> str:
    """``0.012`` or ``<0.001``."""
    if p is None or not math.isfinite(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def corrected_p(p: float | None) -> str:
    """``corrected p = 0.012``, or that there is none."""
    return "no test possible" if p is None else f"corrected p {'' if p < 0.001 else '= '}{p_value(p)}"


def plural(count: int, noun: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_metric(key: str, metric: str, known: Collection[str]) -> str:
    """``metric``, given as ``key``; raises RequestError, which lists the known metrics and the nearest, where it is none."""
    if metric not in known:
        names = ", ".join(sorted(known)) or "no metrics"
        near = did_you_mean(metric, known)
        raise RequestError(f"{key}={metric!r} is in none of the finished runs; they have {names}{near}")
    return metric
