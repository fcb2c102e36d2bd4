"""Joint logit and Poisson models.

1. Maximum likelihood. Errors of the logit are those of the likelihood, or cluster-robust; those of the
   Poisson model, whose counts may vary more than it says, HC3 or cluster-robust.
2. A likelihood without a finite maximum means that a combination of columns separates the outcomes (Albert
   and Anderson 1984). A linear programme finds the columns concerned (Konis 2007).
3. Then Firth's penalised likelihood, with p-values and intervals from its profile (Heinze and Schemper 2002):
   twice the drop of the penalised log-likelihood is compared with chi-squared. Where errors are to be
   robust, the drop is first divided by the design effect, robust over model variance, if that is above 1
   (Rao and Scott 1984).
4. Average marginal effects: the mean over rows of the change in the predicted mean when a text gets the
   property, all else as it is; their errors by the delta method.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats
from scipy.optimize import linprog
from sklearn.metrics import r2_score, roc_auc_score

from hypsae_ray.data.arrays import BLOCK_ROWS, Floats
from hypsae_ray.stats.regression.algebra import inverse
from hypsae_ray.stats.regression.covariance import ROBUST, Covariance, CovType, robust_covariance
from hypsae_ray.stats.regression.design import Design
from hypsae_ray.stats.regression.estimates import Estimates, Fit, wald
from hypsae_ray.stats.regression.likelihood import LOGIT, Family, Point, Problem, linear_predictor, maximise
from hypsae_ray.stats.regression.linear import Moments
from hypsae_ray.stats.separation import Contrast

_LP_TOLERANCE = 1e-6
# Distinct rows up to which the linear programme is solved: 20,000 x 20 take a second.
_LP_ROWS = 20_000
# Ends of profile intervals: steps, how close the drop must come to its limit, and after how many standard
# errors there is none.
_STEPS = 50
_SETTLED = 1e-8
_NEAR = 1e-6
_FAR = 1e4


def fit_glm(design: Design, moments: Moments, family: Family, cov_type: CovType, contrast: Contrast) -> Fit:
    """Fit the target on the columns that a design keeps, which are independent.

    Returns:
        A Fit with metrics auc and pseudo_r2 (McFadden), or r2 for counts.
    """
    mean = moments.total / moments.weight
    start = np.zeros(len(design.kept))
    if family is not LOGIT:
        start[0] = math.log(mean)
    top = _maximum(Problem(design, family), start)
    separation, concerned = not top.settled, np.zeros(len(start), dtype=bool)
    if separation:
        concerned = separated(design, family, top.beta)
        top = maximise(Problem(design, family, firth=True), start)
    fitted = _Fitted(design, family, top, _covariance(design, family, top, cov_type))
    errors = ROBUST.get(cov_type, "maximum likelihood")
    if separation:
        method, estimates = "Firth", fitted.profile(concerned)
        errors = f"penalised profile likelihood{f', {errors}' if cov_type in ROBUST else ''}"
    else:
        method, estimates = "maximum likelihood", wald(top.beta, fitted.covariance)
    return Fit(
        design.kept,
        estimates,
        fitted.covariance,
        f"{family.name}, {method}",
        family.link,
        errors,
        effects=average_effects(design, family, top.beta, fitted.covariance, contrast),
        metrics=_metrics(fitted, mean),
        notes=[_firth_note(design, concerned, top)] if separation else [],
    )


def _maximum(problem: Problem, start: Floats) -> Point:
    try:
        return maximise(problem, start)
    except np.linalg.LinAlgError:  # weights have vanished on the way to infinity
        k = len(start)
        return Point(start, math.nan, math.nan, start, np.eye(k))


def _firth_note(design: Design, concerned: np.ndarray, top: Point) -> str:
    names = [name for name, one in zip(design.kept_names, concerned, strict=True) if one]
    who = f" by {', '.join(names)}" if names else ""
    end = "" if top.settled else "; it did not settle, so do not rely on these coefficients"
    return (
        f"the outcomes are separated{who}, so maximum likelihood has no finite estimate: the joint model is "
        f"Firth's penalised likelihood, with p-values and intervals from its profile{end}"
    )


def separated(design: Design, family: Family, beta: Floats) -> np.ndarray:
    """Return which columns (k,) take part in a separation of the outcomes.

    A direction separates if, on every row, moving along it makes the outcome no less likely, and on some rows
    more. For a logit, that is its sign; for counts, it must lead down where the count is 0, and nowhere else.
    Past 20,000 distinct rows, the columns with a coefficient over 10 are named instead, of those (k,) where
    maximum likelihood was given up.
    """
    signed = _signed_rows(design, family)
    if signed is None:
        return np.abs(beta) > 10
    gains, still = signed
    concerned = np.zeros(len(beta), dtype=bool)
    for _ in range(len(beta)):
        direction = _separating_direction(gains, still)
        moved = gains @ direction > _LP_TOLERANCE
        if not moved.any():
            break
        concerned |= np.abs(direction) > _LP_TOLERANCE
        gains = gains[~moved]
    concerned[0] = False  # the constant only follows the others
    return concerned


def _signed_rows(design: Design, family: Family) -> tuple[Floats, Floats] | None:
    """Distinct rows along which a direction must not lead down, and those along which it must not move."""
    k = len(design.kept)
    gains, still = np.zeros((0, k)), np.zeros((0, k))
    for rows in design.rows():
        if family is LOGIT:
            gains = np.unique(np.concatenate([gains, rows.X * (2 * rows.y - 1)[:, None]]), axis=0)
        else:
            gains = np.unique(np.concatenate([gains, -rows.X[rows.y == 0]]), axis=0)
            still = np.unique(np.concatenate([still, rows.X[rows.y > 0]]), axis=0)
        if len(gains) + len(still) > _LP_ROWS:
            return None
    return gains, still


def _separating_direction(gains: Floats, still: Floats) -> Floats:
    """(k,) b with gains b >= 0 and still b = 0, and few entries; all 0 if nothing else will do.

    Of b = up - down, both at least 0, the sum is least (the constant's is free); gains b sums to 1 or more.
    """
    k = gains.shape[1]
    cost = np.append(0.0, np.ones(k - 1))
    below = np.concatenate([-gains, -gains.sum(axis=0, keepdims=True)])
    limits = np.append(np.zeros(len(gains)), -1.0)
    equal = (np.concatenate([still, -still], axis=1), np.zeros(len(still))) if len(still) else (None, None)
    result = linprog(
        np.tile(cost, 2), A_ub=np.concatenate([below, -below], axis=1), b_ub=limits,
        A_eq=equal[0], b_eq=equal[1], bounds=(0, None), method="highs",
    )  # fmt: skip
    found = np.asarray(result.x if result.status == 0 else np.zeros(2 * k), dtype=np.float64)
    direction = found[:k] - found[k:]
    return direction / max(float(np.abs(direction).max()), 1e-300)


def _covariance(design: Design, family: Family, top: Point, cov_type: CovType) -> Covariance:
    bread = inverse(top.information)
    if cov_type == "nonrobust":
        return Covariance(bread, np.full(len(bread), math.inf))
    return robust_covariance(design, family, top.beta, bread, math.inf, cov_type)


@dataclass(frozen=True)
class _Fitted:
    """A maximum, and the covariance of its coefficients."""

    design: Design
    family: Family
    top: Point
    covariance: Covariance

    def profile(self, concerned: np.ndarray) -> Estimates:
        """Tests and intervals from the profile of the penalised likelihood.

        Of all coefficients where the rows are few; past BLOCK_ROWS, where each takes some hundred readings,
        of those alone that take part in the separation.
        """
        model = np.diag(inverse(self.top.information))
        effect = np.maximum(np.diag(self.covariance.matrix) / model, 1.0)
        effect = np.where(np.isnan(self.covariance.df), np.nan, effect)
        by_curvature = wald(self.top.beta, self.covariance)
        profiled = np.flatnonzero((concerned | (self.design.n <= BLOCK_ROWS)) & np.isfinite(effect))
        problem = Problem(self.design, self.family, firth=True)
        # All but the constant's, which nobody asks for.
        profiles = {int(j): _Profile(problem, self.top, int(j)) for j in profiled if j > 0}
        pval = by_curvature.pval.copy()
        for j, profile in profiles.items():
            pval[j] = stats.chi2.sf(max(profile.drop(0.0)[0], 0.0) / effect[j], 1)
        se = np.sqrt(model * effect)

        @cache  # each end takes some ten fits
        def interval(level: float) -> Floats:
            ends, limit = by_curvature.interval(level), float(stats.chi2.ppf(level, 1))
            for j, profile in profiles.items():
                ends[j] = [profile.end(limit * float(effect[j]), sign * float(se[j])) for sign in (-1, 1)]
            return ends

        return Estimates(self.top.beta, se, pval, interval)


def average_effects(
    design: Design, family: Family, beta: Floats, covariance: Covariance, contrast: Contrast
) -> Estimates:
    """Return average marginal effects of all columns (those of constant and covariates mean nothing)."""
    k = len(beta)
    change, slopes, weight = np.zeros(k), np.zeros((k, k)), 0.0
    for rows in design.rows():
        eta = (rows.X @ beta)[:, None] - rows.X * beta
        with_it, without = (family.mean(eta + value * beta) for value in (contrast.yes, contrast.no))
        slope_with, slope_without = family.variance(with_it), family.variance(without)
        change += rows.w @ (with_it - without)
        slopes += (slope_with - slope_without).T @ (rows.X * rows.w[:, None])
        own = contrast.yes * slope_with - contrast.no * slope_without
        own -= (slope_with - slope_without) * rows.X
        slopes[np.diag_indices(k)] += rows.w @ own
        weight += float(rows.w.sum())
    jacobian = contrast.scale * slopes / weight
    matrix = jacobian @ covariance.matrix @ jacobian.T
    return wald(contrast.scale * change / weight, Covariance(matrix, covariance.df))


@dataclass(frozen=True)
class _Profile:
    """The objective of a problem with one coefficient fixed and the others at their best."""

    problem: Problem
    top: Point
    j: int

    def drop(self, value: float, near: Point | None = None) -> tuple[float, float, Point]:
        """Return twice the drop of the objective with the coefficient at a value, its slope, and the point.

        The slope is minus twice the score: at their best, the others do not change it. The search for their
        best begins at the point `near`.
        """
        beta = (near or self.top).beta.copy()
        beta[self.j] = value
        point = maximise(self.problem, beta, fixed=self.j, settled=_NEAR)
        return 2 * (self.top.objective - point.objective), -2 * float(point.score[self.j]), point

    def end(self, limit: float, step: float) -> float:
        """Return where the drop reaches the limit, on the side to which `step` leads; infinite if nowhere.

        Newton's method on its square root, which is close to a straight line; bisection where that leaves the
        bounds known so far.
        """
        top = float(self.top.beta[self.j])
        inside, outside = top, math.copysign(math.inf, step)
        value, point = top + math.sqrt(limit) * step, self.top
        for _ in range(_STEPS):
            drop, slope, point = self.drop(value, point)
            if abs(drop - limit) < _SETTLED * limit:
                break
            inside, outside = (inside, value) if drop > limit else (value, outside)
            root = math.sqrt(max(drop, 1e-12))
            guess = value + (math.sqrt(limit) - root) * 2 * root / slope if slope else math.nan
            if not min(inside, outside) < guess < max(inside, outside):
                guess = (inside + outside) / 2 if math.isfinite(outside) else value + 2 * (value - top)
            value = guess
            if abs(value - top) > _FAR * abs(step):
                return math.copysign(math.inf, step)
        return value


def _metrics(fitted: _Fitted, mean: float) -> dict[str, float]:
    design, family = fitted.design, fitted.family
    rows = np.flatnonzero(design.complete)
    y = design.sample.target[rows]
    w = np.ones(len(rows)) if design.sample.weights is None else design.sample.weights[rows]
    predicted = family.mean(linear_predictor(design, fitted.top.beta)[rows])
    if family is not LOGIT:
        dispersion = float(w @ ((y - predicted) ** 2 / predicted)) / max(len(y) - len(fitted.top.beta), 1)
        return {"r2": float(r2_score(y, predicted, sample_weight=w)), "dispersion": dispersion}
    nothing = float(w.sum()) * (mean * math.log(mean) + (1 - mean) * math.log(1 - mean))
    auc = float(roc_auc_score(y, predicted, sample_weight=w))
    return {"auc": auc, "pseudo_r2": 1 - fitted.top.log_likelihood / nothing}
