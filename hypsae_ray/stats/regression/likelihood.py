"""Newton's method for logit and Poisson models on a design, plain or penalised, from sums over blocks.

Firth's penalty (1993) adds half the logarithm of the determinant of the information to the log-likelihood.
For a canonical link the score becomes X'(w (y - mu) + h V'(mu) / 2), h being the leverages and V the variance
function. The maximum is finite whatever separates the outcomes (Heinze and Schemper 2002).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.regression.algebra import inverse, solve
from hypsae_ray.stats.regression.design import Design

# Where outcomes are separated, each step of Newton's method moves the linear predictor by about 1, for ever;
# a finite maximum is reached in about 10. After 30 steps, fitted probabilities are within e^-30 of 0 or 1.
_STEPS = 30
_FIRTH_STEPS = 500
_LARGEST_STEP = 5.0
_SETTLED = 1e-10


@dataclass(frozen=True)
class Family:
    """A distribution with its canonical link.

    Attributes:
        name: "OLS", "logit" or "Poisson".
        link: "identity", "logit" or "log".
        mean: of the linear predictor.
        variance: of the mean.
        slope: derivative of the variance by the mean.
        log_likelihood: of target and linear predictor, per row, up to what depends on the target alone.
    """

    name: str
    link: str
    mean: Callable[[Floats], Floats]
    variance: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    log_likelihood: Callable[[Floats, Floats], Floats]


def _bernoulli(y: Floats, eta: Floats) -> Floats:
    return y * log_expit(eta) + (1 - y) * log_expit(-eta)


def _exp(eta: Floats) -> Floats:
    return np.exp(np.minimum(eta, 700.0))


LINEAR = Family(
    "OLS", "identity", lambda eta: eta, np.ones_like, np.zeros_like, lambda y, eta: -((y - eta) ** 2) / 2
)
LOGIT = Family("logit", "logit", expit, lambda mu: mu * (1 - mu), lambda mu: 1 - 2 * mu, _bernoulli)
POISSON = Family("Poisson", "log", _exp, lambda mu: mu, np.ones_like, lambda y, eta: y * eta - _exp(eta))


@dataclass(frozen=True)
class Problem:
    """What is to be maximised.

    Attributes:
        design: the rows and columns.
        family: the distribution.
        firth: whether Firth's penalty is added.
        ridge: (k,) penalty on half the square of each coefficient.
        used: (n,) bool, the rows of the sample that count; None: all.
    """

    design: Design
    family: Family
    firth: bool = False
    ridge: Floats | None = None
    used: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Point:
    """A problem at some coefficients.

    Attributes:
        beta: (k,) the coefficients.
        objective: penalised log-likelihood.
        log_likelihood: without the penalty.
        score: (k,) gradient of the objective.
        information: (k, k) of the likelihood, with the ridge.
        settled: whether this is the maximum.
    """

    beta: Floats
    objective: float
    log_likelihood: float
    score: Floats
    information: Floats
    settled: bool = False


def maximise(problem: Problem, start: Floats, fixed: int | None = None, settled: float = _SETTLED) -> Point:
    """Find the maximum, from `start` (k,), with the coefficient `fixed` left where it is.

    Steps of the size `settled`, relative to the largest coefficient, are the last ones. The objective is then
    off by about the square of it.

    Returns:
        The last point; it is not settled where there is no finite maximum or it was not reached.

    Raises:
        LinAlgError: the columns are dependent.
    """
    free = np.array([j for j in range(len(start)) if j != fixed], dtype=np.int64)
    here = _look(problem, start)
    for _ in range(_FIRTH_STEPS if problem.firth else _STEPS):
        if not len(free):
            return replace(here, settled=True)
        step = np.zeros(len(start))
        step[free] = solve(here.information[np.ix_(free, free)], here.score[free])
        step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        near = np.abs(step).max() < settled * (1 + np.abs(here.beta).max())
        here, moved = _climb(problem, here, step)
        if near or not moved:
            return replace(here, settled=True)
    return here


def _climb(problem: Problem, here: Point, step: Floats) -> tuple[Point, bool]:
    """Take a step, halved until it does not lead down; False where rounding leaves no way up."""
    slack = 1e-12 * (1 + abs(here.objective))
    for _ in range(25):
        there = _look(problem, here.beta + step)
        if there.objective >= here.objective - slack:
            return there, True
        step = step / 2
    return here, False


def _look(problem: Problem, beta: Floats) -> Point:
    k, family = len(beta), problem.family
    value, score, information = 0.0, np.zeros(k), np.zeros((k, k))
    for rows in problem.design.rows():
        w = rows.w if problem.used is None else rows.w * problem.used[rows.index]
        eta = rows.X @ beta
        mu = family.mean(eta)
        value += float(w @ family.log_likelihood(rows.y, eta))
        score += rows.X.T @ (w * (rows.y - mu))
        information += (rows.X * (w * family.variance(mu))[:, None]).T @ rows.X
    objective = value
    if problem.ridge is not None:
        objective -= float(problem.ridge @ beta**2) / 2
        score -= problem.ridge * beta
        information += np.diag(problem.ridge)
    if problem.firth:
        objective += float(np.linalg.slogdet(information)[1]) / 2
        score += _firth_score(problem, beta, inverse(information))
    return Point(beta, objective, value, score, information)


def _firth_score(problem: Problem, beta: Floats, bread: Floats) -> Floats:
    family, score = problem.family, np.zeros(len(beta))
    for rows in problem.design.rows():
        mu = family.mean(rows.X @ beta)
        leverage = ((rows.X @ bread) * rows.X).sum(axis=1) * rows.w * family.variance(mu)
        score += rows.X.T @ (leverage * family.slope(mu) / 2)
    return score


def information(design: Design, family: Family, beta: Floats) -> Floats:
    """Return the information (k, k) of a likelihood at coefficients (k,)."""
    total = np.zeros((len(beta), len(beta)))
    for rows in design.rows():
        curvature = rows.w * family.variance(family.mean(rows.X @ beta))
        total += (rows.X * curvature[:, None]).T @ rows.X
    return total


def linear_predictor(design: Design, beta: Floats) -> Floats:
    """Return X beta of every row of the sample, (n,); NaN for rows that are not complete."""
    eta = np.full(design.sample.n, np.nan)
    for rows in design.rows():
        eta[rows.index] = rows.X @ beta
    return eta
