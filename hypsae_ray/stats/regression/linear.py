"""Ordinary (or weighted) least squares on a design, from sums over blocks of rows.

The first reading of the rows gives X'X and X'y, and with them the coefficients; a second one gives what
robust errors are made of. Columns are of the size of 1 and the target is centred, so that sums of products
lose nothing that matters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.regression.algebra import inverse, solve
from hypsae_ray.stats.regression.covariance import Covariance, Scored, clustered, hc3
from hypsae_ray.stats.regression.design import Design, find_independent
from hypsae_ray.stats.regression.estimates import Estimates, Fit, scaled, unsure, wald

CovType = Literal["HC3", "cluster", "nonrobust"]


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

    def minus(self, other: "Moments") -> "Moments":
        """Return the sums without those of some of the rows."""
        return Moments(
            self.n - other.n,
            self.weight - other.weight,
            self.gram - other.gram,
            self.cross - other.cross,
            self.square - other.square,
            self.total - other.total,
        )


def sum_moments(design: Design, parts: Ints | None = None, n_parts: int = 1) -> list[Moments]:
    """Add up the rows of a design, those of each part (n,) of the sample apart."""
    k = len(design.kept)
    grams, crosses, rest = np.zeros((n_parts, k, k)), np.zeros((n_parts, k)), np.zeros((n_parts, 4))
    for rows in design.rows():
        for part in range(n_parts):
            mine = slice(None) if parts is None else parts[rows.index] == part
            X, y, w = rows.X[mine], rows.y[mine], rows.w[mine]
            weighted = X * w[:, None]
            grams[part] += weighted.T @ X
            crosses[part] += weighted.T @ y
            rest[part] += (len(y), w.sum(), w @ (y * y), w @ y)
    return [
        Moments(int(n), float(weight), gram, cross, float(square), float(total))
        for gram, cross, (n, weight, square, total) in zip(grams, crosses, rest, strict=True)
    ]


def add_moments(parts: list[Moments]) -> Moments:
    """Return the sums of all parts together."""
    gram, cross = (np.sum([getattr(part, name) for part in parts], axis=0) for name in ("gram", "cross"))
    n = sum(part.n for part in parts)
    weight, square, total = (
        float(sum(getattr(part, name) for part in parts)) for name in ("weight", "square", "total")
    )
    return Moments(n, weight, gram, cross, square, total)


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
    absorbed = design.levels.freedom if design.levels is not None else 0
    if problem := impossible(moments, len(kept) + absorbed):
        return no_fit(independent.dropped | {int(j): problem for j in kept}, problem, "OLS", "identity")
    bread = inverse(moments.gram[np.ix_(kept, kept)])
    coefficients = solve(moments.gram[np.ix_(kept, kept)], moments.cross[kept])
    reduced = design.keep(kept)
    unexplained = max(moments.square - float(coefficients @ moments.cross[kept]), 0.0)
    free = moments.n - len(kept) - absorbed
    notes: list[str] = []
    if cov_type == "cluster":
        covariance, notes = _clustered(reduced, coefficients, bread)
    elif cov_type == "nonrobust":
        covariance = Covariance(bread * unexplained / free, np.full(len(kept), float(free)))
    else:
        covariance, notes = _robust(reduced, coefficients, bread, free)
    estimates = _in_own_units(reduced, wald(coefficients, covariance))
    total = moments.square - (moments.total**2 / moments.weight if design.levels is None else 0.0)
    return Fit(
        kept,
        estimates,
        "OLS",
        "identity",
        _ERRORS[cov_type],
        reasons=independent.dropped,
        unsure=unsure(kept, covariance),
        metrics={"r2": 1 - unexplained / total},
        notes=notes,
        effective=covariance.effective,
    )


_ERRORS = {"HC3": "HC3", "cluster": "cluster-robust", "nonrobust": "classical"}


def impossible(moments: Moments, coefficients: int) -> str:
    """Return why a model of so many coefficients cannot be fitted; empty if it can."""
    if moments.n <= coefficients:
        return f"{moments.n} complete rows are too few for {coefficients} coefficients"
    spread = moments.square - moments.total**2 / moments.weight
    return "" if spread > 1e-12 * moments.square else "the target has one value only"


def no_fit(reasons: dict[int, str], problem: str, model: str, link: str) -> Fit:
    """Return a Fit without any estimate."""
    empty = np.zeros(0)
    nothing = Estimates(empty, empty, empty, lambda _: np.zeros((0, 2)))
    return Fit(
        np.zeros(0, np.int64), nothing, model, link, "none", reasons=reasons,
        notes=[f"no joint regression: {problem}"],
    )  # fmt: skip


def _scored(design: Design, coefficients: Floats) -> Iterator[Scored]:
    none = np.zeros(0, dtype=np.int64)
    for rows in design.rows():
        residual = rows.w * (rows.y - rows.X @ coefficients)
        groups = none if design.sample.groups is None else design.groups(rows)
        yield Scored(rows.X, residual, rows.w, rows.leverage, groups)


def _clustered(design: Design, coefficients: Floats, bread: Floats) -> tuple[Covariance, list[str]]:
    levels = design.levels
    # Levels that lie within groups use up no information between groups (Cameron and Miller 2015).
    absorbed = levels.freedom if levels is not None and not levels.nested else 0
    parts = partial(_scored, design, coefficients)
    return clustered(parts, bread, design.sample.n_groups, len(coefficients) + absorbed), []


def _robust(design: Design, coefficients: Floats, bread: Floats, free: int) -> tuple[Covariance, list[str]]:
    """HC3; with several sets of fixed effects, whose leverage is not known, HC1."""
    parts = _scored(design, coefficients)
    if design.sample.effects is None or design.sample.effects.shape[1] < 2:
        return hc3(parts, bread, float(free)), []
    meat = np.zeros_like(bread)
    for part in parts:
        scores = part.X * part.residual[:, None]
        meat += scores.T @ scores
    note = "errors are HC1, not HC3: with several sets of fixed effects a row's leverage is not known"
    return Covariance(design.n / free * bread @ meat @ bread, np.full(len(bread), float(free))), [note]


def _in_own_units(design: Design, estimates: Estimates) -> Estimates:
    """Undo the scaling of covariates."""
    return scaled(estimates, 1 / column_scale(design))


def column_scale(design: Design) -> Floats:
    """Return what each kept column was divided by, (k,): 1, but for covariates their standard deviation."""
    scale = np.ones(len(design.names))
    first = 1 if design.names[:1] == ("constant",) else 0
    scale[first : first + design.covariate_scale.shape[1]] = design.covariate_scale[1]
    return scale[design.kept]
