"""Analysis of variance of a grid: sums of squares of type 2, for complete, unbalanced and partly failed grids alike.

A term's sum of squares is the drop in the residual when it joins a model of all terms that do not contain it (Yates
1934; "type 2"), tested against the residual of the model with every term. Degrees of freedom are differences of ranks,
so a missing cell costs the degrees it must, where ``statsmodels.stats.anova.anova_lm(typ=2)``, which gives the same
table where no cell is missing, counts too many.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import fdtrc

from cnnbench.analysis.statistics import ALPHA, holm, is_rounding_error

Term = tuple[str, ...]  # one factor, or two that interact
Levels = Mapping[str, Sequence[str]]
RCOND = 1e-10  # singular values below this share of the largest are zero: the design's entries are 0 and 1


@dataclass(frozen=True)
class AnovaRow:
    """A term of the table."""

    term: Term
    sum_of_squares: float
    df: int
    f: float | None  # None where the term or the residual has no degrees of freedom, or the residual no spread
    p_raw: float | None
    partial_eta_squared: float | None  # share explained of what the other terms leave; None where they leave nothing
    p: float | None  # Holm's over the table's terms

    @property
    def is_shown(self) -> bool:
        """Whether the corrected p-value says that the term has an effect."""
        return self.p is not None and self.p < ALPHA


class LinearModel:
    """Treatment-coded factors, the reference level first, fitted to ``y`` by ordinary least squares; ``residual``, ``df`` and
    ``variance`` are the residual's sum of squares, degrees of freedom and mean square (None without spread or df)."""

    def __init__(self, levels: Levels, observations: pd.DataFrame, y: NDArray, terms: Sequence[Term]) -> None:
        self.levels, self.terms = levels, terms
        self.matrix = self._columns({f: observations[f].to_numpy()[:, None] == names for f, names in levels.items()})
        self.inverse = np.linalg.pinv(self.matrix, rcond=RCOND)
        self.centre = mean(y.tolist())  # fitted apart, so that equal observations leave no rounding errors
        self.coefficients, _, rank, _ = np.linalg.lstsq(self.matrix, y - self.centre, rcond=RCOND)
        errors = y - self.centre - self.matrix @ self.coefficients
        self.residual = 0.0 if is_rounding_error(np.abs(errors).max(), y) else float(errors @ errors)
        self.df = len(y) - int(rank)
        self.variance = self.residual / self.df if self.df > 0 and self.residual > 0 else None

    def _columns(self, membership: Mapping[str, NDArray]) -> NDArray:
        """The design matrix from each factor's (observations, levels) membership."""
        intercept = np.ones((len(next(iter(membership.values()))), 1))
        blocks = [intercept]
        for term in self.terms:
            block = intercept
            for factor in term:
                block = (block[:, :, None] * membership[factor][:, None, 1:]).reshape(len(intercept), -1)
            blocks.append(block)
        return np.concatenate(blocks, axis=1)

    def point(self, fixed: Mapping[str, str]) -> NDArray:
        """The design row at the ``fixed`` levels, all others averaged with equal weight."""
        return self._columns({
            factor: np.array([[name == fixed[factor] if factor in fixed else 1 / len(names) for name in names]])
            for factor, names in self.levels.items()
        })[0]  # fmt: skip

    def estimate(self, contrast: NDArray) -> float | None:
        """Of a point or a difference of two; None where it cannot be estimated (its cells are missing)."""
        if not np.allclose(contrast @ self.inverse @ self.matrix, contrast, atol=1e-6):
            return None
        return float(contrast @ self.coefficients + contrast[0] * self.centre)


class AnovaTable(NamedTuple):
    """The terms and the models that they come from."""

    rows: list[AnovaRow]
    full: LinearModel  # with every term
    additive: LinearModel  # with main effects alone; the same where there are too few runs for interactions


def fit_anova(levels: Levels, given: pd.DataFrame, y: Sequence[float], alone: Collection[str] = ()) -> AnovaTable:
    """The table for ``y`` at the levels ``given`` (a column a factor); factors in ``alone`` have a main effect only."""
    fit = partial(LinearModel, levels, given, np.asarray(y, dtype=float))
    mains: list[Term] = [(factor,) for factor in levels]
    pairs: list[Term] = list(combinations([factor for factor in levels if factor not in alone], 2))
    additive, full = fit(mains), fit([*mains, *pairs])
    full = full if pairs and full.df > 0 else additive  # else nothing is left to judge the interactions by
    rows = []
    for term in full.terms:
        others = [other for other in full.terms if not set(term) <= set(other)]
        without, joined = fit(others), fit([*others, term])
        squares, df = max(0.0, without.residual - joined.residual), without.df - joined.df
        eta = squares / (squares + full.residual) if squares + full.residual > 0 else None
        f = None if df < 1 or full.variance is None else squares / df / full.variance
        p = None if f is None else float(fdtrc(df, full.df, f))
        rows.append((term, squares, df, f, p, eta))
    adjusted = holm([p for *_, p, _ in rows])
    return AnovaTable([AnovaRow(*row, p=p) for row, p in zip(rows, adjusted, strict=True)], full, additive)
