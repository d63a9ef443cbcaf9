"""Every configuration against every other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.splits import difference_of
from cnnbench.analysis.statistics import Difference, Verdict, verdicts

FEWEST, MOST = 3, 12  # configurations that are compared so without being asked for


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
