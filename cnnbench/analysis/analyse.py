"""Everything that a report says about some runs, as numbers and sentences; every format is made from this."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnbench.analysis import metric_names as names
from cnnbench.analysis.comparison import FEWEST, MOST, Comparison, Pairs, compare_all, compare_with_reference
from cnnbench.analysis.data_sets import AcrossDataSets, find_across
from cnnbench.analysis.effects import Effects, find_effects
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, build
from cnnbench.analysis.runs import Run
from cnnbench.analysis.sequential import DecidedSweep, read_decided
from cnnbench.analysis.statistics import ALPHA
from cnnbench.analysis.time_to_target import TimeToTarget, time_to_target
from cnnbench.analysis.wording import sentences
from cnnbench.utils.errors import RequestError, did_you_mean


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

    @property
    def decided(self) -> list[DecidedSweep]:
        """The sweeps with sweep.until=decided whose runs these are."""
        return read_decided({run.path.parent for run in self.board.grid.runs})

    @property
    def survivors(self) -> tuple[int, int]:
        """Of the comparisons that show a difference over seeds: how many have predictions, and of these how many show it
        over other images too."""
        shown = [c for c in self.comparisons if c.verdict in ("better", "worse") and c.images]
        both = [c.p_both for c in shown if c.p_both is not None]
        return len(both), sum(p < ALPHA for p in both)

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
    def across_sentences(self) -> list[str]:
        """What the data sets say together."""
        found = self.across
        return [*sentences("across", found, self.metric), *sentences("across_notes", found)] if found else []

    @property
    def answer(self) -> list[str]:
        """What came out, in a few sentences."""
        return sentences("answer", self)


def analyse(
    runs: Sequence[Run],
    *,
    baseline: str | None = None,
    objective: str | None = None,
    metric: str | None = None,
    size: float | None = None,
    practical: float | None = None,
    run: str | None = None,
    versus: str | None = None,
    ignore: Iterable[str] = (),
    best_over: Sequence[str] = (),
    all_pairs: bool = False,
    target: float | None = None,
) -> Analysis:
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
        RequestError: nothing has one of these names.
    """
    board = build(runs, objective, ignore, best_over)
    grid = board.grid
    if metric is None:
        metric = board.test_metric
    else:
        names.check_metric(metric, board.known)
    ranked = [row.configuration for row in board.rows]
    named = grid.find(baseline).setting if baseline else None
    references = {c.data_set: c for c in ranked[::-1] if named in (None, c.setting)}
    reference = next((c for c in ranked if references.get(c.data_set) is c), None)
    if baseline and reference is None:
        raise RequestError(f"--baseline {baseline}: none of its runs is completed")
    others = [c for c in ranked if references.get(c.data_set, c) is not c]
    if practical is not None:
        practical /= 100 if names.is_share(metric) else 1
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
        raise RequestError(f"{name!r} names {len(matching)} finished runs; give more of the path: "
                           f"{', '.join(str(r.path) for r in matching[:4])}")  # fmt: skip
    raise RequestError(f"{name!r} is no finished run's folder{did_you_mean(name, [r.path.name for r in runs])}")


def _other_run(run: Run | None, candidates: Iterable[Configuration]) -> Run | None:
    """A run of the first configuration that ``run`` is not of, with the same seed and split if there is one."""
    for configuration in candidates:
        if run is not None and run not in configuration.runs:
            own = run.replicate
            return next((other for other in configuration.runs if other.replicate == own), configuration.runs[0])
    return None
