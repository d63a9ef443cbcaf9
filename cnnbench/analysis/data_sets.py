"""Configurations over several data sets: ranks and their tests, and the mean of the middle half of the runs.

A data set is a block: values on different ones are not compared, only which configuration is better on each.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import friedmanchisquare, rankdata, trim_mean, wilcoxon

from cnnbench.analysis.grouping import Configuration
from cnnbench.analysis.metric_names import higher_is_better, is_share
from cnnbench.analysis.runs import by_replicate
from cnnbench.analysis.statistics import (
    ALPHA,
    CONFIDENCE,
    Verdict,
    finite_mean,
    holm,
    tukey_quantile,
    verdict,
)

DRAWS = 9_999
MOST_SETTINGS = 24  # with pairs and a diagram


@dataclass(frozen=True)
class Friedman:
    """Whether configurations differ at all."""

    chi_square: float
    f: float  # infinite where all data sets agree
    p: float


@dataclass(frozen=True)
class Pair:
    """A configuration against another by Wilcoxon's signed-rank test."""

    setting: str
    other: str
    better_on: int  # data sets
    worse_on: int
    p: float
    p_holm: float | None
    verdict: Verdict


@dataclass(frozen=True)
class AcrossDataSets:
    """Settings, which are configurations without their data set, with runs on the same data sets, the best rank first."""

    settings: list[str]
    data_sets: list[str]
    means: list[list[float]]  # over seeds, of each setting on each data set
    ranks: list[float]  # mean over the data sets; 1 is the best
    friedman: Friedman | None  # None of two settings
    pairs: list[Pair]  # with the baseline or else of all; none where no p-value could be below 0.05
    pair_count: int
    middle: list[tuple[float, float | None, float | None]]  # interquartile mean and interval; none of what is no share
    left_out: list[str]  # settings and data sets that lack runs

    @property
    def short_names(self) -> list[str]:
        """``mnist`` of ``data=mnist``, ``a.npz`` of a path, where that tells the data sets apart."""
        short = [re.split("[/=]", name.rstrip("/"))[-1] for name in self.data_sets]
        return short if len(set(short)) == len(short) else self.data_sets

    @property
    def least_p(self) -> float:
        """The smallest p-value that so many pairs on so many data sets can have, corrected."""
        return min(1.0, self.pair_count * 2.0 ** (1 - len(self.data_sets)))

    @property
    def data_sets_needed(self) -> int:
        """The fewest data sets of which it is below 0.05."""
        return math.floor(math.log2(self.pair_count / ALPHA)) + 2


def find_across(configurations: Sequence[Configuration], metric: str, baseline: str | None) -> AcrossDataSets | None:
    """Compare settings over data sets by the means over seeds of ``metric``; None where there are no two settings with
    runs on the same two data sets. With ``baseline`` (a setting) the pairs are the others with that one."""
    values: dict[str, dict[str, list[float]]] = {}
    for c in configurations:
        of_each_seed = (finite_mean(run.value(metric) for run in of) for of in by_replicate(c.runs).values())
        if measured := [value for value in of_each_seed if value is not None]:
            values.setdefault(c.setting, {})[c.data_set] = measured

    # The largest table without an empty cell, of equal ones that of the most data sets
    known = list(dict.fromkeys(c.data_set for c in configurations))
    of_each = dict.fromkeys(frozenset(by_set) for by_set in values.values())
    shared = dict.fromkeys([*of_each, *(one & other for one, other in combinations(of_each, 2))])
    tables = [
        ([name for name in known if name in sets], [s for s in values if sets <= values[s].keys()])
        for sets in [*shared, frozenset(known).intersection(*of_each)] if len(sets) > 1
    ]  # fmt: skip
    tables = [(sets, settings) for sets, settings in tables if len(settings) > 1]
    if not tables:
        return None
    data_sets, settings = max(tables, key=lambda table: (len(table[0]) * len(table[1]), len(table[0])))

    # Ranks, and what they show; costs are lower where better
    sign = -1 if higher_is_better(metric) else 1
    costs = sign * np.array([[np.mean(values[s][name]) for name in data_sets] for s in settings])
    ranks = rank(costs).mean(axis=1)
    order = np.argsort(ranks, kind="stable")
    settings, costs = [settings[i] for i in order], costs[order]
    at = settings.index(baseline) if baseline in settings else None
    every = range(len(settings))
    numbers = [(i, at) for i in every if i != at] if at is not None else list(combinations(every, 2))
    found = AcrossDataSets(
        settings, data_sets, (sign * costs).tolist(), ranks[order].tolist(),
        friedman(costs) if len(settings) > 2 else None, [], len(numbers),
        [interquartile_mean([values[s][name] for name in data_sets]) for s in settings] if is_share(metric) else [],
        [name for name in (*values, *known) if name not in (*settings, *data_sets)],
    )  # fmt: skip
    if found.least_p < ALPHA and len(settings) <= MOST_SETTINGS:
        differences = [np.round(costs[one] - costs[other], 12) for one, other in numbers]  # of equal means exactly 0
        p_values = [float(wilcoxon(d).pvalue) if d.any() else 1.0 for d in differences]
        for (one, other), d, p, p_holm in zip(numbers, differences, p_values, holm(p_values), strict=True):
            word = verdict(float(np.sign(d) @ rankdata(np.abs(d))), p_holm, higher_is_better=False)
            sides = int((d < 0).sum()), int((d > 0).sum())
            found.pairs.append(Pair(settings[one], settings[other], *sides, p, p_holm, word))
    return found


