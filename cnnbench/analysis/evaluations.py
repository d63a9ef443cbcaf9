"""Settings that change the evaluation and not the training, such as test-time augmentation: which they are, what they do.

As observations of their own, runs that differ in nothing else would make a few trainings look like many.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple, cast

from cnnbench.analysis.grouping import CONTEXT, Configuration, cell_of
from cnnbench.analysis.metric_names import MISSING
from cnnbench.analysis.runs import Run, overlap_of
from cnnbench.analysis.statistics import compare, holm
from cnnbench.analysis.wording import sentences
from cnnbench.config.settings import short_names, show

OFF = ("none", "null", "false", "off", "no", "[]", MISSING)  # first among a factor's levels
Measured = Sequence[tuple[Configuration, Run]]
# Of a training: the levels of the factors with the seed (of an unknown one the path), and the split
Training = tuple[tuple[tuple[str, ...], Any], Any]


class Evaluations(NamedTuple):
    """Factors that change no training."""

    factors: list[str]  # every training was evaluated with all of their levels, so that a mean over them favours none
    partial: list[str]  # only some trainings were, and such a mean would favour some


def levels_of(configuration: Configuration, factors: Sequence[str]) -> tuple[str, ...]:
    """Its level of each factor, as it is shown."""
    return tuple(show(configuration.values[f]) if f in configuration.values else MISSING for f in factors)


def training_of(configuration: Configuration, run: Run, factors: Sequence[str]) -> Training:
    """What is equal of the runs of one training, where ``factors`` are all that change it."""
    return (levels_of(configuration, factors), run.path if run.seed is None else run.seed), run.split


def find_evaluations(measured: Measured, factors: Sequence[str]) -> Evaluations:
    """The factors, or choices with their keys, of which runs that differ in nothing else have the same training losses."""
    losses = [tuple(run.series("train/loss")) for _, run in measured]

    def examine(several: Sequence[str]) -> tuple[bool, bool]:
        """Whether these change no training, and whether every training has all of their levels."""
        rest = [f for f in factors if f not in several]
        seen: dict[Any, set[Any]] = defaultdict(set)
        levels: dict[Any, set[Any]] = defaultdict(set)
        for (c, run), of in zip(measured, losses, strict=True):
            training = cell_of(c.values, rest), run.seed, run.split
            seen[training].add(of)
            levels[training].add(cell_of(c.values, several))
        is_same = all(len(of) == 1 and any(next(iter(of))) for of in seen.values())
        return is_same and any(len(of) > 1 for of in levels.values()), len({*map(frozenset, levels.values())}) == 1

    known = [factor for factor in factors if factor not in CONTEXT]
    choices = [[f for f in known if f.split(".")[0] == factor] for factor in known if "." not in factor]
    same = [several for several in [*choices, *([factor] for factor in known)] if examine(several)[0]]
    together = list(dict.fromkeys(factor for several in same for factor in several))
    found = [f for several in [together, *same] if several and examine(several) == (True, True) for f in several]
    return Evaluations(list(dict.fromkeys(found)), [factor for factor in together if factor not in found])


def compare_evaluations(
    measured: Measured, alike: Sequence[str], factors: Sequence[str], metric: str, reference: Configuration | None
) -> list[str]:
    """A sentence for each level of the factors ``alike``, a choice with its keys as one, against that of the reference or
    else the one that means "off": paired by training, of which ``factors`` are what else varies."""
    told, short = [], short_names([*factors, *alike])
    for first in [f for f in alike if f.split(".")[0] not in alike or "." not in f]:
        several = [f for f in alike if f == first or f.startswith(f"{first}.")]
        values: dict[tuple[str, ...], dict[Training, list[float]]] = {}
        for c, run in measured:
            by_training = values.setdefault(levels_of(c, several), {})
            by_training.setdefault(training_of(c, run, factors), []).append(cast(float, run.value(metric)))
        own = levels_of(reference, several) if reference is not None else None
        before, *others = sorted(values, key=lambda of: (of != own, of[0].lower() not in OFF, of))
        means = {level: {key: fmean(of) for key, of in values[level].items()} for level in values}
        overlap = overlap_of([run for _, run in measured])
        found = [compare(means[level], means[before], overlap) for level in others]
        names = {level: " ".join(f"{short[f]}={v}" for f, v in zip(several, level, strict=True) if v != MISSING)
                 for level in values}  # fmt: skip
        for level, difference, p in zip(others, found, holm([one.p for one in found]), strict=True):
            told += sentences("evaluation", names[level], names[before], difference, p, metric)
    return told
