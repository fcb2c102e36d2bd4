"""Ordinary (or weighted) least squares on a design, from sums over blocks of rows.

The first reading of the rows gives X'X and X'y, and with them the coefficients; a second one gives what
robust covariances are made of. Columns are of the size of 1 and the target is centred, so that sums of
products lose nothing that matters.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.regression.algebra import inverse, solve
from hypsae_ray.stats.regression.collinear import find_independent
from hypsae_ray.stats.regression.covariance import Covariance, Scored, clustered, hc3
from hypsae_ray.stats.regression.design import Design
from hypsae_ray.stats.regression.estimates import Fit, no_fit, wald

CovType = Literal["HC3", "cluster", "nonrobust"]
_ERRORS = {"HC3": "HC3", "cluster": "cluster-robust", "nonrobust": "classical"}


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
    """Fit the target on all columns of a design.

    Args:
        design: rows and columns.
        moments: of all its rows.
        cov_type: covariance of the coefficients.

    Returns:
        A Fit with metric r2: the share of variance explained (of the variance within levels, where fixed
        effects are absorbed).
    """
    independent = find_independent(moments.gram, design.names, moments.weight)
    kept = np.array(independent.kept, dtype=np.int64)
    absorbed = design.levels.df if design.levels is not None else 0
    if problem := impossible(moments, len(kept) + absorbed):
        return no_fit(independent.dropped | {int(j): problem for j in kept}, problem, "OLS", "identity")
    bread = inverse(moments.gram[np.ix_(kept, kept)])
    coefficients = solve(moments.gram[np.ix_(kept, kept)], moments.cross[kept])
    reduced = design.keep(kept)
    unexplained = max(moments.square - float(coefficients @ moments.cross[kept]), 0.0)
    df = moments.n - len(kept) - absorbed
    notes: list[str] = []
    if cov_type == "cluster":
        covariance = _clustered(reduced, coefficients, bread)
    elif cov_type == "nonrobust":
        covariance = Covariance(bread * unexplained / df, np.full(len(kept), float(df)))
    elif design.sample.effects is None or design.sample.effects.shape[1] < 2:
        covariance = hc3(_scored(reduced, coefficients), bread, float(df))
    else:
        covariance = _hc1(reduced, coefficients, bread, df)
        notes = ["errors are HC1, not HC3: with several sets of fixed effects a row's leverage is not known"]
    return Fit(
        kept,
        wald(coefficients, covariance).scaled(1 / reduced.scale),
        "OLS",
        "identity",
        _ERRORS[cov_type],
        independent.dropped,
        covariance.unsure(kept),
        metrics={"r2": 1 - unexplained / variation(design, moments)},
        notes=notes,
        effective=covariance.effective,
    )


def variation(design: Design, moments: Moments) -> float:
    """Return the target's sum of squares around its mean, or around the means of absorbed levels."""
    return moments.square - (moments.total**2 / moments.weight if design.levels is None else 0.0)


def impossible(moments: Moments, n_coefficients: int) -> str:
    """Return why a model of so many coefficients cannot be fitted; empty if it can."""
    if moments.n <= n_coefficients:
        return f"{moments.n} complete rows are too few for {n_coefficients} coefficients"
    spread = moments.square - moments.total**2 / moments.weight
    return "" if spread > 1e-12 * moments.square else "the target has one value only"


def _scored(design: Design, coefficients: Floats) -> Iterator[Scored]:
    for rows in design.rows():
        residual = rows.w * (rows.y - rows.X @ coefficients)
        yield Scored(rows.X, residual, rows.w, rows.leverage, design.groups(rows))


def _clustered(design: Design, coefficients: Floats, bread: Floats) -> Covariance:
    levels = design.levels
    # Levels that lie within groups use up no information between groups (Cameron and Miller 2015).
    absorbed = levels.df if levels is not None and not levels.nested else 0
    parts = partial(_scored, design, coefficients)
    return clustered(parts, bread, design.sample.n_groups, len(coefficients) + absorbed)


def _hc1(design: Design, coefficients: Floats, bread: Floats, df: int) -> Covariance:
    meat = np.zeros_like(bread)
    for part in _scored(design, coefficients):
        scores = part.X * part.residual[:, None]
        meat += scores.T @ scores
    return Covariance(design.n / df * bread @ meat @ bread, np.full(len(bread), float(df)))
