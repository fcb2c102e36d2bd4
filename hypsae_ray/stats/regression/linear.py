"""Ordinary (or weighted) least squares on a design, from sums over blocks of rows.

The first reading of the rows gives X'X and X'y, and with them the coefficients; a second one gives what
robust covariances are made of. Columns are of the size of 1 and the target is centred, so that sums of
products lose nothing that matters.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.regression.algebra import inverse, solve
from hypsae_ray.stats.regression.covariance import (
    ROBUST,
    Covariance,
    CovType,
    robust_covariance,
    several_effects,
)
from hypsae_ray.stats.regression.design import Design
from hypsae_ray.stats.regression.estimates import Fit, wald
from hypsae_ray.stats.regression.likelihood import LINEAR


@dataclass(frozen=True)
class Moments:
    """Weighted sums of products.

    Attributes:
        n: rows.
        weight: sum of weights.
        gram: (k, k) of the columns.
        cross: (k,) of columns and target.
        square: of the target with itself.
        total: of the target.
    """

    n: int
    weight: float
    gram: Floats
    cross: Floats
    square: float
    total: float

    def __add__(self, other: "Moments") -> "Moments":
        """Return the sums over the rows of both."""
        return self._with(operator.add, other)

    def __sub__(self, other: "Moments") -> "Moments":
        """Return the sums without those of some of the rows."""
        return self._with(operator.sub, other)

    def _with(self, operation: Callable[[Any, Any], Any], other: "Moments") -> "Moments":
        return Moments(*map(operation, vars(self).values(), vars(other).values()))


def sum_moments(design: Design, parts: Ints | None = None, n_parts: int = 1) -> list[Moments]:
    """Add up the rows of a design, separately for each part (n,) of the sample."""
    k = len(design.kept)
    sums = [Moments(0, 0.0, np.zeros((k, k)), np.zeros(k), 0.0, 0.0)] * n_parts
    for rows in design.rows():
        for part in range(n_parts):
            mine = slice(None) if parts is None else parts[rows.index] == part
            X, y, w = rows.X[mine], rows.y[mine], rows.w[mine]
            weighted = X * w[:, None]
            square, total = float(w @ (y * y)), float(w @ y)
            sums[part] += Moments(len(y), float(w.sum()), weighted.T @ X, weighted.T @ y, square, total)
    return sums


def fit_linear(design: Design, moments: Moments, cov_type: CovType) -> Fit:
    """Fit the target on the columns that a design keeps, which are independent.

    Returns:
        A Fit with metric r2: the share of variance explained (of the variance within levels, where fixed
        effects are absorbed).
    """
    kept = design.kept
    gram, cross = moments.gram[np.ix_(kept, kept)], moments.cross[kept]
    bread, coefficients = inverse(gram), solve(gram, cross)
    unexplained = max(moments.square - float(coefficients @ cross), 0.0)
    df = float(moments.n - len(kept) - (design.levels.df if design.levels is not None else 0))
    notes: list[str] = []
    if cov_type == "nonrobust":
        covariance = Covariance(bread * unexplained / df, np.full(len(kept), df))
    else:
        covariance = robust_covariance(design, LINEAR, coefficients, bread, df, cov_type)
    if cov_type == "HC3" and several_effects(design):
        notes = ["errors are HC1, not HC3: with several sets of fixed effects a row's leverage is not known"]
    return Fit(
        kept,
        wald(coefficients, covariance),
        covariance,
        LINEAR.name,
        LINEAR.link,
        ROBUST.get(cov_type, "classical"),
        metrics={"r2": 1 - unexplained / variation(design, moments)},
        notes=notes,
    )


def variation(design: Design, moments: Moments) -> float:
    """Return the target's sum of squares around its mean, or around the means of absorbed levels."""
    return moments.square - (moments.total**2 / moments.weight if design.levels is None else 0.0)
