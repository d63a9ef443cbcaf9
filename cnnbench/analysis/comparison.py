"""Every configuration against one of them: difference, interval, effect size, corrected p-value, and a word for it."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from cnnbench.analysis import statistics
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import difference, higher_is_better, is_share, plural
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import ALPHA, MOST_SEEDS, Difference, Verdict


class Comparison(NamedTuple):
    """A configuration against the reference."""

    configuration: Configuration
    difference: Difference
    p: float | None  # Holm's, over all comparisons with the reference that have a p-value
    verdict: Verdict
    size: float
    seeds_needed: int | None  # runs a side that would show a true difference of this size; None where it is unknown

    def describe_seeds_needed(self, metric: str) -> str:
        """How many seeds would show a difference of ``size``, in words."""
        size = difference(self.size, metric).lstrip("+").replace("1.00 points", "1 point")
        if self.seeds_needed is None:
            return "one run a side: no test" if self.difference.n < 2 else "no spread between seeds to reckon with"
        if self.seeds_needed > MOST_SEEDS:
            return f"more than {MOST_SEEDS} seeds for {size}"
        return f"{plural(self.seeds_needed, 'seed')} for {size}"


def _values_by_seed(runs: Sequence[Run], metric: str) -> dict[Hashable, float | None]:
    """{seed: value}; where seeds are unknown or repeated nothing can be paired, and every run has a key of its own."""
    seeds = [run.seed for run in runs]
    distinct = None not in seeds and len(set(seeds)) == len(seeds)
    return {run.seed if distinct else run.path: run.value(metric) for run in runs}


def compare_with_reference(
    reference: Configuration, others: Sequence[Configuration], metric: str, size: float | None = None
) -> list[Comparison]:
    """Compare each of ``others`` with ``reference``, in their order.

    Args:
        metric: of the weights that each run stands for (``Run.value``).
        size: the true difference for which the needed seeds are computed; by default one percentage point of a share,
            a twentieth of the reference's mean of anything else.
    """
    base = _values_by_seed(reference.runs, metric)
    if size is None:
        size = 0.01 if is_share(metric) else abs(statistics.summarise(base.values()).mean or 0.0) / 20
    differences = [statistics.compare(_values_by_seed(other.runs, metric), base) for other in others]
    adjusted = statistics.holm([d.p for d in differences])
    level = ALPHA / max(1, sum(p is not None for p in adjusted))  # the first step of Holm's: the strictest
    comparisons = []
    for other, d, p in zip(others, differences, adjusted, strict=True):
        needed = statistics.seeds_needed(size, d.sd, d.method == "paired t", level)
        word = statistics.verdict(d.value, p, higher_is_better(metric))
        comparisons.append(Comparison(other, d, p, word, size, needed))
    return comparisons
