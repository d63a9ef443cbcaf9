"""Every configuration against every other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import higher_is_better
from cnnbench.analysis.statistics import Difference, Verdict, verdicts

FEWEST, MOST = 3, 12  # configurations that are compared so without being asked for
MOST_ASKED = 30  # 435 pairs: beyond, a table cannot be read, and Holm's correction leaves little


@dataclass(frozen=True)
class Pairs:
    """The differences between configurations, all of one metric."""

    configurations: Sequence[Configuration]
    metric: str
    matrix: Mapping[tuple[int, int], tuple[Difference, float | None, Verdict]]
    """By (row, column), row < column: row minus column; its p-value, by Holm's method over all; row against column."""
    left_out: int  # configurations after these

    def value(self, row: int, column: int) -> float | None:
        """The difference of two configurations, row minus column."""
        value = self.matrix[min(row, column), max(row, column)][0].value
        return -value if value is not None and row > column else value

    def sign(self, row: int, column: int) -> str:
        """``*`` where the two differ, ``=`` where they are practically the same."""
        verdict = self.matrix[min(row, column), max(row, column)][2]
        return {"better": "*", "worse": "*", "practically the same": "="}.get(verdict, "")

    @property
    def largest(self) -> float:
        """The largest difference, either way."""
        return max((abs(d.value) for d, _, _ in self.matrix.values() if d.value is not None), default=0.0)

    @property
    def different(self) -> list[tuple[int, int]]:
        """The pairs that differ."""
        return [pair for pair in self.matrix if self.sign(*pair) == "*"]

    @property
    def not_told_apart(self) -> list[list[int]]:
        """The largest sets in which no two differ: the letters of a compact display, by inserting and absorbing (Piepho
        2004)."""
        sets = [set(range(len(self.configurations)))]
        for pair in self.different:
            split = [s - {one} for s in sets if s.issuperset(pair) for one in pair]
            sets = [s for s in sets if not s.issuperset(pair)]
            for new in split:
                sets += [] if any(new <= old for old in sets) else [new]
        return sorted(sorted(s) for s in sets if len(s) > 1)


def compare_all(
    configurations: Sequence[Configuration],
    difference: Callable[[int, int], Difference],
    metric: str,
    practical: float | None = None,
) -> Pairs:
    """Compare the first ``MOST_ASKED`` of ``configurations``, by the ``difference`` of ``metric`` between any two of them."""
    places = list(combinations(range(len(configurations[:MOST_ASKED])), 2))
    differences = [difference(*place) for place in places]
    judged = verdicts(differences, higher_is_better(metric), practical)
    matrix = {place: (d, *judgement) for place, d, judgement in zip(places, differences, judged, strict=True)}
    return Pairs(configurations[:MOST_ASKED], metric, matrix, max(0, len(configurations) - MOST_ASKED))
