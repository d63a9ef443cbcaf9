"""Everything that a report says about some runs, as numbers and sentences; every format is made from this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnbench.analysis.comparison import Comparison, compare_with_reference
from cnnbench.analysis.effects import Effects, find_effects
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, Row, build
from cnnbench.analysis.metric_names import (
    COSTS,
    check_metric,
    difference,
    interval,
    leaf,
    p_value,
    plural,
    plus_minus,
    title,
    unit,
)
from cnnbench.analysis.runs import Run
from cnnbench.analysis.statistics import ALPHA
from cnnbench.utils.errors import RequestError, did_you_mean


@dataclass(frozen=True)
class Analysis:
    """What a report says.

    Attributes:
        metric: what differences and effects are measured on: the objective's test metric, which chose nothing.
        reference: what the others are compared with: the baseline asked for, or else the first of the board.
        baseline_given: whether that baseline was asked for.
        comparisons: in the order of the board, without the reference.
        effects: None where nothing varies or nothing is finished.
        run, versus: whose confusion matrices are shown.
        answer: the question's answer in a few sentences.
    """

    board: Leaderboard
    metric: str
    reference: Configuration | None
    baseline_given: bool
    comparisons: tuple[Comparison, ...]
    effects: Effects | None
    run: Run | None
    versus: Run | None
    answer: tuple[str, ...]

    def comparison(self, configuration: Configuration) -> Comparison | None:
        """That configuration's comparison; None of the reference."""
        return next((c for c in self.comparisons if c.configuration is configuration), None)


def analyse(
    runs: Sequence[Run],
    *,
    baseline: str | None = None,
    objective: str | None = None,
    metric: str | None = None,
    size: float | None = None,
    run: str | None = None,
    versus: str | None = None,
    ignore: Iterable[str] = (),
) -> Analysis:
    """Analyse ``runs``.

    Args:
        runs: of any status.
        baseline: names one configuration (``Grid.find``).
        objective: orders the configurations; by default the runs' own.
        metric: is compared; by default the test set's of the objective's kind.
        size: true difference for which the needed seeds are told.
        run, versus: folder names of runs, for their confusion matrices.
        ignore: factors to average over.

    Raises:
        RequestError: nothing has one of these names.
    """
    board = build(runs, objective, ignore)
    grid = board.grid
    if metric is not None:
        check_metric(metric, board.known)
    else:
        tested = f"test/{leaf(board.objective)}"
        metric = tested if tested in board.known else board.objective
    placed = [row.configuration for row in board.rows]
    reference = grid.find(baseline) if baseline else placed[0] if placed else None
    if baseline and reference is not None and not reference.runs:
        raise RequestError(f"--baseline {baseline}: none of its runs is completed")
    others = [c for c in placed if c is not reference]
    comparisons = tuple(compare_with_reference(reference, others, metric, size)) if reference else ()
    effects = find_effects(placed, grid.factors, metric, reference if baseline else None) if grid.factors else None
    first = _chosen(grid.runs, run) or (board.rows[0].configuration.runs[0] if board.rows else None)
    second = _chosen(grid.runs, versus) or _partner(first, board, reference)
    answer = _answer(board, metric, reference, bool(baseline), comparisons, effects)
    return Analysis(board, metric, reference, bool(baseline), comparisons, effects, first, second, tuple(answer))


def _chosen(runs: Sequence[Run], name: str | None) -> Run | None:
    if name is None:
        return None
    matching = [r for r in runs if name.rstrip("/") in (r.path.name, str(r.path)) or str(r.path).endswith(f"/{name}")]
    if len(matching) == 1:
        return matching[0]
    names = [r.path.name for r in runs]
    if matching:
        raise RequestError(f"{name!r} names {len(matching)} finished runs; give more of the path: "
                           f"{', '.join(str(r.path) for r in matching[:4])}")  # fmt: skip
    raise RequestError(f"{name!r} is no finished run's folder{did_you_mean(name, names)}")


