"""How often equal configurations are called different, when each is the best of several tries, and over all pairs.

    python -m benchmarks.error_rates_choice

Every try of every configuration is equally good in truth. A run's validation and test accuracy share what its training
came to, and each has a deviation of its own from its finite set of images; all in points.
"""

import argparse
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from cnnbench.analysis.statistics import ALPHA

SEEDS = 5
TRAINING, VALIDATION, TEST = 0.5, 0.6, 0.3  # standard deviations: of training, of 1,000 and of 4,000 images at 96 %
TRIES = ((5, 5), (5, 2), (5, 1))
CONFIGURATIONS = 6


class Choice(NamedTuple):
    """What came of choosing each configuration's best try."""

    different: float  # share of comparisons by the paired t test with p below 0.05
    better: float  # share in which the configuration with more tries, or the first, is the better one
    optimism: float  # of the chosen mean of validation, over the truth
    test: float  # of the chosen mean of test


def p_values(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two-sided, of the paired t test; ``differences`` is (..., seeds)."""
    seeds = differences.shape[-1]
    t = differences.mean(axis=-1) / (differences.std(axis=-1, ddof=1) / np.sqrt(seeds))
    return 2 * stdtr(seeds - 1, -abs(t))


def runs(random: np.random.Generator, *shape: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Validation and test accuracy of equally good runs, less the truth, ``shape`` each."""
    trained = random.normal(0, TRAINING, shape)
    return trained + random.normal(0, VALIDATION, shape), trained + random.normal(0, TEST, shape)


def choose(tries: tuple[int, int], by: str, repetitions: int, random: np.random.Generator) -> Choice:
    """Compare the test accuracy of the best of so many tries of two configurations, chosen by ``val`` or ``test``."""
    chosen, optimism = [], 0.0
    for count in tries:
        val, test = runs(random, repetitions, count, SEEDS)
        best = (val if by == "val" else test).mean(axis=-1).argmax(axis=-1)
        chosen.append(test[np.arange(repetitions), best])
        optimism = optimism or float(val[np.arange(repetitions), best].mean())
    difference = chosen[0] - chosen[1]
    called = p_values(difference) < ALPHA
    better = called & (difference.mean(axis=-1) > 0)
    return Choice(float(called.mean()), float(better.mean()), optimism, float(chosen[0].mean()))


def any_false_pair(repetitions: int, random: np.random.Generator, corrected: bool = True) -> float:
    """The share of reports on equal configurations with any pair called different, by Holm's method or uncorrected."""
    _, test = runs(random, repetitions, CONFIGURATIONS, SEEDS)
    row, column = np.triu_indices(CONFIGURATIONS, 1)
    smallest = p_values(test[:, row] - test[:, column]).min(axis=-1)  # Holm's method begins with it
    return float((smallest * (len(row) if corrected else 1) < ALPHA).mean())


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=100_000)
    repetitions, random = parser.parse_args().repetitions, np.random.default_rng(0)
    print("tries    chosen by  called different  the first better  optimism of val  of test")
    for tries in TRIES:
        for by in ("val", "test"):
            found = choose(tries, by, repetitions, random)
            print(f"{tries[0]} and {tries[1]}  {by:<9}  {found.different:16.1%}  {found.better:16.1%}  "
                  f"{found.optimism:+15.2f}  {found.test:+7.2f}")  # fmt: skip
    for corrected in (True, False):
        rate = any_false_pair(repetitions, random, corrected)
        print(f"{CONFIGURATIONS} equal configurations, all pairs, {'Holm' if corrected else 'uncorrected'}: "
              f"any called different in {rate:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
