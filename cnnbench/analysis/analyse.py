"""Everything that a report says about some runs, as numbers and sentences; every format is made from this."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from cnnbench.analysis.data_sets import AcrossDataSets, find_across
from cnnbench.analysis.effects import Effects, find_effects
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.images import ImageDifference, compare_runs
from cnnbench.analysis.leaderboard import Leaderboard, build
from cnnbench.analysis.metric_names import check_metric, higher_is_better, is_share
from cnnbench.analysis.power import seeds_needed
from cnnbench.analysis.runs import Run, difference_of
from cnnbench.analysis.statistics import ALPHA, Difference, Verdict, finite_mean, holm, verdicts
from cnnbench.analysis.time_to_target import TimeToTarget, time_to_target
from cnnbench.analysis.wording import sentences
from cnnbench.utils.errors import RequestError, did_you_mean

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
    references: Mapping[str, Configuration], others: Sequence[Configuration], metric: str, size: float | None = None,
    practical: float | None = None,
) -> list[Comparison]:  # fmt: skip
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
    columns = zip(others, differences, words, needed, images, both, strict=True)
    return [Comparison(c, d, p, word, size, seeds, found, p_both) for c, d, (p, word), seeds, found, p_both in columns]


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


@dataclass(frozen=True)
class Analysis:
    """What a report says."""

    board: Leaderboard
    metric: str  # of differences and effects: the objective's test metric, which chose nothing
    reference: Configuration | None  # the baseline, or else the first of the board; None where nothing is finished
    references: Mapping[str, Configuration]  # by data set: the baseline there, or else the first
    baseline_given: bool
    comparisons: list[Comparison]  # of the others with the reference
    effects: Effects | None  # None where nothing varies or nothing is finished
    run: Run | None  # whose confusion matrix is shown
    versus: Run | None  # and the difference from this one's
    across: AcrossDataSets | None = None  # None where there is one data set
    practical: float | None = None  # the largest difference that does not matter, in the metric's unit
    pairs: Pairs | None = None  # None of more than a few configurations, unless they are asked for
    target: TimeToTarget | None = None  # None unless it is asked for

    def comparison(self, configuration: Configuration) -> Comparison | None:
        """That configuration's comparison; None of the reference."""
        return next((c for c in self.comparisons if c.configuration is configuration), None)

    @property
    def reference_name(self) -> str:
        """What the others are compared with."""
        if self.reference is None or len(self.board.data_sets) == 1:
            return self.reference.short if self.reference else "nothing"
        return f"{self.reference.setting if self.baseline_given else 'the first place'} on the same data set"

    @property
    def answer(self) -> list[str]:
        """What came out, in a few sentences."""
        return sentences("answer", self)


def analyse(
    runs: Sequence[Run], *, baseline: str | None = None, objective: str | None = None, metric: str | None = None,
    size: float | None = None, practical: float | None = None, run: str | None = None, versus: str | None = None,
    ignore: Collection[str] = (), best_over: Sequence[str] = (), all_pairs: bool = False, target: float | None = None,
) -> Analysis:  # fmt: skip
    """Analyse ``runs``, of any status.

    Args:
        baseline: names the configuration that the others are compared with: ``optimizer=sgd``.
        objective: metric that orders the configurations; by default the runs' own.
        metric: metric that is compared; by default the test set's of the objective's kind.
        size: true difference, in the metric's unit (0.01 is a point), for which the needed seeds are given.
        practical: the largest difference that does not matter, in points of a share, else in the metric's unit.
        run, versus: folders of the runs whose confusion matrices are shown.
        ignore: factors to average over, although they vary (``code``).
        best_over: factors of which each configuration has its best value, chosen by validation.
        all_pairs: compare each with each, however many there are.
        target: of the validation metric, in per cent of a share: how long does training take to reach it?

    Raises:
        RequestError: nothing has one of these names, or no share is of this size.
    """
    board = build(runs, objective, ignore, best_over)
    grid = board.grid
    metric = board.test_metric if metric is None else check_metric("metric", metric, board.known)
    ranked = [row.configuration for row in board.rows]
    named = grid.find(baseline).setting if baseline else None
    references = {c.data_set: c for c in ranked[::-1] if named in (None, c.setting)}
    reference = next((c for c in ranked if references.get(c.data_set) is c), None)
    if baseline and reference is None:
        raise RequestError(f"--baseline {baseline}: none of its runs is completed")
    others = [c for c in ranked if references.get(c.data_set, c) is not c]
    if size is not None and size >= 1 and is_share(metric):
        meant = f"0.01 is one point; did you mean {size / 100:g}?"
        raise RequestError(f"--size {size:g}: {metric} is a share here, of which {meant}")
    if practical is not None:
        practical /= 100 if is_share(metric) else 1
    comparisons = compare_with_reference(references, others, metric, size, practical)
    effects = find_effects(ranked, grid.factors, metric, reference if baseline else None, grid.chosen_over)
    across = find_across(ranked, metric, named)
    if len(board.data_sets) > 1 and (all_pairs or target is not None):
        raise RequestError(f"{'--all-pairs' if all_pairs else '--target'} is for one data set, and these are "
                           f"{', '.join(board.data_sets)}: give the folders of one")  # fmt: skip
    some = (len(board.data_sets) == 1 and FEWEST <= len(ranked) <= MOST) or (all_pairs and len(ranked) > 1)
    pairs = compare_all(ranked, metric, practical) if some else None
    times = time_to_target(board, reference, target) if reference and target is not None else None
    first = _named_run(grid.runs, run) if run else ranked[0].runs[0] if ranked else None
    on = next((c.data_set for c in ranked if first in c.runs), "")
    beside = [c for c in (references.get(on), *ranked[::-1]) if c and c.data_set == on]
    second = _named_run(grid.runs, versus) if versus else _other_run(first, beside)
    return Analysis(board, metric, reference, references, bool(baseline), comparisons, effects, first, second, across,
                    practical, pairs, times)  # fmt: skip


def _named_run(runs: Sequence[Run], name: str) -> Run:
    matching = [r for r in runs if name.rstrip("/") in (r.path.name, str(r.path)) or str(r.path).endswith(f"/{name}")]
    if len(matching) == 1:
        return matching[0]
    if matching:
        paths = ", ".join(str(r.path) for r in matching[:4])
        raise RequestError(f"{name!r} names {len(matching)} finished runs; give more of the path: {paths}")
    raise RequestError(f"{name!r} is no finished run's folder{did_you_mean(name, [r.path.name for r in runs])}")


def _other_run(run: Run | None, candidates: Iterable[Configuration]) -> Run | None:
    """A run of the first configuration that ``run`` is not of, with the same seed and split if there is one."""
    rest = next((c.runs for c in candidates if run is not None and run not in c.runs), ())
    same = [other for other in rest if run is not None and other.replicate == run.replicate]
    return next(iter([*same, *rest]), None)
