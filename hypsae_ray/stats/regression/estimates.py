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

    def columns(self) -> dict[str, Floats]:
        """Return coef, se, ci_low and ci_high (95 %), and pval, (k,) each."""
        low, high = self.interval(0.95).T
        return {"coef": self.value, "se": self.se, "ci_low": low, "ci_high": high, "pval": self.pval}

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
        covariance: of their coefficients, as the design scales its columns.
        model: "OLS", or "logit" or "Poisson" with ", maximum likelihood" or ", Firth".
        link: "identity", "logit" or "log".
        errors: what the standard errors are, in words.
        reasons: position in the design's names to the reason why it has no coefficient.
        effects: average marginal effects of the same columns; None where coefficients are effects.
        metrics: measures of the whole model, in-sample.
        notes: what went wrong, or was done otherwise.
    """

    columns: Ints
    estimates: Estimates
    covariance: Covariance
    model: str
    link: str
    errors: str
    reasons: dict[int, str] = field(default_factory=dict[int, str])
    effects: Estimates | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    notes: list[str] = field(default_factory=list[str])

    @property
    def unsure(self) -> dict[int, str]:
        """Position in the design's names to the reason why a coefficient has no standard error."""
        reason, alone = self.covariance.reason, self.columns[np.isnan(self.covariance.df)]
        return dict.fromkeys(alone.tolist(), reason) if reason else {}


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
