"""Factors whose effect is also that of a setting which was not tuned for each of their levels."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

from cnnbench.analysis.anova import AnovaTable
from cnnbench.analysis.grouping import DATA_SETS, Configuration
from cnnbench.analysis.statistics import ALPHA, t_quantile
from cnnbench.config.settings import show

TUNED = ("optimizer", "scheduler")  # groups whose keys one tunes: optimizer.lr, optimizer.weight_decay, scheduler.gamma
RATE = ("optimizer", "optimizer.lr")  # a factor that should not be compared at one value of its key


class Together(NamedTuple):
    """A factor with a key of its choices: one value each, or values that do not link the choices."""

    factor: str
    key: str
    values: Mapping[str, list[str]]  # of the key, by level of the factor


class Crossing(NamedTuple):
    """Two levels of a factor of which either is better somewhere, as another setting says."""

    factor: str
    key: str
    before: str
    after: str
    effects: Mapping[str, float]  # from before to after, by level of the key


def find_together(
    configurations: Sequence[Configuration], factors: Sequence[str], merged: Collection[str], tuned: Collection[str]
) -> list[Together]:
    """Factors that vary together with a key.

    Args:
        merged: keys that had to be made a part of their group's choice, because the runs do not separate the two.
        tuned: keys of which each configuration has its best value.
    """
    found = []
    for factor, key in dict.fromkeys([RATE, *((key.split(".")[0], key) for key in merged)]):
        values: dict[str, dict[str, None]] = {}
        for c in configurations if factor in factors and factor in TUNED and key not in tuned else ():
            known = [show(run.settings[key]) for run in c.runs if key in run.settings]
            values.setdefault(show(c.values.get(factor)), {}).update(dict.fromkeys(known))
        if len(values) > 1 and (key in merged or all(len(of) == 1 for of in values.values())):
            found.append(Together(factor, key, {level: list(of) for level, of in values.items()}))
    return found


def find_crossings(table: AnovaTable) -> list[Crossing]:
    """For each shown interaction of a factor with a key that one tunes, the two levels that differ most clearly in both
    directions, if any do: both extremes are beyond a t test's threshold, corrected for the levels of the key (after Gail
    and Simon 1985)."""
    model, variance = table.full, table.full.variance
    found = []
    shown = [row.term for row in table.rows if len(row.term) == 2 and row.is_shown]
    for factor, key in (order for term in shown for order in permutations(term)):
        if variance is None or not _is_tunable(key) or _is_tunable(factor) or factor in DATA_SETS:
            continue
        crossings = {}
        threshold = t_quantile(1 - ALPHA / 2 / len(model.levels[key]), model.df)
        for before, after in combinations(model.levels[factor], 2):
            effects, t = {}, []
            for level in model.levels[key]:
                contrast = model.point({factor: after, key: level}) - model.point({factor: before, key: level})
                if (value := model.estimate(contrast)) is not None:
                    effects[level] = value
                    t.append(value / model.standard_error(contrast, variance))
            if t and (clear := min(max(t), -min(t))) > threshold:
                crossings[clear] = Crossing(factor, key, before, after, effects)
        found += [crossings[max(crossings)]] if crossings else []
    return found


def _is_tunable(key: str) -> bool:
    return "." in key and key.split(".")[0] in TUNED
