"""Decide pairs of configurations while seeds are added, so that looking after each round keeps the error at 5 %.

The t statistics of 3, 4, 5, ... pairs of runs have a joint distribution that depends on no unknown. So the level of each
look, at which the chance that any look errs is 5 %, is found by simulation: intervals that hold at all looks together
(Jennison and Turnbull 1989, "Interim analyses: the repeated confidence interval approach"). The level grows with the number
of pairs, as between Pocock's (1977) constant one and O'Brien and Fleming's (1979): a t test of three pairs shows little at
any level. Bonferroni's correction over all pairs that are asked for at the start allows for leaving some out later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnbench.analysis.statistics import ALPHA, finite_values, is_rounding_error, summarise, t_quantile

Decision = Literal["better", "worse", "practically the same", "undecided"]
Values = Mapping[str, Mapping[int, float | None]]  # {configuration: {seed: value}}
DRAWS, FEWEST_DRAWS = 100_000, 50  # simulated; of which so many must be beyond a level to tell it
FEWEST = 3  # seeds at the first look


@lru_cache
def _smallest_p(looks: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """Of made-up pairs without a difference the smallest p/n over the looks, (DRAWS,): two-sided, and one-sided."""
    from scipy.special import stdtr

    pairs = np.random.default_rng(0).standard_normal((DRAWS, max(looks)))
    sums, squares = pairs.cumsum(axis=1), (pairs**2).cumsum(axis=1)
    two, one = np.ones(DRAWS), np.ones(DRAWS)
    for n in looks:
        mean = sums[:, n - 1] / n
        t = mean / np.sqrt((squares[:, n - 1] - n * mean**2) / (n - 1) / n)
        tail = stdtr(n - 1, -np.abs(t))
        np.minimum(two, 2 * tail / n, out=two)
        np.minimum(one, np.where(t > 0, tail, 1 - tail) / n, out=one)
    return two, one


def level(n: int, looks: tuple[int, ...], alpha: float = ALPHA, one_sided: bool = False) -> float:
    """The level of a t test of ``n`` pairs at which any of all ``looks`` rejects what is true with a chance of ``alpha``.

    >>> round(level(5, looks=(5,)), 3)  # one look
    0.05
    """
    if len(looks) == 1:
        return alpha
    bonferroni = alpha / sum(looks)  # over the looks
    if alpha * DRAWS < FEWEST_DRAWS:
        return n * bonferroni
    return n * max(float(np.quantile(_smallest_p(looks)[one_sided], alpha)), bonferroni)


@dataclass(frozen=True)
class Rule:
    """When a pair of configurations is decided."""

    looks: tuple[int, ...]  # numbers of seeds
    pairs: int  # that are asked for
    practical: float  # the largest difference that does not matter, in the metric's unit
    higher_is_better: bool = True

    def judge(self, differences: Sequence[float | None]) -> "Judgement":
        """What the differences, seed by seed, say: "practically the same" by two one-sided tests (Schuirmann 1987)."""
        sample = finite_values(differences)
        summary = summarise(sample)
        n, mean, std = summary.n, summary.mean, summary.std
        if mean is None or not std or is_rounding_error(max(sample) - min(sample), sample) or n not in self.looks:
            return Judgement(n, mean)
        alpha, error = ALPHA / self.pairs, std / n**0.5
        same = t_quantile(1 - level(n, self.looks, alpha, one_sided=True), n - 1) * error
        if abs(mean) + same < self.practical:
            return Judgement(n, mean, mean - same, mean + same, "practically the same")
        half = t_quantile(1 - level(n, self.looks, alpha) / 2, n - 1) * error
        if abs(mean) <= half:
            return Judgement(n, mean, mean - half, mean + half)
        word: Decision = "better" if (mean > 0) == self.higher_is_better else "worse"
        return Judgement(n, mean, mean - half, mean + half, word)


class Judgement(NamedTuple):
    """What a look says of a pair."""

    n: int = 0  # seeds that both have completed
    difference: float | None = None
    low: float | None = None  # 95 % interval at all looks; of "practically the same" 90 %, of its one-sided tests
    high: float | None = None
    decision: Decision = "undecided"


class Decisions:
    """The pairs that are asked for, look by look: each configuration with the ``baseline``, or without one all pairs, of
    which a configuration that is worse than another is dropped.

    >>> decisions = Decisions(["a", "b"], looks=range(3, 21), practical=0.5)
    >>> decisions.look({"a": {0: 98.0, 1: 98.2, 2: 97.9}, "b": {0: 81.0, 1: 81.3, 2: 80.7}})
    >>> decisions.active
    []
    """

    def __init__(
        self, names: Sequence[str], looks: Sequence[int], practical: float, higher_is_better: bool = True,
        baseline: str | None = None,
    ) -> None:  # fmt: skip
        asked = [(name, baseline) for name in names if name != baseline] if baseline else [*combinations(names, 2)]
        self.pairs: dict[tuple[str, str], Judgement] = dict.fromkeys(asked, Judgement())
        self.rule = Rule(tuple(looks), len(asked), practical, higher_is_better)
        self.drops = baseline is None
        self.dropped: set[str] = set()  # worse than another
        self.failed: set[str] = set()  # without a completed run

    @property
    def open(self) -> list[tuple[str, str]]:
        """The pairs that are neither decided nor have a configuration that was dropped or failed."""
        out = self.dropped | self.failed
        return [pair for pair, it in self.pairs.items() if it.decision == "undecided" and not out & {*pair}]

    @property
    def active(self) -> list[str]:
        """The configurations that need more seeds."""
        return [*dict.fromkeys(name for pair in self.open for name in pair)]

    def look(self, values: Values) -> None:
        """Judge the open pairs by these values, of all seeds so far."""
        self.failed |= {name for name in self.active if not finite_values(values[name].values())}
        for one, other in self.open:
            shared = [seed for seed in values[one] if seed in values[other]]
            both = [(values[one][seed], values[other][seed]) for seed in shared]
            differences = [a - b for a, b in both if a is not None and b is not None]
            self.pairs[one, other] = judged = self.rule.judge(differences)
            if self.drops and judged.decision in ("better", "worse"):
                self.dropped.add(one if judged.decision == "worse" else other)
