"""Predict-then-debias: correct an estimate from labelled rows by what proxies say of all rows.

theta is estimated from the labels of the rows that were drawn, gamma in the same way from their proxies, and
gamma again from the proxies of all rows. The two gammas differ by chance alone, and by the chance that moved
theta as well, so

    theta - Omega (gamma_drawn - gamma_all)

is closer to the truth; Omega regresses one on the other, and is near 0 for proxies that tell nothing (Kluger,
Lu, Zrnic, Wang and Bates 2025, arXiv 2501.18577; in surveys, generalised raking: Breslow et al. 2009).

Rows move estimates independently of one another: an estimate less the truth is a sum over rows, or groups of
rows, of their influences. So Omega is a least squares fit of the influences on theta, 0 for rows that were
not drawn, on those on the difference of the gammas; and the sum of squares that it leaves is the variance.
"""

from dataclasses import dataclass

import numpy as np

from hypsae_ray.data.arrays import Floats, Ints

ROWS_PER_PROXY = 100
"""Drawn rows for each gamma from which on every theta is corrected by all of them; by its own alone below."""


@dataclass(frozen=True)
class Influences:
    """Sums over units (rows, or groups of them) of products of their influences.

    Attributes:
        theta: (k, k) of theta with itself.
        cross: (k, q) of theta and the difference of the gammas.
        gamma: (q, q) of that difference with itself.
    """

    theta: Floats
    cross: Floats
    gamma: Floats


@dataclass(frozen=True)
class Correction:
    """What to take off theta (k,), the covariance (k, k) of what is left, and Omega (k, q).

    stretch: (k,) of the standard errors, as Omega is fitted to the rows whose variance it lowers.
    """

    shift: Floats
    matrix: Floats
    omega: Floats
    stretch: Floats


@dataclass(frozen=True)
class Phases:
    """What the variance of each estimate is made of, by row.

    Attributes:
        probability: (n,) with which each labelled row was drawn.
        alone: (k,) variance of theta, the estimate from labels alone.
        theta: (n, k) influence of each row on theta.
        left: (n, k) what Omega times its influence on gamma leaves of that.
    """

    probability: Floats
    alone: Floats
    theta: Floats
    left: Floats

    def variance(self, probability: Floats) -> Floats:
        """Return the variance (k,) of corrected estimates had rows been drawn with other probabilities (n,).

        Had all rows been labelled, theta would vary as rows do; what drawing adds is what proxies leave.
        """
        drawing = ((1 - self.probability)[:, None] * self.theta**2).sum(axis=0)
        odds = self.probability * (1 / probability - 1)
        return self.alone - drawing + (odds[:, None] * self.left**2).sum(axis=0)

    def effective(self) -> Floats:
        """Return how many labels, drawn with one probability and without proxies, are as good, (k,).

        A row's influence on theta holds one over its own probability; it would hold the mean of that.
        """
        plain = (self.probability * np.mean(1 / self.probability) - 1)[:, None] * self.theta**2
        return len(self.theta) * (self.alone + plain.sum(axis=0)) / self.variance(self.probability)


def over_rows(theta: Floats, drawn: Floats, everywhere: Floats, square: Floats) -> Influences:
    """Return the sums over rows.

    Args:
        theta: (n, k) influence of each drawn row on theta.
        drawn: (n, q) on gamma of the drawn rows.
        everywhere: (n, q) of the drawn rows on gamma of all rows.
        square: (q, q) products of that influence with itself, over all rows.
    """
    both = drawn.T @ drawn - drawn.T @ everywhere - everywhere.T @ drawn
    return Influences(theta.T @ theta, theta.T @ (drawn - everywhere), square + both)


def over_groups(theta: Floats, drawn: Floats, everywhere: Floats) -> Influences:
    """Return the sums over groups, of the influences summed by group: (G, k), (G, q) and (G, q)."""
    difference = drawn - everywhere
    return Influences(theta.T @ theta, theta.T @ difference, difference.T @ difference)


def correct(sums: Influences, difference: Floats, own: Ints, n: int) -> Correction:
    """Return the correction by gamma_drawn - gamma_all (q,), from n drawn rows.

    `own` (k,) is the position of each theta's own gamma, -1 for none. The covariance is stretched by
    n / (n - gammas used).
    """
    omega, used = _omega(sums, own, n)
    matrix = sums.theta - omega @ sums.cross.T - sums.cross @ omega.T + omega @ sums.gamma @ omega.T
    stretch = np.sqrt(n / np.maximum(n - used, 1))
    return Correction(omega @ difference, matrix * np.outer(stretch, stretch), omega, stretch)


def _omega(sums: Influences, own: Ints, n: int) -> tuple[Floats, Floats]:
    """Return Omega (k, q), and by how many gammas each theta is corrected, (k,)."""
    k, q = sums.cross.shape
    if q and n >= ROWS_PER_PROXY * q:
        return sums.cross @ np.linalg.pinv(sums.gamma, rcond=1e-10, hermitian=True), np.full(k, float(q))
    omega, has = np.zeros((k, q)), np.flatnonzero(own >= 0)
    mine, spread = own[has], np.diag(sums.gamma)[own[has]]
    omega[has, mine] = np.where(spread > 0, sums.cross[has, mine] / np.where(spread > 0, spread, 1), 0)
    return omega, (own >= 0).astype(np.float64)
