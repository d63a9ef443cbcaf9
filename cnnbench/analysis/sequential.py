"""Decide pairs of configurations while seeds are added, so that looking after each round keeps the error at 5 %.

The t statistics of 3, 4, 5, ... pairs of runs have a joint distribution that depends on no unknown. So the level of each
look, at which the chance that any look errs is 5 %, is found by simulation: intervals that hold at all looks together
(Jennison and Turnbull 1989, "Interim analyses: the repeated confidence interval approach"). The level grows with the number
of pairs, as between Pocock's (1977) constant one and O'Brien and Fleming's (1979): a t test of three pairs shows little at
any level. Bonferroni's correction over all pairs that are asked for at the start allows for leaving some out later.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnbench.analysis.statistics import ALPHA, finite_values, is_rounding_error, summarise, t_quantile, to_number
from cnnbench.utils.record import read_json

DECIDED_FILE = "decided.json"  # in the folder of a sweep with sweep.until=decided
Decision = Literal["better", "worse", "practically the same", "undecided"]
DRAWS, FEWEST_DRAWS = 100_000, 50  # simulated; of which so many must be beyond a level to tell it
FEWEST = 3  # seeds at the first look


@lru_cache
def _smallest_p(looks: tuple[int, ...]) -> NDArray:
    """Of made-up pairs without a difference the smallest p/n over the looks, (DRAWS,)."""
    from scipy.special import stdtr

    pairs = np.random.default_rng(0).standard_normal((DRAWS, max(looks)))
    sums, squares, smallest = pairs.cumsum(axis=1), (pairs**2).cumsum(axis=1), np.ones(DRAWS)
    for n in looks:
        total, square = sums[:, n - 1], squares[:, n - 1]
        t = total / np.sqrt(n * (square - total**2 / n) / (n - 1))
        np.minimum(smallest, 2 * stdtr(n - 1, -np.abs(t)) / n, out=smallest)
    return smallest


def level(n: int, looks: tuple[int, ...], alpha: float = ALPHA) -> float:
    """The level of a two-sided t test of ``n`` pairs at which any of all ``looks`` errs with a chance of ``alpha``.

    >>> round(level(5, looks=(5,)), 3)  # one look
    0.05
    """
    bonferroni, is_known = alpha / sum(looks), alpha * DRAWS >= FEWEST_DRAWS and len(looks) > 1
    return n * (max(float(np.quantile(_smallest_p(looks), alpha)), bonferroni) if is_known else bonferroni)


class Judgement(NamedTuple):
    """What a look says of a pair."""

    n: int = 0  # seeds that both have completed
    difference: float | None = None
    low: float | None = None  # 95 % interval at all looks; of "practically the same" 90 %, of its one-sided tests
    high: float | None = None
    decision: Decision = "undecided"


class Decisions:
    """The pairs that are asked for: each configuration with the ``baseline``, or without one all pairs, of which a
    configuration that is worse than another is dropped.

    Args:
        looks: numbers of seeds.
        practical: the largest difference that does not matter, in the metric's unit.

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
        self.looks, self.practical, self.higher_is_better = tuple(looks), practical, higher_is_better
        self.drops = baseline is None
        self.dropped: set[str] = set()  # worse than another, or without a completed run

    @property
    def open(self) -> list[tuple[str, str]]:
        """The pairs that are neither decided nor have a configuration that was dropped."""
        return [p for p, it in self.pairs.items() if it.decision == "undecided" and self.dropped.isdisjoint(p)]

    @property
    def active(self) -> list[str]:
        """The configurations that need more seeds."""
        return [*dict.fromkeys(name for pair in self.open for name in pair)]

    def look(self, values: Mapping[str, Mapping[int, float | None]]) -> None:
        """Judge the open pairs by the values of all seeds so far, ``{configuration: {seed: value}}``."""
        self.dropped |= {name for name in self.active if not finite_values(values[name].values())}
        for one, other in self.open:
            both = [(values[one][seed], values[other].get(seed)) for seed in values[one]]
            judged = self.judge([a - b for a, b in both if a is not None and b is not None])
            self.pairs[one, other] = judged
            if self.drops and judged.decision in ("better", "worse"):
                self.dropped.add(one if judged.decision == "worse" else other)

    def judge(self, differences: Sequence[float | None]) -> Judgement:
        """What the differences, seed by seed, say: "practically the same" by two one-sided tests (Schuirmann 1987)."""
        sample = finite_values(differences)
        n, mean, std, *_ = summarise(sample)
        if mean is None or not std or is_rounding_error(max(sample) - min(sample), sample) or n not in self.looks:
            return Judgement(n, mean)
        alpha, error = ALPHA / len(self.pairs), std / n**0.5
        half, narrow = (t_quantile(n - 1, level(n, self.looks, a)) * error for a in (alpha, 2 * alpha))
        if abs(mean) + narrow < self.practical:
            return Judgement(n, mean, mean - narrow, mean + narrow, "practically the same")
        word: Decision = "better" if (mean > 0) == self.higher_is_better else "worse"
        return Judgement(n, mean, mean - half, mean + half, word if abs(mean) > half else "undecided")


class DecidedSweep(NamedTuple):
    """The rule, what it has decided so far, and what a reader must know of it."""

    rule: dict[str, Any]
    metric: str
    pairs: list[tuple[str, str, Judgement]]
    caption: str
    notes: list[str]


def read_decided(folders: Iterable[Path]) -> list[DecidedSweep]:
    """The decided sweeps in these folders; one whose file cannot be read is left out."""
    sweeps = []
    for folder in sorted(set(folders)):
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            data = read_json(folder / DECIDED_FILE)
            pairs = [(str(one), str(other), Judgement(int(n), *map(to_number, limits), str(decision)))  # type: ignore
                     for one, other, n, *limits, decision in data["pairs"]]  # fmt: skip
            rule, (caption, *notes) = data["rule"], map(str, data["told"])
            sweeps.append(DecidedSweep(rule, str(rule["metric"]), pairs, caption, notes))
    return sweeps
