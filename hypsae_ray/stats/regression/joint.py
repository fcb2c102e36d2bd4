"""Fit the joint model: which columns have a coefficient, and which model estimates it."""

from dataclasses import replace

import numpy as np

from hypsae_ray.stats.regression.collinear import find_independent
from hypsae_ray.stats.regression.covariance import Covariance, CovType
from hypsae_ray.stats.regression.design import Design
from hypsae_ray.stats.regression.estimates import Estimates, Fit
from hypsae_ray.stats.regression.glm import fit_glm
from hypsae_ray.stats.regression.likelihood import LINEAR, Family
from hypsae_ray.stats.regression.linear import Moments, fit_linear
from hypsae_ray.stats.separation import PRESENCE, Contrast


def fit_joint(
    design: Design,
    moments: Moments,
    cov_type: CovType,
    family: Family = LINEAR,
    contrast: Contrast = PRESENCE,
) -> Fit:
    """Fit the target on all columns of a design; moments are those of all its rows.

    Fixed effects are absorbed in LINEAR models only; the target of LOGIT is 0 or 1, that of POISSON a count.
    An average marginal effect is that of the two labels of `contrast`.
    """
    independent = find_independent(moments.gram, design.names, moments.weight)
    kept = independent.kept
    absorbed = design.levels.df if design.levels is not None else 0
    if problem := _impossible(moments, len(kept) + absorbed):
        return _no_fit(independent.dropped | dict.fromkeys(kept, problem), problem, family)
    reduced = design.keep(kept)
    if family is LINEAR:
        fit = fit_linear(reduced, moments, cov_type)
    else:
        fit = fit_glm(reduced, moments, family, cov_type, contrast)
    estimates = fit.estimates.scaled(1 / reduced.scale)
    return replace(fit, estimates=estimates, reasons=independent.dropped)


def _impossible(moments: Moments, n_coefficients: int) -> str:
    """Why a model of so many coefficients cannot be fitted; empty if it can."""
    if moments.n <= n_coefficients:
        return f"{moments.n} complete rows are too few for {n_coefficients} coefficients"
    spread = moments.square - moments.total**2 / moments.weight
    return "" if spread > 1e-12 * moments.square else "the target has one value only"


def _no_fit(reasons: dict[int, str], problem: str, family: Family) -> Fit:
    empty, covariance = np.zeros(0), Covariance(np.zeros((0, 0)), np.zeros(0))
    nothing = Estimates(empty, empty, empty, lambda _: np.zeros((0, 2)))
    note = f"no joint regression: {problem}"
    columns = np.zeros(0, np.int64)
    return Fit(columns, nothing, covariance, family.name, family.link, "none", reasons, notes=[note])