def rank(costs: ArrayLike) -> NDArray[np.float64]:
    """Ranks within each data set, 1 the lowest, average ranks for ties; (settings, data sets)."""
    return rankdata(np.round(np.asarray(costs, float), 12), axis=0)


def friedman(costs: ArrayLike) -> Friedman:
    """Test whether the settings of ``costs``, (settings, data sets), differ (Friedman 1937), with the F of Iman and
    Davenport 1980 (Demšar 2006, p. 11). Neither distribution holds for few data sets: the p-value, of both, is that of
    ranks rearranged at random within each data set.

    >>> friedman([[1, 1, 1, 1], [2, 2, 2, 3], [3, 3, 3, 2]]).chi_square
    6.5
    """
    ranks = rank(costs)
    if (ranks == ranks[0]).all():
        return Friedman(0.0, 0.0, 1.0)
    settings, sets = ranks.shape
    chi_square = float(friedmanchisquare(*ranks).statistic)
    rest = sets * (settings - 1) - chi_square
    random, seen = np.random.default_rng(0), (ranks.sum(axis=1) ** 2).sum()
    drawn = [(random.permuted(ranks, axis=0).sum(axis=1) ** 2).sum() for _ in range(DRAWS)]
    p = (1 + sum(squares > seen - 1e-9 for squares in drawn)) / (1 + DRAWS)
    return Friedman(chi_square, (sets - 1) * chi_square / rest if rest > 1e-9 else math.inf, float(p))


def critical_difference(settings: int, data_sets: int) -> float:
    """The difference of two mean ranks from which Nemenyi's test tells them apart at 5% (Demšar 2006, p. 11).

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    return tukey_quantile(settings, math.inf) * math.sqrt(settings * (settings + 1) / (6 * data_sets))


def cliques(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """The first and the last of the longest runs of ``ranks``, ascending, which lie within ``difference``; of two or more.

    >>> cliques([1.0, 1.5, 2.8, 3.0], 1.4)
    [(0, 1), (1, 2), (2, 3)]
    """
    ends = [int(np.searchsorted(ranks, low + difference)) - 1 for low in ranks]
    return [(at, end) for at, end in enumerate(ends) if end > at and (at == 0 or end > ends[at - 1])]


def interquartile_mean(blocks: Sequence[Sequence[float]]) -> tuple[float, float | None, float | None]:
    """The mean of the middle half of all runs of all data sets, ``blocks``, with its 95% percentile interval by a bootstrap
    that draws runs within each data set (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice"). No
    interval where a data set has one run."""
    value = float(trim_mean(np.concatenate(blocks), 0.25))
    if min(map(len, blocks)) < 2:
        return value, None, None
    random = np.random.default_rng(0)
    drawn = [random.choice(block, (DRAWS, len(block))) for block in blocks]
    means = trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return value, low, high