def _partner(run: Run | None, board: Leaderboard, reference: Configuration | None) -> Run | None:
    """A run to hold against ``run``: of the reference, or of the last place, with the same seed if there is one."""
    candidates = [reference, *(row.configuration for row in reversed(board.rows))]
    for configuration in candidates:
        if run is not None and configuration is not None and run not in configuration.runs and configuration.runs:
            same = [other for other in configuration.runs if other.seed == run.seed]
            return (same or list(configuration.runs))[0]
    return None


# The answer


def _answer(
    board: Leaderboard, metric: str, reference: Configuration | None, asked: bool,
    comparisons: Sequence[Comparison], effects: Effects | None,
) -> list[str]:  # fmt: skip
    if not board.rows or reference is None:
        return ["No run has completed: there is nothing to compare yet."]
    sentences = [_first_place(board, metric)]
    if comparisons:
        sentences.append(_standing(board, reference, asked, comparisons, metric))
    sentences += _what_mattered(effects)
    thin = sum(row.n == 1 for row in board.rows)
    if thin:
        whole = "Every configuration" if thin == len(board.rows) else plural(thin, "configuration")
        sentences.append(f"{whole} ran once only: nothing can be said about chance there. Add seeds (seed=0,1,2).")
    return sentences


def _first_place(board: Leaderboard, metric: str) -> str:
    row = board.rows[0]
    beside = ""
    if metric != board.objective and metric not in COSTS:
        beside = f" and {_value(row, metric)}"
    name = row.configuration.short if board.grid.factors else "The only configuration"
    lead = f"Best of {len(board.rows)}: {name}" if len(board.rows) > 1 else name
    spread = ", ± one standard deviation" if row.n > 1 else ""
    return f"{lead}, with {_value(row, board.objective)}{beside} ({plural(row.n, 'seed')}{spread})."


def _value(row: Row, metric: str) -> str:
    summary = row.value(metric)
    if summary.mean is None:
        return f"no {title(metric)}"
    return f"{title(metric)} {plus_minus(summary.mean, summary.std, metric)}{unit(metric)}"


def _standing(
    board: Leaderboard, reference: Configuration, asked: bool, comparisons: Sequence[Comparison], metric: str
) -> str:
    count = Counter(c.verdict for c in comparisons)
    equal = count["no difference shown"]
    if not asked:
        chosen = "" if metric != board.objective else ", though it was chosen by this very metric, which flatters it"
        alone, others = len(comparisons) == 1, plural(len(comparisons), "other")
        if not equal:
            return f"{'The other differs' if alone else f'All {others} differ'} from it in {title(metric)}{chosen}."
        return (f"{'The other' if alone else f'{equal} of the {others}'} cannot be told from it in {title(metric)} with "
                f"these seeds (corrected for {plural(len(comparisons), 'comparison')}){chosen}.")  # fmt: skip
    best = board.rows[0].configuration
    told = f"Against {reference.short}: {count['better']} better, {count['worse']} worse, {equal} with no difference shown."
    own = next((c for c in comparisons if c.configuration is best), None)
    if own is None or own.difference.value is None:
        return told + (" The baseline itself is first." if best is reference else "")
    d = own.difference
    span = f", 95% interval {interval(d.low, d.high, metric, sign=True)}" if d.low is not None else ""
    p = "" if own.p is None else f" (corrected p {'' if own.p < 0.001 else '= '}{p_value(own.p)})"
    return (
        f"{told} The first place is {difference(d.value, metric)} from it in {title(metric)}{span}: {own.verdict}{p}."
    )


def _what_mattered(effects: Effects | None) -> list[str]:
    if effects is None or len(effects.mains) + len(effects.interactions) == 0:
        return []
    clear = [e for e in effects.mains if e.anova.p is not None and e.anova.p < ALPHA]
    joint = [i for i in effects.interactions if i.anova.p is not None and i.anova.p < ALPHA]
    sentences = [e.sentence for e in clear[:3]]
    if joint:
        sentences.append(joint[0].sentence)
    if not sentences and len(effects.mains) > 1 and any(e.anova.p is not None for e in effects.mains):
        sentences.append(f"No factor was shown to change {title(effects.metric)} on average.")
    return sentences
