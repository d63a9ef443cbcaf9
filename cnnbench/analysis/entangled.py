"""Factors whose effect is also that of a setting which was not tuned for each of their levels."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cnnbench.analysis.grouping import Configuration
from cnnbench.config.settings import show

TUNED = ("optimizer", "scheduler")  # groups whose keys one tunes: optimizer.lr, optimizer.weight_decay, scheduler.gamma
RATE = ("optimizer", "optimizer.lr")  # a factor that should not be compared at one value of its key


class Together(NamedTuple):
    """A factor with a key of its choices: one value each, or values that do not link the choices."""

    factor: str
    key: str
    values: Mapping[str, list[str]]  # of the key, by level of the factor


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
