"""What each factor does on average, what two do together, and a sentence for each."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from statistics import fmean
from typing import Any, cast

import numpy as np
import pandas as pd

from cnnbench.analysis.anova import AnovaRow, AnovaTable, Levels, fit_anova
from cnnbench.analysis.evaluations import OFF, Training, compare_evaluations, find_evaluations, levels_of, training_of
from cnnbench.analysis.grouping import CONTEXT, DATA_SETS, Configuration
from cnnbench.analysis.runs import count_splits
from cnnbench.analysis.statistics import finite_values, to_number, tukey_quantile
from cnnbench.analysis.wording import sentences
from cnnbench.config.settings import short_names, show

MOST_LEVELS = 12  # of a factor that is looked at as one of categories
TUNED = ("optimizer", "scheduler")  # groups whose keys one tunes: optimizer.lr, optimizer.weight_decay, scheduler.gamma
RATE = ("optimizer", "optimizer.lr")  # a factor that should not be compared at one value of its key


@dataclass(frozen=True)
class Effect:
    """A factor's effect between two levels, averaged over the others; of more than two, from the lowest to the highest."""

    factor: str
    anova: AnovaRow
    before: str
    after: str
    value: float | None
    low: float | None  # 95% by Tukey's range, which allows for having picked the extremes; None without a residual
    high: float | None
    means: Mapping[str, float | None]  # by level, adjusted to the same mix of the other factors; None where unknown


@dataclass(frozen=True)
class Interaction:
    """How the effect of one factor, from ``before`` to ``after``, depends on the level of another."""

    factor: str
    other: str
    anova: AnovaRow
    before: str
    after: str
    effects: Mapping[str, float | None]  # by level of other, from the model; None where the cells it needs are missing
    cells: Mapping[Any, float]  # mean of the runs by (level of factor, level of other), where there are any


@dataclass(frozen=True)
class Effects:
    """What the factors do to ``metric``."""

    metric: str
    table: AnovaTable
    mains: list[Effect]  # the largest first
    interactions: list[Interaction]  # the clearest first
    short: Mapping[str, str]  # the factors' short names
    levels: Levels  # of each factor, in the order in which they are shown
    cautions: list[str]  # on what changes the evaluation alone, and on what varies with a setting that was not tuned
    notes: list[str]  # what could not be told, and why

    def sentence(self, effect: Effect | Interaction) -> str:
        """One of the effects with its evidence in words."""
        macro = "main_effect" if isinstance(effect, Effect) else "interaction"
        return " ".join(sentences(macro, effect, self))


def find_effects(
    configurations: Sequence[Configuration], factors: Sequence[str], metric: str,
    reference: Configuration | None = None, tuned: Collection[str] = (),
) -> Effects | None:  # fmt: skip
    """Main effects and two-way interactions on ``metric``; the levels of ``reference`` stand first. None where fewer than
    two runs have the metric, or no factor has two levels.

    Factors in ``tuned``, of which each configuration has its best value, are none here, nor are those that change the
    evaluation alone. Data sets are blocks: terms of the model, but which of them is easier is no effect.
    """
    # One row a training: its level of each factor, and the mean of its runs' values
    measured = [(c, run) for c in configurations for run in c.runs if to_number(run.value(metric)) is not None]
    factors = [f for f in factors if f not in tuned]
    alike, partial = find_evaluations(measured, factors)
    factors = [f for f in factors if f not in alike]
    trainings: dict[Training, list[float]] = {}
    for c, run in measured:
        trainings.setdefault(training_of(c, run, factors), []).append(cast(float, run.value(metric)))
    if len(trainings) < 2:
        return None
    settings = [levels for (levels, _), _ in trainings]
    observations = pd.DataFrame(settings, columns=factors)
    y = [fmean(values) for values in trainings.values()]

    # The factors that can be looked at, and their levels
    factors, varying = _merge_nested(observations, factors), factors
    first = observations[[reference is not None and of == levels_of(reference, varying) for of in settings]]
    levels = {f: _ordered(observations[f].unique(), set(first[f])) for f in factors}
    too_many = [f for f in factors if len(levels[f]) > min(MOST_LEVELS, len(y) / 2)]
    levels = {f: names for f, names in levels.items() if len(names) > 1 and f not in too_many}
    if levels.keys() <= {*DATA_SETS}:
        return None

    # Which terms matter, and what they do
    table = fit_anova(levels, observations, y, alone=CONTEXT)
    mains = [_main(row, table) for row in table.rows if len(row.term) == 1 and row.term[0] not in DATA_SETS]
    mains.sort(key=lambda effect: -(effect.anova.partial_eta_squared or 0))
    pairs = [row for row in table.rows if len(row.term) == 2 and row.df > 0 and not {*row.term} <= {*DATA_SETS}]
    pairs.sort(key=lambda row: (row.p_raw is None, row.p_raw or 0, -row.sum_of_squares))
    by_level = pd.Series(y, index=pd.MultiIndex.from_frame(observations))
    interactions = [joint for row in pairs if (joint := _interaction(row, table, by_level)) is not None]
    short, splits = short_names(list(levels)), count_splits([run for c, _ in measured for run in c.runs])
    crossed = len(levels.keys() - {*CONTEXT})  # factors that could interact
    notes = sentences("effects_notes", table, short, crossed, too_many, len(y), splits, alike, partial)
    cautions = _cautions(configurations, short, [f for f in varying if f not in factors], tuned)
    cautions = [*compare_evaluations(measured, alike, varying, metric, reference), *cautions]
    return Effects(metric, table, mains, interactions, short, levels, cautions, notes)


