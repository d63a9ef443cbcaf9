"""Analysis of variance of a grid: sums of squares of type 2, for complete, unbalanced and partly failed grids alike.

A term's sum of squares is the drop in the residual when it joins a model of all terms that do not contain it (Yates
1934; "type 2"), tested against the residual of the model with every term. Degrees of freedom are differences of ranks,
so a missing cell costs the degrees it must, where a formula with one column a level would count too many. Where no cell
is missing the table is that of ``statsmodels.stats.anova.anova_lm(typ=2)``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.analysis.statistics import holm

if TYPE_CHECKING:
    from numpy.typing import NDArray

Term = tuple[str, ...]  # one factor, or two that interact
Levels = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class AnovaRow:
    """A term's line in the table.

    Attributes:
        partial_eta_squared: partial eta squared: of the variation that the other terms leave, the share that this one explains.
        p: Holm's over the table's terms; None where the term or the residual has no degrees of freedom.
    """

    term: Term
    sum_of_squares: float
    df: int
    f: float | None
    p_raw: float | None
    p: float | None
    partial_eta_squared: float | None


@dataclass(frozen=True)
class Estimate:
    """A contrast and its standard error, which is None without a residual; df is the residual's."""

    value: float
    error: float | None


class Design:
    """A linear model with treatment-coded factors, fitted by ordinary least squares (statsmodels).

    Args:
        levels: of each factor, the reference first.
        rows: each observation's level of each factor.
        y: the observations.
        terms: main effects and interactions.
    """

    def __init__(self, levels: Levels, rows: Sequence[Mapping[str, str]], y: NDArray, terms: Sequence[Term]) -> None:
        from statsmodels.regression.linear_model import OLS

        self.levels, self.terms = levels, terms
        codes = {
            factor: np.array([[row[factor] == level for level in names] for row in rows], dtype=float)
            for factor, names in levels.items()
        }
        self.matrix = self.columns(codes, len(rows))
        with warnings.catch_warnings():  # of a deficient rank, which is what missing cells give and is counted below
            warnings.simplefilter("ignore")
            fit = OLS(y, self.matrix).fit(method="pinv")
        self.residual, self.rank = float(fit.ssr), int(fit.model.rank)
        self.df = len(rows) - self.rank
        self.coefficients = np.asarray(fit.params)
        self._inverse = np.asarray(fit.model.pinv_wexog)

    def columns(self, codes: Mapping[str, NDArray], count: int) -> NDArray:
        """Design columns of ``count`` observations from each factor's (count, levels) memberships."""
        blocks = [np.ones((count, 1))]
        for term in self.terms:
            block = np.ones((count, 1))
            for factor in term:
                block = (block[:, :, None] * codes[factor][:, None, 1:]).reshape(count, -1)
            blocks.append(block)
        return np.concatenate(blocks, axis=1)

    def point(self, fixed: Mapping[str, str]) -> NDArray:
        """The design row at the ``fixed`` levels, all others averaged with equal weight."""
        codes = {}
        for factor, names in self.levels.items():
            at = [name == fixed[factor] if factor in fixed else 1 / len(names) for name in names]
            codes[factor] = np.array([at], dtype=float)
        return self.columns(codes, 1)[0]

    def contrast(self, row: NDArray, variance: float | None) -> Estimate | None:
        """``row @ coefficients``, or None where the data cannot tell it (its cells are missing)."""
        if not np.allclose(row @ self._inverse @ self.matrix, row, atol=1e-6):
            return None
        spread = row @ self._inverse
        error = None if variance is None else float(np.sqrt(variance * (spread @ spread)))
        return Estimate(float(row @ self.coefficients), error)


@dataclass(frozen=True)
class AnovaTable:
    """The analysis of variance.

    Attributes:
        full: the model with every term; ``additive`` the one with main effects alone.
        variance: the residual mean square; None where there are no residual degrees of freedom, or no spread.
        interactions: whether two-way interactions are in the model.
    """

    rows: tuple[AnovaRow, ...]
    residual: float
    df: int
    variance: float | None
    full: Design
    additive: Design
    interactions: bool


def fit_anova(
    levels: Levels, rows: Sequence[Mapping[str, str]], y: Sequence[float], alone: Sequence[str] = ()
) -> AnovaTable:
    """The table for observations ``y`` at the factor levels of ``rows``.

    Args:
        levels: two or more of each factor.
        alone: factors that enter as a main effect only.
    """
    observed = np.asarray(y, dtype=float)
    mains: list[Term] = [(factor,) for factor in levels]
    pairs: list[Term] = list(combinations([factor for factor in levels if factor not in alone], 2))
    additive = Design(levels, rows, observed, mains)
    full = Design(levels, rows, observed, [*mains, *pairs]) if pairs else additive
    interactions = bool(pairs)
    if full.df < 1:  # nothing is left to judge the interactions by
        full, pairs, interactions = additive, [], False
    spread = full.residual > 1e-24 * float((observed**2).sum())  # more than rounding leaves
    variance = full.residual / full.df if full.df > 0 and spread else None

    lines = []
    for term in [*mains, *pairs]:
        others = [t for t in [*mains, *pairs] if not set(term) <= set(t)]
        without = Design(levels, rows, observed, others)
        joined = Design(levels, rows, observed, [*others, term])
        lines.append(_line(term, without, joined, full.df, variance, full.residual))
    adjusted = holm([line.p_raw for line in lines])
    lines = [
        AnovaRow(x.term, x.sum_of_squares, x.df, x.f, x.p_raw, p, x.partial_eta_squared)
        for x, p in zip(lines, adjusted, strict=True)
    ]
    return AnovaTable(tuple(lines), full.residual, full.df, variance, full, additive, interactions)


def _line(
    term: Term, without: Design, joined: Design, residual_df: int, variance: float | None, residual: float
) -> AnovaRow:
    from scipy.special import fdtrc

    squares, df = max(0.0, without.residual - joined.residual), joined.rank - without.rank
    eta = squares / (squares + residual) if squares + residual > 0 else None
    if df < 1 or variance is None:
        return AnovaRow(term, squares, df, None, None, None, eta)
    f = squares / df / variance
    p = float(fdtrc(df, residual_df, f))
    return AnovaRow(term, squares, df, f, p, None, eta)
