"""Runs on several splits of one train set: a replicate is a seed on a split, and splits share images."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import Difference, Summary, compare, finite_mean, summarise

Replicate = tuple[Any, Hashable]  # seed and split


def count_splits(runs: Sequence[Run]) -> int:
    """How many splits of the train set these runs are on; 0 where all use the whole of it, or there are none."""
    return len({run.split for run in runs} - {None})


def overlap_of(runs: Sequence[Run]) -> float:
    """Images held out over images trained on, as ``statistics.variance_of_mean`` takes it; 0 where all are on one split.

    Where nothing is held out, as with ``data.validation=none``, it is those of the test set; where a record does not say, 1.
    """
    if count_splits(runs) < 2:
        return 0.0
    counts = [run.part("data") for run in runs]
    shares = [(of.get("val") or of.get("test") or of["train"]) / of["train"] for of in counts if of.get("train")]
    return finite_mean(shares) or 1.0


def summarise_runs(runs: Sequence[Run], value: Callable[[Run], float | None]) -> Summary:
    """Mean, deviation and interval of what ``value`` says of each run."""
    return summarise(map(value, runs), [run.split for run in runs], overlap_of(runs))


def replicates(runs: Sequence[Run], overlap: float) -> list[Replicate]:
    """(seed, split) of each run, or with an ``overlap`` of 0 the seed alone and None; where seeds are unknown or repeated
    nothing can be paired, and every run has a path in place of its seed."""
    keys: list[Replicate] = [(run.seed, run.split if overlap else None) for run in runs]
    distinct = all(run.seed is not None for run in runs) and len(set(keys)) == len(keys)
    return keys if distinct else [(run.path, split) for run, (_, split) in zip(runs, keys, strict=True)]


def difference_of(runs: Sequence[Run], others: Sequence[Run], metric: str) -> Difference:
    """The runs of one configuration against those of another, paired by seed and split where these are shared."""
    overlap = overlap_of([*runs, *others])
    first, second = (
        {key: run.value(metric) for key, run in zip(replicates(of, overlap), of, strict=True)} for of in (runs, others)
    )
    return compare(first, second, overlap)
