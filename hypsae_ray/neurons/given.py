"""What is held fixed while neurons are selected: covariates, weights of rows, fixed effects of groups.

Rows are multiplied by the roots of their weights, so that weighted least squares are ordinary ones. What is
held fixed has an orthonormal basis: the indicators of the groups (one group of all rows is the constant),
which are sparse, and the covariates within them. The sum of products of what is left of two columns is their
own less that of their coordinates in the basis (Frisch and Waugh 1933), so that columns stay sparse too.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from hypsae_ray.data.arrays import Floats, Ints

# Of its sum of squares: less than this left of a column is rounding.
NOTHING = 1e-9


@dataclass(frozen=True)
class Given:
    """What is known of n rows in addition to their texts.

    Attributes:
        covariates: (n, C) finite; C may be 0.
        names: (C,) of the covariates.
        weights: (n,) positive; None: all equal.
        effects: (n,) codes from 0 of groups within which neurons are compared; None: none.
    """

    covariates: Floats
    names: tuple[str, ...] = ()
    weights: Floats | None = None
    effects: Ints | None = None

    def rows(self, positions: Ints) -> "Given":
        """Return what is known of some rows (m,)."""
        return replace(
            self,
            covariates=self.covariates[positions],
            weights=None if self.weights is None else self.weights[positions],
            effects=None
            if self.effects is None
            else np.unique(self.effects[positions], return_inverse=True)[1],
        )

    @cached_property
    def roots(self) -> Floats:
        """Roots of the weights, (n,), with a mean square of 1."""
        if self.weights is None:
            return np.ones(len(self.covariates))
        return np.sqrt(self.weights / self.weights.mean())

    @cached_property
    def levels(self) -> sp.csr_matrix:
        """The indicators of the groups, (n, G), each of length 1 and multiplied by the roots."""
        n = len(self.roots)
        codes = np.zeros(n, dtype=np.int64) if self.effects is None else self.effects
        lengths = np.sqrt(np.bincount(codes, weights=self.roots**2))
        values = self.roots / lengths[codes]
        return sp.csr_matrix((values, (np.arange(n), codes)), shape=(n, len(lengths)))

    @cached_property
    def within(self) -> Floats:
        """What is left of the covariates within the groups, orthonormal, (n, c); c is their rank."""
        columns = self.covariates - self.covariates.mean(axis=0)
        spread = columns.std(axis=0)
        columns = self.roots[:, None] * columns / np.where(spread > 0, spread, 1)
        left = columns - self.levels @ (self.levels.T @ columns)
        basis, sizes, _ = np.linalg.svd(left, full_matrices=False)
        return basis[:, sizes**2 > NOTHING * len(left)]

    def residual(self, target: Floats) -> Floats:
        """Return what is left of a target (n,), multiplied by the roots."""
        values = self.roots * target
        values = values - self.levels @ (self.levels.T @ values)
        return values - self.within @ (self.within.T @ values)

    def basis(self) -> Floats:
        """Return a constant and the covariates, (n, 1 + c), as columns of a model of the rows themselves."""
        ones = np.ones((len(self.roots), 1))
        return np.hstack([ones, np.sqrt(len(ones)) * self.within / self.roots[:, None]])


@dataclass(frozen=True)
class Left:
    """What is left of columns (n, m): they themselves, multiplied by the roots, and their coordinates."""

    columns: sp.csc_matrix
    levels: sp.csc_matrix
    within: Floats

    @staticmethod
    def of(columns: sp.csc_matrix, given: Given) -> "Left":
        """Take what is given out of columns as they are."""
        scaled = sp.csc_matrix(sp.diags_array(given.roots) @ columns)
        return Left(scaled, sp.csc_matrix(given.levels.T @ scaled), np.asarray(given.within.T @ scaled))

    def dot(self, other: "Left") -> Floats:
        """Return the sums of products with the same columns of another table, (m,)."""
        sums = _column_sums(self.columns, other.columns) - _column_sums(self.levels, other.levels)
        return sums - (self.within * other.within).sum(axis=0)

    @cached_property
    def sizes(self) -> Floats:
        """Lengths (m,); NaN where nothing is left of a column."""
        whole, left = _column_sums(self.columns, self.columns), self.dot(self)
        return np.sqrt(np.where(left > NOTHING * whole, left, np.nan))

    def gram(self) -> Floats:
        """Return the sums of products of each two columns, (m, m)."""
        gram = (self.columns.T @ self.columns - self.levels.T @ self.levels).toarray()
        return gram - self.within.T @ self.within

    def correlations(self, residual: Floats) -> Floats:
        """Return the correlation (m,) of each column with a residual (n,); NaN where nothing is left."""
        return np.clip((self.columns.T @ residual) / (self.sizes * np.linalg.norm(residual)), -1, 1)


def interactions(columns: sp.csc_matrix, left: Left, given: Given, residual: Floats) -> tuple[Floats, Ints]:
    """Return how strongly the effect of each column turns with a covariate, (m,), and with which, (m,).

    It is the partial correlation of the residual with the column times the covariate about its mean, given
    what is given and the column; of the covariate for which it is largest. `left` is of the same columns.
    """
    main = left.correlations(residual)
    found = np.zeros((given.covariates.shape[1], len(main)))
    for k, covariate in enumerate(given.covariates.T):
        centred = covariate - np.average(covariate, weights=given.weights)
        times = Left.of(sp.csc_matrix(sp.diags_array(centred) @ columns), given)
        shared = left.dot(times) / (left.sizes * times.sizes)
        rest = (1 - main**2) * (1 - shared**2)
        partial = times.correlations(residual) - main * shared
        found[k] = np.where(rest > NOTHING, partial / np.sqrt(np.maximum(rest, NOTHING)), 0)
    which = np.argmax(np.nan_to_num(np.abs(found)), axis=0).astype(np.int64)
    return found[which, np.arange(len(which))], which


def _column_sums(left: sp.csc_matrix, right: sp.csc_matrix) -> Floats:
    return np.asarray(left.multiply(right).sum(axis=0), dtype=np.float64).ravel()
