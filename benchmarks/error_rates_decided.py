"""How often ``sweep.until=decided`` errs, and what it saves against a grid of as many seeds, by simulation.

    python -m benchmarks.error_rates_decided            # 2,000 repetitions each, a few seconds

Made-up runs are normal with a standard deviation of 0.5 points, independent also where they share a seed.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t, ttest_rel

from cnnbench.analysis.sequential import FEWEST, level
from cnnbench.analysis.statistics import ALPHA, holm

REPETITIONS, SD, PRACTICAL, MOST = 2000, 0.5, 0.5, 20
UNDECIDED, BETTER, WORSE, SAME = range(4)


class Simulated(NamedTuple):
    """What became of each repetition."""

    pairs: list[tuple[int, int]]
    decisions: NDArray  # (R, pairs): of the first configuration of each
    seeds: NDArray  # (R, configurations)
    out: NDArray  # (R, configurations): whether it was dropped


def draw(means: tuple[float, ...], repetitions: int = REPETITIONS, seed: int = 0) -> NDArray:
    """Made-up runs, (R, configurations, MOST)."""
    noise = np.random.default_rng(seed).standard_normal((repetitions, len(means), MOST))
    return np.array(means)[:, None] + SD * noise


def until_decided(runs: NDArray, practical: float = PRACTICAL) -> Simulated:
    """The rule of ``cnnbench.analysis.sequential`` on all repetitions at once, where higher is better."""
    repetitions, count, most = runs.shape
    looks, pairs = tuple(range(FEWEST, most + 1)), [*combinations(range(count), 2)]
    one, other = np.array(pairs).T
    decisions = np.zeros((repetitions, len(pairs)), int)
    seeds, out = np.full((repetitions, count), FEWEST), np.zeros((repetitions, count), bool)
    for n in looks:
        differences = runs[:, one, :n] - runs[:, other, :n]
        mean, error = differences.mean(axis=2), differences.std(axis=2, ddof=1) / n**0.5
        alpha = ALPHA / len(pairs)
        same = np.abs(mean) + t.ppf(1 - level(n, looks, alpha, one_sided=True), n - 1) * error < practical
        differs = np.abs(mean) > t.ppf(1 - level(n, looks, alpha) / 2, n - 1) * error
        found = np.where(same, SAME, np.where(differs, np.where(mean > 0, BETTER, WORSE), UNDECIDED))
        is_open = (decisions == UNDECIDED) & ~out[:, one] & ~out[:, other]
        decisions = np.where(is_open, found, decisions)
        for pair, (first, second) in enumerate(pairs):
            out[:, second] |= decisions[:, pair] == BETTER
            out[:, first] |= decisions[:, pair] == WORSE
        is_open = (decisions == UNDECIDED) & ~out[:, one] & ~out[:, other]
        for pair, both in enumerate(pairs):
            for configuration in both if n < most else ():
                seeds[is_open[:, pair], configuration] = n + 1
    return Simulated(pairs, decisions, seeds, out)


def fixed_grid_shows_best(runs: NDArray) -> float:
    """How often a grid of all seeds shows the first to be better than each other, by paired t tests and Holm's method."""
    pairs = [*combinations(range(runs.shape[1]), 2)]
    tests = [ttest_rel(runs[:, one], runs[:, other], axis=1) for one, other in pairs]
    adjusted = np.array([holm(list(p)) for p in np.array([test.pvalue for test in tests]).T])
    wanted = [at for at, (one, _) in enumerate(pairs) if one == 0]
    better = np.array([tests[at].statistic > 0 for at in wanted]).T
    return float((better & (adjusted[:, wanted] < ALPHA)).all(axis=1).mean())


def main() -> None:
    """Print the tables."""
    print(f"{REPETITIONS} repetitions, sd {SD}, practical {PRACTICAL}, looks at {FEWEST} to {MOST} seeds\n")
    print("a wrong decision anywhere, at most 0.05:")
    for count in (2, 4):
        found = until_decided(draw((0.0,) * count)).decisions
        print(
            f"  {count} equal, 'better' or 'worse':            {np.isin(found, (BETTER, WORSE)).any(axis=1).mean():.4f}"
        )
        found = until_decided(draw(tuple(PRACTICAL * at for at in range(count)))).decisions
        print(f"  {count} that are {PRACTICAL} apart, 'practically the same': {(found == SAME).any(axis=1).mean():.4f}")
    print("\none is better than the others, which are equal; 'shown': than all of them")
    print("configurations  difference  shown  runs  of  saved  | shown by a grid of all seeds")
    for count in (2, 4):
        for difference in (0.0, 0.5, 1.0, 2.0):
            runs = draw((difference, *[0.0] * (count - 1)), seed=1)
            end = until_decided(runs)
            shown = (end.out[:, 1:].all(axis=1) & ~end.out[:, 0]).mean()
            used, all_seeds = end.seeds.sum(axis=1).mean(), count * MOST
            same = f"  (all pairs the same: {(end.decisions == SAME).all(axis=1).mean():.3f})" if not difference else ""
            print(f"{count:14}  {difference:10}  {shown:.3f}  {used:4.1f}  {all_seeds}  {1 - used / all_seeds:5.0%}  | "
                  f"{fixed_grid_shows_best(runs):.3f}{same}")  # fmt: skip


if __name__ == "__main__":
    main()