def _cautions(
    configurations: Sequence[Configuration], factors: Mapping[str, str], merged: Collection[str], tuned: Collection[str]
) -> list[str]:
    """A sentence for each factor that varies together with a key of its choices: one value each, or values that do not
    link the choices, as of the keys in ``merged``, which became part of the choice."""
    found = []
    for factor, key in dict.fromkeys([RATE, *((key.split(".")[0], key) for key in merged)]):
        values: dict[str, dict[str, None]] = {}
        for c in configurations if factor in factors and factor in TUNED and key not in tuned else ():
            known = [show(run.settings[key]) for run in c.runs if key in run.settings]
            values.setdefault(show(c.values.get(factor)), {}).update(dict.fromkeys(known))
        if len(values) > 1 and (key in merged or all(len(of) == 1 for of in values.values())):
            found.append(" ".join(sentences("entangled", factor, key, values, factors)))
    return found


def _merge_nested(observations: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """Make a key that belongs to some choices of its group alone a part of the choice; returns the factors left.

    With ``optimizer=adam`` at one learning rate and ``optimizer=sgd`` at two others, rate and optimizer cannot be
    separated: the optimizer's levels become ``adam``, ``sgd lr=0.1`` and ``sgd lr=0.5``, in place. Where shared values
    lead from any choice to any other, a linear model separates them, and both stay factors.
    """
    left = list(factors)
    for key in factors:
        group = key.split(".")[0]
        if key == group or group not in left:
            continue
        both = observations[[group, key]]
        if np.linalg.matrix_rank(pd.get_dummies(both).to_numpy(float)) < both.nunique().sum() - 1:
            alone = observations.groupby(group)[key].transform("nunique") == 1
            name = f" {key.rsplit('.', 1)[-1]}="
            observations[group] = both[group].where(alone, both[group] + name + both[key])
            left.remove(key)
    return left


def _ordered(levels: Iterable[str], first: Collection[str]) -> list[str]:
    """The reference, then what means "off", then numbers and lists by size, then the rest by name."""

    def key(level: str) -> tuple[int, list[float], str]:
        if level in first or level.lower() in OFF:
            return -1 if level in first else 0, [], level
        try:
            return 1, [float(part) for part in level.strip("[]").split(",")], level
        except ValueError:
            return 2, [], level

    return sorted(levels, key=key)


def _main(row: AnovaRow, table: AnovaTable) -> Effect:
    (factor,), model, variance = row.term, table.additive, table.full.variance
    points = {level: model.point({factor: level}) for level in model.levels[factor]}
    pairs = permutations(points, 2) if len(points) > 2 else [tuple(points)]
    estimates = {pair: model.estimate(points[pair[1]] - points[pair[0]]) for pair in pairs}
    known = {pair: value for pair, value in estimates.items() if value is not None}
    before, after = max(known, key=known.__getitem__) if known else tuple(points)[:2]
    value, low, high = known.get((before, after)), None, None
    if value is not None and variance is not None:
        error = math.sqrt(variance) * float(np.linalg.norm((points[after] - points[before]) @ model.inverse))
        half = tukey_quantile(len(points), table.full.df) * error
        low, high = value - half, value + half
    means = {level: model.estimate(point) for level, point in points.items()}
    return Effect(factor, row, before, after, value, low, high, means)


def _interaction(row: AnovaRow, table: AnovaTable, y: pd.Series) -> Interaction | None:
    """The pair of levels whose effect depends most on the other factor; None where it is not known at two levels."""
    strength = {main.term[0]: main.sum_of_squares for main in table.rows if len(main.term) == 1}
    # the stronger one is the circumstance, and a data set always is
    factor, other = sorted(row.term, key=lambda f: (f in DATA_SETS, strength[f]))
    model, levels, others = table.full, table.full.levels[factor], table.full.levels[other]
    points = {(level, at): model.point({factor: level, other: at}) for level in levels for at in others}
    effects, spreads = {}, {}
    for before, after in combinations(levels, 2):
        found = {at: model.estimate(points[after, at] - points[before, at]) for at in others}
        if len(known := finite_values(found.values())) > 1:
            effects[before, after], spreads[before, after] = found, np.ptp(known)
    if not spreads:
        return None
    pair = max(spreads, key=spreads.__getitem__)
    cells = y.groupby(level=[factor, other]).mean().to_dict()
    return Interaction(factor, other, row, *pair, effects[pair], cells)
