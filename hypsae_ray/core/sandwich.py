"""Covariances of estimates that hold without equal variances, and without independent rows.

For an estimate with bread A = (X'WX)^-1 and scores x_i r_i:

- HC3 (MacKinnon and White 1985): A [sum x_i x_i' r_i^2 / (1 - h_i)^2] A, with h_i the leverage of a row.
- Cluster-robust (Liang and Zeger 1986), times G / (G - 1) x (n - 1) / (n - k), with t distributions of G - 1
  degrees of freedom. That is too sure where few groups hold a property, however many there are: where a
  coefficient has few effective groups (Carter, Schnepel and Steigerwald 2017, in the form of one over the
  sum of squared shares of its information), their number takes the place of G. Few: fewer than 30, and than
  half of all, which must be 30 or more.
  (With 15 of 200 documents that hold a property, a test that lowers the degrees of freedom alone rejects a
  true null at 5 % in 6.2 % of cases.)
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hypsae_ray.core.sample import Floats, GroupSums, Ints

FEW_GROUPS = 30


@dataclass(frozen=True)
class Scored:
    """Rows with what their scores are made of.

    Attributes:
        X: (m, k) columns.
        residual: (m,) the score of row i is x_i times this; weights are in it.
        curvature: (m,) the information of row i is x_i x_i' times this.
        leverage: (m,) leverage from absorbed fixed effects.
        groups: (m,) codes; empty without groups.
    """

    X: Floats
    residual: Floats
    curvature: Floats
    leverage: Floats
    groups: Ints


@dataclass(frozen=True)
class Covariance:
    """Covariance (k, k) of an estimate, and the degrees of freedom (k,) of its t distributions."""

    matrix: Floats
    freedom: Floats
    effective_groups: Floats | None = None


def hc3(parts: Iterable[Scored], bread: Floats, freedom: float) -> Covariance:
    """Return the HC3 covariance.

    Args:
        parts: all rows.
        bread: (k, k) inverse of the information.
        freedom: degrees of freedom of the t distributions; infinite for normal ones.
    """
    meat = np.zeros_like(bread)
    for part in parts:
        h = ((part.X @ bread) * part.X).sum(axis=1) * part.curvature + part.leverage
        # A row that alone decides a coefficient has leverage 1 and residual 0.
        scores = part.X * (part.residual / np.maximum(1 - h, 1e-10))[:, None]
        meat += scores.T @ scores
    return Covariance(bread @ meat @ bread, np.full(len(bread), freedom))


def is_few(effective: Floats, n_groups: int) -> npt.NDArray[np.bool_]:
    """Return whether effective groups (k,), of so many in all, are too few to count all of these."""
    return (effective < min(FEW_GROUPS, n_groups / 2)) & (n_groups >= FEW_GROUPS)


def clustered(parts: Iterable[Scored], bread: Floats, n_groups: int, coefficients: int) -> Covariance:
    """Return the cluster-robust covariance with its small-sample correction.

    Args:
        parts: all rows.
        bread: (k, k) inverse of the information.
        n_groups: codes of groups are below this.
        coefficients: how many were estimated, for the correction.

    Returns:
        NaN throughout if all rows are of one group.
    """
    scores, shares = GroupSums(n_groups, len(bread)), GroupSums(n_groups, len(bread))
    n, present = 0, np.zeros(n_groups, dtype=bool)
    for part in parts:
        scores.add(part.groups, part.X * part.residual[:, None])
        shares.add(part.groups, (part.X @ bread) ** 2 * part.curvature[:, None])
        present[part.groups] = True
        n += len(part.groups)
    G = int(present.sum())
    if G < 2:  # one group says nothing of how groups differ
        return Covariance(np.full_like(bread, np.nan), np.full(len(bread), np.nan))
    correction = G / (G - 1) * (n - 1) / (n - coefficients)
    matrix = correction * bread @ (scores.total.T @ scores.total) @ bread
    effective = shares.total.sum(axis=0) ** 2 / (shares.total**2).sum(axis=0)
    few = is_few(effective, G)
    counted = np.where(few, np.maximum(effective, 2.0), G)
    stretch = np.sqrt(counted / (counted - 1) * (G - 1) / G)
    return Covariance(matrix * np.outer(stretch, stretch), counted - 1, effective)
