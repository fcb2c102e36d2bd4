"""Estimates of a fitted joint model with their tests and intervals, however it was fitted."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.regression.covariance import Covariance


@dataclass(frozen=True)
class Estimates:
    """Values (k,), their standard errors and two-sided p-values, (k,).

    `interval` returns the ends (k, 2) of the intervals of a given coverage.
    """

    value: Floats
    se: Floats
    pval: Floats
    interval: Callable[[float], Floats]

    def take(self, positions: Ints) -> "Estimates":
        """Return some of the k estimates."""
        parts = (self.value[positions], self.se[positions], self.pval[positions])
        return Estimates(*parts, lambda level: self.interval(level)[positions])

    def scaled(self, factor: Floats) -> "Estimates":
        """Return the estimates in other units, each times a positive factor (k,)."""
        values = (self.value * factor, self.se * factor, self.pval)
        return Estimates(*values, lambda level: self.interval(level) * factor[:, None])


@dataclass(frozen=True)
class Fit:
    """One joint model.

    Attributes:
        columns: (k,) what has an estimate, as positions in the design's names.
        estimates: of these columns.
        model: "OLS", or "logit" or "Poisson" with ", maximum likelihood" or ", Firth".
        link: "identity", "logit" or "log".
        errors: what the standard errors are, in words.
        reasons: position in the design's names to the reason why it has no coefficient.
        unsure: the same for coefficients without a standard error.
        effects: average marginal effects of the same columns; None where coefficients are effects.
        metrics: measures of the whole model, in-sample.
        notes: what went wrong, or was done otherwise.
        effective: (k,) effective groups, or rows, see `covariance`; None if errors are not robust.
    """

    columns: Ints
    estimates: Estimates
    model: str
    link: str
    errors: str
    reasons: dict[int, str]
    unsure: dict[int, str] = field(default_factory=dict[int, str])
    effects: Estimates | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    notes: list[str] = field(default_factory=list[str])
    effective: Floats | None = None


def no_fit(reasons: dict[int, str], problem: str, model: str, link: str) -> Fit:
    """Return a Fit without any estimate."""
    empty, note = np.zeros(0), f"no joint regression: {problem}"
    nothing = Estimates(empty, empty, empty, lambda _: np.zeros((0, 2)))
    return Fit(np.zeros(0, np.int64), nothing, model, link, "none", reasons, notes=[note])


def wald(value: Floats, covariance: Covariance) -> Estimates:
    """Return estimates with tests and intervals from t distributions; NaN without degrees of freedom."""
    se = np.sqrt(np.maximum(np.diag(covariance.matrix), 0))
    se[np.isnan(covariance.df)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        pval = 2 * stats.t.sf(np.abs(value / se), covariance.df)

    def interval(level: float) -> Floats:
        margin = stats.t.ppf((1 + level) / 2, covariance.df) * se
        return np.column_stack([value - margin, value + margin])

    return Estimates(value, se, np.asarray(pval, dtype=np.float64), interval)
