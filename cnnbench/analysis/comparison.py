"""Configurations against the reference, and each against each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.images import ImageDifference, compare_runs
from cnnbench.analysis.metric_names import higher_is_better, is_share
from cnnbench.analysis.power import seeds_needed
from cnnbench.analysis.runs import difference_of
from cnnbench.analysis.statistics import ALPHA, Difference, Verdict, finite_mean, holm, verdicts

FEWEST, MOST = 3, 12  # configurations that are compared each with each without being asked for


class Comparison(NamedTuple):
    """A configuration against the reference on its data set."""

    configuration: Configuration
    difference: Difference
    p: float | None  # Holm's, over all comparisons with the reference that have a p-value
    verdict: Verdict
    size: float
    seeds_needed: int | None  # runs a side that would show a true difference of this size; None where it is unknown
    images: ImageDifference | None  # of test accuracies; None of other metrics, and where no predictions are kept
    p_both: float | None  # of other seeds and images together, by Holm's method over these comparisons


def compare_with_reference(
    references: Mapping[str, Configuration],
    others: Sequence[Configuration],
    metric: str,
    size: float | None = None,
    practical: float | None = None,
) -> list[Comparison]:
    """Compare each of ``others`` with the reference on its data set, in their order.

    Args:
        metric: of the weights that each run stands for (``Run.value``).
        size: the true difference for which the needed seeds are computed; by default ``practical``, or else one
            percentage point of a share, a twentieth of the references' mean of anything else.
        practical: the largest difference that does not matter.
    """
    size = practical if size is None else size
    if size is None:
        mean = finite_mean(run.value(metric) for reference in references.values() for run in reference.runs)
        size = 0.01 if is_share(metric) else abs(mean or 0.0) / 20
    differences = [difference_of(c.runs, references[c.data_set].runs, metric) for c in others]
    words = verdicts(differences, higher_is_better(metric), practical)
    level = ALPHA / max(1, sum(p is not None for p, _ in words))  # the first step of Holm's: the strictest
    images = [compare_runs(c.runs, references[c.data_set].runs) if metric == "test/accuracy" else None for c in others]
    both = holm([found.p if found else None for found in images])
    needed = [seeds_needed(size, d.sd, d.method.endswith("paired t"), level, d.floor) for d in differences]
    return [
        Comparison(other, d, p, word, size, seeds, found, p_both)
        for other, d, (p, word), seeds, found, p_both in zip(
            others, differences, words, needed, images, both, strict=True
        )
    ]


@dataclass(frozen=True)
class Pairs:
    """The differences between configurations, all of one metric."""

    configurations: Sequence[Configuration]
    metric: str
    matrix: Mapping[tuple[int, int], tuple[Difference, float | None, Verdict]]
    """By (row, column), row < column: row minus column; its p-value, by Holm's method over all; row against column."""

    def value(self, row: int, column: int) -> float | None:
        """The difference of two configurations, row minus column."""
        value = self.matrix[min(row, column), max(row, column)][0].value
        return 0 - value if value is not None and row > column else value  # never a minus zero

    def sign(self, row: int, column: int) -> str:
        """``*`` where the two differ, ``=`` where they are practically the same."""
        verdict = self.matrix[min(row, column), max(row, column)][2]
        return {"better": "*", "worse": "*", "practically the same": "="}.get(verdict, "")

    @property
    def largest(self) -> float:
        """The largest difference, either way."""
        return max((abs(d.value) for d, _, _ in self.matrix.values() if d.value is not None), default=0.0)


def compare_all(configurations: Sequence[Configuration], metric: str, practical: float | None = None) -> Pairs:
    """Compare all pairs of ``configurations``; differences up to ``practical``, in the metric's unit, do not matter."""
    places = list(combinations(range(len(configurations)), 2))
    differences = [difference_of(configurations[one].runs, configurations[two].runs, metric) for one, two in places]
    judged = verdicts(differences, higher_is_better(metric), practical)
    matrix = {place: (d, *judgement) for place, d, judgement in zip(places, differences, judged, strict=True)}
    return Pairs(configurations, metric, matrix)
