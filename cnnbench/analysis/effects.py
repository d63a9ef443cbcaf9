"""What each factor does on average, what two do together, and a sentence for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from cnnbench.analysis.anova import AnovaRow, AnovaTable, Design, Estimate, fit_anova
from cnnbench.analysis.effects_text import interaction_sentence, main_sentence
from cnnbench.analysis.grouping import CONTEXT, Configuration
from cnnbench.analysis.metric_names import MISSING
from cnnbench.analysis.statistics import CONFIDENCE, summarise
from cnnbench.config.settings import short_names, show

MOST_LEVELS = 12  # of a factor that is looked at as one of categories
OFF = ("none", "null", "false", "0", "off", "no", "[]")  # what stands first among a factor's levels


@dataclass(frozen=True)
class Effect:
    """A factor's largest difference between two levels, averaged over the others.

    Attributes:
        anova: the row of the table of variance.
        low, high: 95% interval by Tukey's range, which allows for having picked the extremes; None without a residual.
        means: {level: estimated mean, or None where it cannot be told}, adjusted to the same mix of the other factors.
    """

    factor: str
    anova: AnovaRow
    before: str
    after: str
    value: float | None
    low: float | None
    high: float | None
    means: Mapping[str, float | None]
    sentence: str


@dataclass(frozen=True)
class Interaction:
    """How the effect of one factor, from ``before`` to ``after``, depends on the level of another.

    Attributes:
        cells: {(level of factor, level of other): mean of the runs there}; a cell without runs is missing.
        effects: {level of other: effect}, from the model; None where the cells it needs are missing.
    """

    factor: str
    other: str
    anova: AnovaRow
    before: str
    after: str
    effects: Mapping[str, float | None]
    cells: Mapping[tuple[str, str], float]
    sentence: str


@dataclass(frozen=True)
class Effects:
    """Main effects (the largest first), interactions, the table behind them, and what to know about it."""

    metric: str
    table: AnovaTable
    mains: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]
    names: Mapping[str, str]
    levels: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]


def find_effects(
    configurations: Sequence[Configuration], factors: Sequence[str], metric: str, reference: Configuration | None = None
) -> Effects | None:
    """Main effects and two-way interactions on ``metric``.

    Args:
        reference: its levels stand first, so that effects are told against them.

    Returns:
        None where fewer than two runs have the metric, or no factor has two levels.
    """
    rows: list[dict[str, str]] = []
    y: list[float] = []
    for configuration in configurations:
        at = {f: show(configuration.values[f]) if f in configuration.values else MISSING for f in factors}
        for run in configuration.runs:
            value = run.value(metric)
            if value is not None:
                rows.append(at)
                y.append(value)
    first = {f: show(v) for f, v in reference.values.items()} if reference else {}
    factors = _nest(rows, factors, first)
    levels = {f: _ordered({row[f] for row in rows}, first.get(f)) for f in factors}
    many = [f for f in factors if len(levels[f]) > min(MOST_LEVELS, len(rows) / 2)]
    levels = {f: names for f, names in levels.items() if len(names) > 1 and f not in many}
    if not levels or len(rows) < 2:
        return None
    table = fit_anova(levels, rows, y, alone=[f for f in levels if f in CONTEXT])
    names = short_names(list(levels))
    lines = {line.term: line for line in table.rows}
    mains = [_main(f, lines[(f,)], levels[f], table, metric, names) for f in levels]
    mains.sort(key=lambda effect: -(effect.anova.partial_eta_squared or 0))
    pairs = [line for line in table.rows if len(line.term) == 2 and line.df > 0]
    pairs.sort(key=lambda line: (line.p_raw is None, line.p_raw if line.p_raw is not None else -line.sum_of_squares))
    strength = {effect.factor: effect.anova.sum_of_squares for effect in mains}
    found = [_interaction(line, strength, table.full, levels, rows, y, metric, names) for line in pairs]
    notes = _notes(table, many, names, len(rows), levels)
    kept = tuple(item for item in found if item is not None)
    return Effects(metric, table, tuple(mains), kept, names, levels, tuple(notes))


def _nest(rows: Sequence[dict[str, str]], factors: Sequence[str], first: dict[str, str]) -> list[str]:
    """Make a key that belongs to some choices of its group alone a part of the choice, in place.

    With ``optimizer=adam`` at one learning rate and ``optimizer=sgd`` at two others, rate and optimizer cannot be told
    apart: the optimizer's levels become ``adam``, ``sgd lr=0.1`` and ``sgd lr=0.5``. Where a value is shared by the
    choices, both stay factors.

    Returns:
        The factors that are left.
    """
    left = list(factors)
    for key in factors:
        group = key.split(".")[0]
        if key == group or group not in left or _linked({(row[group], row[key]) for row in rows}):
            continue
        several = {choice for choice in {row[group] for row in rows}
                   if len({row[key] for row in rows if row[group] == choice}) > 1}  # fmt: skip
        for row in [*{id(row): row for row in rows}.values(), first]:
            if row.get(group) in several:
                row[group] = f"{row[group]} {key.rsplit('.', 1)[-1]}={row.get(key, MISSING)}"
        left.remove(key)
    return left


def _linked(pairs: set[tuple[str, str]]) -> bool:
    """Whether shared values lead from any choice to any other."""
    start = next(iter(pairs))[0]
    reached, grown = {start}, True
    while grown:
        values = {value for choice, value in pairs if choice in reached}
        more = {choice for choice, value in pairs if value in values}
        grown, reached = more != reached, more
    return reached == {choice for choice, _ in pairs}


def _ordered(levels: Iterable[str], first: str | None) -> list[str]:
    """The reference, then what means "off", then numbers and lists by size, then the rest by name."""

    def key(level: str) -> tuple[int, list[float], str]:
        if level == first:
            return -1, [], level
        if level.lower() in OFF or level == MISSING:
            return 0, [], level
        try:
            return 1, [float(part) for part in level.strip("[]").split(",")], level
        except ValueError:
            return 2, [], level

    return sorted(levels, key=key)


def _notes(table: AnovaTable, many: Sequence[str], names: Mapping[str, str], runs: int, levels: Mapping) -> list[str]:
    notes = []
    if many:
        notes.append(f"Left out, for they have nearly as many values as there are runs: {', '.join(many)}.")
    if len(levels) > 1 and not table.interactions:
        notes.append("Too few runs to tell interactions from noise (no residual degrees of freedom): left out. "
                     "More seeds would bring them in.")  # fmt: skip
    if table.df < 1:
        notes.append(f"{runs} runs leave nothing to judge the effects by: no interval and no p-value can be given.")
    elif table.variance is None:
        notes.append("The runs of a cell do not differ at all: no interval and no p-value can be given.")
    aliased = [" × ".join(names[f] for f in line.term) for line in table.rows if line.df < 1]  # noqa: RUF001
    if aliased:
        notes.append(f"Cannot be told apart from the other terms with these runs: {', '.join(aliased)}.")
    return notes


def _main(
    factor: str, line: AnovaRow, levels: Sequence[str], table: AnovaTable, metric: str, names: Mapping[str, str]
) -> Effect:
    design = table.additive
    overall = {level: design.contrast(design.point({factor: level}), None) for level in levels}
    means = {level: None if found is None else found.value for level, found in overall.items()}
    pairs = list(combinations(levels, 2))
    estimates: dict[tuple[str, str], Estimate] = {}
    for before, after in pairs:
        row = design.point({factor: after}) - design.point({factor: before})
        if (found := design.contrast(row, table.variance)) is not None:
            estimates[before, after] = found
    if not estimates:
        text = f"{names[factor]}: its effect cannot be told apart from that of the other settings."
        return Effect(factor, line, levels[0], levels[-1], None, None, None, means, text)
    before, after = max(estimates, key=lambda pair: abs(estimates[pair].value))
    best = estimates[before, after]
    half = None if best.error is None else _tukey(len(levels), table.df) * best.error
    low, high = (None, None) if half is None else (best.value - half, best.value + half)
    text = main_sentence(names[factor], before, after, best.value, low, high, line, metric, len(levels))
    return Effect(factor, line, before, after, best.value, low, high, means, text)


@lru_cache
def _tukey(levels: int, df: int) -> float:
    """Half-width of a 95% interval for the extreme pair of means, in standard errors of a difference (Tukey 1953).

    With two levels it is the quantile of Student's t.
    """
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(CONFIDENCE, levels, df)) / math.sqrt(2)


def _interaction(
    line: AnovaRow, strength: Mapping[str, float], design: Design, levels: Mapping[str, Sequence[str]],
    rows: Sequence[Mapping[str, str]], y: Sequence[float], metric: str, names: Mapping[str, str],
) -> Interaction | None:  # fmt: skip
    factor, other = sorted(line.term, key=lambda f: strength[f])  # the stronger one is the circumstance
    cells = {}
    for a in levels[factor]:
        for b in levels[other]:
            values = [v for row, v in zip(rows, y, strict=True) if row[factor] == a and row[other] == b]
            if (centre := summarise(values).mean) is not None:
                cells[a, b] = centre

    def effects(before: str, after: str) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for at in levels[other]:
            row = design.point({factor: after, other: at}) - design.point({factor: before, other: at})
            estimate = design.contrast(row, None)
            found[at] = None if estimate is None else estimate.value
        return found

    def spread(found: Mapping[str, float | None]) -> float:
        known = [value for value in found.values() if value is not None]
        return max(known) - min(known) if len(known) > 1 else -1.0

    options = {pair: effects(*pair) for pair in combinations(levels[factor], 2)}
    before, after = max(options, key=lambda pair: spread(options[pair]))
    chosen = options[before, after]
    if spread(chosen) < 0:
        return None
    text = interaction_sentence(names[factor], names[other], before, after, chosen, line, metric)
    return Interaction(factor, other, line, before, after, chosen, cells, text)
