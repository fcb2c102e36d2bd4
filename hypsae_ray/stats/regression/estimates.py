"""What a fitted joint model says of its columns, however it was fitted."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.regression.covariance import Covariance


@dataclass(frozen=True)
class Estimates:
    """Estimates of k numbers.

    Attributes:
        value: (k,).
        se: (k,) standard errors.
        pval: (k,) two-sided p-values.
        interval: returns the ends (k, 2) of the intervals of a given coverage.
    """

    value: Floats
    se: Floats
    pval: Floats
    interval: Callable[[float], Floats]


@dataclass(frozen=True)
class Fit:
    """One joint model.

    Attributes:
        columns: (k,) what has an estimate, as positions in the design's names.
        estimates: of these columns.
        model: "OLS", or "logit" or "Poisson" with ", maximum likelihood" or ", Firth".
        link: "identity", "logit" or "log".
        errors: what the standard errors are, in words.
        effects: average marginal effects of the same columns; None where coefficients are effects.
        reasons: position in the design's names to the reason why it has no coefficient.
        unsure: position in the design's names to the reason why its coefficient has no standard error.
        metrics: measures of the whole model, in-sample.
        notes: what went wrong, or was done otherwise.
        effective: (k,) effective groups, or rows, see `sandwich`; None if errors are not robust.
    """

    columns: Ints
    estimates: Estimates
    model: str
    link: str
    errors: str
    effects: Estimates | None = None
    reasons: dict[int, str] = field(default_factory=dict[int, str])
    unsure: dict[int, str] = field(default_factory=dict[int, str])
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    notes: list[str] = field(default_factory=list[str])
    effective: Floats | None = None


def wald(value: Floats, covariance: Covariance) -> Estimates:
    """Return estimates whose tests and intervals rest on t distributions; NaN without degrees of freedom."""
    se = np.sqrt(np.maximum(np.diag(covariance.matrix), 0))
    se[np.isnan(covariance.freedom)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        pval = 2 * stats.t.sf(np.abs(value / se), covariance.freedom)

    def interval(level: float) -> Floats:
        margin = stats.t.ppf((1 + level) / 2, covariance.freedom) * se
        return np.column_stack([value - margin, value + margin])

    return Estimates(value, se, np.asarray(pval, dtype=np.float64), interval)


def unsure(columns: Ints, covariance: Covariance) -> dict[int, str]:
    """Return the columns (k,) of a covariance that one text or group alone decides, with the reason."""
    alone = np.isnan(covariance.freedom) if covariance.reason else np.zeros(len(columns), dtype=bool)
    return dict.fromkeys(columns[alone].tolist(), covariance.reason)


def select(estimates: Estimates, places: npt.NDArray[np.intp] | Ints) -> Estimates:
    """Return the estimates of some of the k numbers."""
    return Estimates(
        estimates.value[places],
        estimates.se[places],
        estimates.pval[places],
        lambda level: estimates.interval(level)[places],
    )


def scaled(estimates: Estimates, factor: Floats) -> Estimates:
    """Return the estimates in other units, each times a positive factor (k,)."""
    return Estimates(
        estimates.value * factor,
        estimates.se * factor,
        estimates.pval,
        lambda level: estimates.interval(level) * factor[:, None],
    )
