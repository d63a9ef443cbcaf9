"""How long training takes to reach a value of a validation metric. A run that never does is not left out: it is censored,
known to take longer than it ran."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, validation_metric
from cnnbench.analysis.metric_names import higher_is_better, is_share, leaf
from cnnbench.analysis.runs import DIVERGED, Run, by_replicate
from cnnbench.analysis.statistics import ALPHA, finite_values, holm
from cnnbench.utils.errors import RequestError

MOST_WAYS = 20_000  # to share out the runs, of more a sample; 8 against 8 are 12,870


class Time(NamedTuple):
    """What a run took until it reached the target, or until it ended without."""

    epochs: int
    seconds: float  # of training; NaN where the record does not have them
    reached: bool


class TargetRow(NamedTuple):
    """A configuration's times, and by epochs its comparison with the reference, which has no p-values itself."""

    configuration: Configuration
    times: Sequence[Time]
    epochs: float | None  # median, after Kaplan and Meier; None where half of the runs do not reach the target
    seconds: float | None
    p: float | None  # Holm's, over the comparisons with the reference
    verdict: str  # reference, faster, slower or no difference shown


class TimeToTarget(NamedTuple):
    """The configurations in the order of the leaderboard."""

    metric: str
    target: float  # in the metric's unit: a share in [0, 1]
    rows: Sequence[TargetRow]
    reference: Configuration


def time_to_target(board: Leaderboard, reference: Configuration, target: float) -> TimeToTarget:
    """Of the leaderboard's configurations, and of those that have diverged alone: completed runs count, and diverged ones,
    which without the target take as long as the longest run.

    Args:
        target: of a validation metric; to be exceeded or, of a loss, undercut, or equalled; in per cent of a share.

    Raises:
        RequestError: a share cannot have this value, there is no validation metric, or a seed has several runs.
    """
    grid = board.grid
    metric = validation_metric([board.objective, *(run.objective or "" for run in grid.runs)], board.known, "--target")
    diverged = [c for c in grid.configurations if not c.runs and any(run.status == DIVERGED for run in c.incomplete)]
    configurations = [*(row.configuration for row in board.rows), *diverged]
    if is_share(metric):
        if not 1 < target <= 100:
            near = f"; did you mean {100 * target:g}?" if 0 < target <= 1 else ""
            raise RequestError(f"--target {target:g}: {leaf(metric)} is in per cent here, above 1 and up to 100{near}")
        target /= 100
    lost = [by_replicate([run for run in c.incomplete if run.status == DIVERGED]) for c in configurations]
    runs = [[*c.runs, *(of[0] for of in seeds.values())] for c, seeds in zip(configurations, lost, strict=True)]
    if any(len(same) > 1 for of in runs for same in by_replicate(of).values()):
        raise RequestError("--target compares a run a seed, and here are several of one, as --ignore leaves them")
    beyond = math.inf if higher_is_better(metric) else -math.inf
    whole = [time for of in runs for run in of if (time := _time(run, metric, beyond))]
    never = Time(max(t.epochs for t in whole), max(t.seconds for t in whole), False) if whole else None

    def until(run: Run) -> Time | None:
        time = _time(run, metric, target)
        return time if run.completed or (time and time.reached) else never

    known = [[time for run in of if (time := until(run))] for of in runs]
    base = next(times for c, times in zip(configurations, known, strict=True) if c is reference)
    tests = [(0.0, None) if times is base else log_rank(times, base) for times in known]
    rows = []
    for c, times, (score, _), p in zip(configurations, known, tests, holm([p for _, p in tests]), strict=True):
        word = "no difference shown" if p is None or p >= ALPHA else "faster" if score > 0 else "slower"
        done = [t.reached for t in times]
        epochs, seconds = median_time([t.epochs for t in times], done), median_time([t.seconds for t in times], done)
        rows.append(TargetRow(c, times, epochs, seconds, p, "reference" if times is base else word))
    return TimeToTarget(metric, target, rows, reference)


def _time(run: Run, metric: str, target: float) -> Time | None:
    """None where the history has no such metric."""
    series, sign = run.series(metric), 1 if higher_is_better(metric) else -1
    first = next((i for i, value in enumerate(series, 1) if value is not None and sign * (value - target) >= 0), None)
    epochs = first or len(series)
    seconds = finite_values(run.part("time").get("epoch_seconds") or [])[:epochs]
    return Time(epochs, sum(seconds) if len(seconds) == epochs else math.nan, first is not None) if series else None


def median_time(times: Sequence[float], reached: Sequence[bool]) -> float | None:
    """The time by which half have reached the target (Kaplan and Meier 1958); None where it is beyond the times known.

    >>> median_time([2, 3, 3, 8], [True, True, False, False])
    3.0
    """
    from scipy.stats import CensoredData, ecdf

    if not any(reached) or any(map(math.isnan, times)):
        return None
    at, done = np.asarray(times, dtype=float), np.asarray(reached)
    survival = ecdf(CensoredData(at[done], right=at[~done])).sf
    below = survival.quantiles[survival.probabilities <= 0.5 + 1e-12]
    return float(below[0]) if len(below) else None


def log_rank(first: Sequence[Time], second: Sequence[Time]) -> tuple[float, float | None]:
    """Compare epochs to the target: how many more of ``first`` reached it than were to be expected, and the p-value.

    The p-value is of all ways to share out the runs, as the log-rank test's own (Mantel 1966) is too small for few runs: 0.02
    for three runs that are all faster than three others, of which there is 0.1. Epochs after those that both sides were
    given compare nothing, and are cut off, so that runs of other lengths can be exchanged too.

    >>> log_rank([Time(1, 0.5, True)] * 3, [Time(2, 1.0, True)] * 3)
    (1.5, 0.1)
    """
    from scipy.stats import permutation_test

    n, total = len(first), len(first) + len(second)
    if min(n, total - n) < 2:  # SciPy permutes no single runs, and these show nothing
        return 0.0, None
    limit = min(max(time.epochs for time in side) for side in (first, second))
    times = np.array([time.epochs for time in (*first, *second)], dtype=float)
    reached = np.array([time.reached and time.epochs <= limit for time in (*first, *second)])
    at_risk = (times >= times[:, None]).sum(axis=1)
    hazard = (times <= times[:, None]) @ (reached / at_risk)  # cumulative, of all runs (Nelson 1972)
    scores = reached - hazard

    def size(one: NDArray, other: NDArray, axis: int) -> NDArray:
        return np.abs(one.sum(axis=axis)).round(9)  # equal scores are equal in any order

    found = permutation_test((scores[:n], scores[n:]), size, n_resamples=MOST_WAYS, alternative="greater", vectorized=True,
                             random_state=0)  # fmt: skip
    return float(scores[:n].sum()), float(found.pvalue)
