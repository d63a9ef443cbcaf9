"""Everything that a report says about some runs, as numbers and sentences; every format is made from this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnbench.analysis.comparison import Comparison, compare_with_reference
from cnnbench.analysis.effects import Effects, find_effects
from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow, build
from cnnbench.analysis.metric_names import (
    COSTS,
    check_metric,
    corrected_p,
    difference,
    interval,
    leaf,
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
        reference: what the others are compared with: the baseline, if one was given, or else the first of the board.
        effects: None where nothing varies or nothing is finished.
        run, versus: whose confusion matrices are shown.
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
    """Analyse ``runs``, of any status; the options are ``cnnbench.analysis.report.write.Options``.

    Raises:
        RequestError: nothing has one of these names.
    """
    board = build(runs, objective, ignore)
    grid = board.grid
    if metric is None:
        tested = f"test/{leaf(board.objective)}"
        metric = tested if tested in board.known else board.objective
    else:
        check_metric(metric, board.known)
    ranked = [row.configuration for row in board.rows]
    reference = grid.find(baseline) if baseline else ranked[0] if ranked else None
    if baseline and reference is not None and not reference.runs:
        raise RequestError(f"--baseline {baseline}: none of its runs is completed")
    others = [c for c in ranked if c is not reference]
    comparisons = tuple(compare_with_reference(reference, others, metric, size)) if reference else ()
    effects = find_effects(ranked, grid.factors, metric, reference if baseline else None) if grid.factors else None
    first = _named_run(grid.runs, run) if run else ranked[0].runs[0] if ranked else None
    second = _named_run(grid.runs, versus) if versus else _other_run(first, [reference, *ranked[::-1]])
    answer = ["No run has completed: there is nothing to compare yet."]
    if reference is not None and ranked:
        answer = [_first_place(board, metric)]
        if comparisons and baseline:
            answer.append(_against_baseline(board, reference, comparisons, metric))
        elif comparisons:
            answer.append(_against_first(board, comparisons, metric))
        answer += [*_what_mattered(effects), *_ran_once(board)]
    return Analysis(board, metric, reference, bool(baseline), comparisons, effects, first, second, tuple(answer))


def _named_run(runs: Sequence[Run], name: str) -> Run:
    matching = [r for r in runs if name.rstrip("/") in (r.path.name, str(r.path)) or str(r.path).endswith(f"/{name}")]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise RequestError(f"{name!r} names {len(matching)} finished runs; give more of the path: "
                           f"{', '.join(str(r.path) for r in matching[:4])}")  # fmt: skip
    raise RequestError(f"{name!r} is no finished run's folder{did_you_mean(name, [r.path.name for r in runs])}")


def _other_run(run: Run | None, candidates: Iterable[Configuration | None]) -> Run | None:
    """A run of the first configuration that ``run`` is not of, with the same seed if there is one."""
    for configuration in candidates:
        if run is not None and configuration is not None and run not in configuration.runs and configuration.runs:
            return next((other for other in configuration.runs if other.seed == run.seed), configuration.runs[0])
    return None


# The answer


def _first_place(board: Leaderboard, metric: str) -> str:
    row = board.rows[0]
    beside = f" and {_value(row, metric)}" if metric != board.objective and metric not in COSTS else ""
    name = row.configuration.short if board.grid.factors else "The only configuration"
    best = f"Best of {len(board.rows)}: {name}" if len(board.rows) > 1 else name
    spread = ", ± one standard deviation" if row.n > 1 else ""
    return f"{best}, with {_value(row, board.objective)}{beside} ({plural(row.n, 'seed')}{spread})."


def _value(row: LeaderboardRow, metric: str) -> str:
    summary = row.value(metric)
    if summary.mean is None:
        return f"no {title(metric)}"
    return f"{title(metric)} {plus_minus(summary.mean, summary.std, metric)}{unit(metric)}"


def _against_first(board: Leaderboard, comparisons: Sequence[Comparison], metric: str) -> str:
    equal = sum(c.verdict == "no difference shown" for c in comparisons)
    chosen = "" if metric != board.objective else ", though it was chosen by this very metric, which flatters it"
    alone, others = len(comparisons) == 1, plural(len(comparisons), "other")
    if not equal:
        return f"{'The other differs' if alone else f'All {others} differ'} from it in {title(metric)}{chosen}."
    return (f"{'The other' if alone else f'{equal} of the {others}'} cannot be told from it in {title(metric)} with "
            f"these seeds (corrected for {plural(len(comparisons), 'comparison')}){chosen}.")  # fmt: skip


def _against_baseline(
    board: Leaderboard, reference: Configuration, comparisons: Sequence[Comparison], metric: str
) -> str:
    count = Counter(c.verdict for c in comparisons)
    counts = (f"Against {reference.short}: {count['better']} better, {count['worse']} worse, "
              f"{count['no difference shown']} with no difference shown.")  # fmt: skip
    best = board.rows[0].configuration
    if best is reference:
        return f"{counts} The baseline itself is first."
    own = next(c for c in comparisons if c.configuration is best)
    d = own.difference
    if d.value is None:
        return counts
    span = f", 95% interval {interval(d.low, d.high, metric, sign=True)}" if d.low is not None else ""
    p = "" if own.p is None else f" ({corrected_p(own.p)})"
    return (f"{counts} The first place is {difference(d.value, metric)} from it in {title(metric)}{span}: "
            f"{own.verdict}{p}.")  # fmt: skip


def _what_mattered(effects: Effects | None) -> list[str]:
    if effects is None:
        return []
    clear = [effect for effect in effects.mains if effect.anova.p is not None and effect.anova.p < ALPHA]
    joint = [pair for pair in effects.interactions if pair.anova.p is not None and pair.anova.p < ALPHA]
    sentences = [effect.sentence for effect in clear[:3]] + [pair.sentence for pair in joint[:1]]
    if not sentences and len(effects.mains) > 1 and any(effect.anova.p is not None for effect in effects.mains):
        sentences.append(f"No factor was shown to change {title(effects.metric)} on average.")
    return sentences


def _ran_once(board: Leaderboard) -> list[str]:
    once = sum(row.n == 1 for row in board.rows)
    if not once:
        return []
    which = "Every configuration" if once == len(board.rows) else plural(once, "configuration")
    return [f"{which} ran once only: nothing can be said about chance there. Add seeds (seed=0,1,2)."]
