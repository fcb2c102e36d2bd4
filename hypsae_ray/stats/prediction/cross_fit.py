"""How well hypotheses, and what they were made from, predict the target of texts left out of the fit.

1. Rows are dealt into folds, groups as wholes.
2. Each fold is predicted by a model of the others: least squares for numbers, a logistic or Poisson model
   with a ridge of 1 for classes and counts (finite where a fold separates the outcomes).
3. R2 compares with the mean of the other folds; AUC and AUPRC are means over folds, so that scores of
   different models are never compared.
4. Intervals: percentiles over a bootstrap of groups (of rows without any), the fitted models as they are.

What wide features (embeddings, all neurons) predict is in `features`.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.prediction.measures import Ranking, percentile_interval
from hypsae_ray.stats.regression.algebra import solve
from hypsae_ray.stats.regression.collinear import find_independent
from hypsae_ray.stats.regression.design import Design
from hypsae_ray.stats.regression.likelihood import LOGIT, Family, Problem, maximise
from hypsae_ray.stats.regression.linear import Moments
from hypsae_ray.stats.sample import slices

# Weights of a bootstrap that are held at once, in numbers: 16 MB, as often as there are copies of them.
_AT_ONCE = 2_000_000
# Rows x dense features that are compared: 64 MB in float32. Of more rows, the first ones.
MAX_CELLS = 16_000_000


def deal_folds(target: Floats, groups: Ints | None, n_folds: int, rng: np.random.Generator) -> Ints:
    """Return the fold of each row, (n,), from 0.

    Groups stay whole; without any, the values of a target of two come in equal shares.
    """
    if groups is not None:
        n_groups = int(groups.max()) + 1 if len(groups) else 0
        return (rng.permutation(n_groups) % n_folds)[groups].astype(np.int64)
    order = rng.permutation(len(target))
    if len(target) and ((target == target.min()) | (target == target.max())).all():
        order = order[np.argsort(target[order], kind="stable")]
    folds = np.empty(len(target), dtype=np.int64)
    folds[order] = np.arange(len(target)) % n_folds
    return folds


def cross_fit_linear(design: Design, folds: Ints, moments: list[Moments]) -> Floats:
    """Return each complete row's prediction by a linear model of the other folds, (n,); NaN elsewhere.

    The constant is among the design's columns; moments are those of each fold.
    """
    total = reduce(Moments.__add__, moments)
    coefficients = np.zeros((len(design.kept), len(moments)))
    for fold, own in enumerate(moments):
        others = total - own
        kept = list(find_independent(others.gram, design.kept_names, others.weight).kept)
        coefficients[kept, fold] = solve(others.gram[np.ix_(kept, kept)], others.cross[kept])
    return design.centre + _predict(design, coefficients, folds)


def cross_fit_glm(design: Design, family: Family, folds: Ints, n_folds: int) -> Floats:
    """Return each complete row's linear predictor by a model of the other folds, (n,); NaN elsewhere."""
    ridge = np.ones(len(design.kept))
    ridge[0] = 0.0
    coefficients = np.zeros((len(design.kept), n_folds))
    start = np.zeros(len(design.kept))
    if family is not LOGIT:
        start[0] = math.log(max(float(design.sample.target[design.complete].mean()), 1e-300))
    for fold in range(n_folds):
        problem = Problem(design, family, ridge=ridge, used=folds != fold)
        seen = design.sample.target[design.complete & (folds != fold)]
        if np.ptp(seen) == 0:  # nothing to learn, and no finite constant where all are 0 or 1
            coefficients[0, fold] = math.log(max(float(seen[0]), 1e-300))
            continue
        start = maximise(problem, start).beta
        coefficients[:, fold] = start
    return _predict(design, coefficients, folds)


def _predict(design: Design, coefficients: Floats, folds: Ints) -> Floats:
    predicted = np.full(design.sample.n, np.nan)
    for rows in design.rows():
        values = rows.X @ coefficients
        predicted[rows.index] = values[np.arange(len(values)), folds[rows.index]]
    return predicted


@dataclass(frozen=True)
class Measured:
    """A measure with its 95 % interval; NaN where it is not defined."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Judge:
    """Measures predictions of the same rows in the same way.

    Attributes:
        target: (n,) of the rows that are judged.
        folds: (n,).
        groups: (n,) codes from 0; None: rows are independent.
        weights: (n,).
        classes: the target is 0 or 1.
        n_bootstrap: samples of the bootstrap.
        random_state: seed of the bootstrap, the same for every prediction.
    """

    target: Floats
    folds: Ints
    groups: Ints | None
    weights: Floats
    classes: bool
    n_bootstrap: int
    random_state: int

    def judge(self, predicted: Floats) -> dict[str, Measured]:
        """Return r2, or auc and auprc, of predictions (n,) of the left-out rows."""
        return self._rank(predicted) if self.classes else {"r2": self._r2(predicted)}

    def _units(self) -> tuple[Ints, int]:
        """What is drawn, groups or rows, as codes without gaps, (n,), and how many there are."""
        drawn = np.arange(len(self.target)) if self.groups is None else self.groups
        names, units = np.unique(drawn, return_inverse=True)
        return units.astype(np.int64), len(names)

    def _drawn(self, n_units: int, width: int) -> Iterator[Floats]:
        """Yield how often each unit was drawn, (units, B) for some draws at a time."""
        rng = np.random.default_rng(self.random_state)
        for part in slices(self.n_bootstrap, width, _AT_ONCE):
            counts = [
                np.bincount(rng.integers(0, n_units, n_units), minlength=n_units)
                for _ in range(part.start, part.stop)
            ]
            yield np.stack(counts, axis=1, dtype=np.float64)

    def expected(self) -> Floats:
        """Return the weighted mean target of the other folds, (n,)."""
        weight, total = (
            np.bincount(self.folds, values) for values in (self.weights, self.weights * self.target)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((total.sum() - total) / (weight.sum() - weight))[self.folds]

    def _r2(self, predicted: Floats) -> Measured:
        units, n_units = self._units()
        errors = np.bincount(units, self.weights * (self.target - predicted) ** 2, n_units)
        spread = np.bincount(units, self.weights * (self.target - self.expected()) ** 2, n_units)
        if not n_units or not spread.sum() > 0:
            return Measured()
        drawn = [1 - (errors @ counts) / (spread @ counts) for counts in self._drawn(n_units, n_units)]
        return _with_interval(float(1 - errors.sum() / spread.sum()), drawn)

    def _rank(self, predicted: Floats) -> dict[str, Measured]:
        units, n_units = self._units()
        members = [np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds)]
        ranked = [(Ranking(self.target[rows], predicted[rows]), rows) for rows in members]
        found: dict[str, Measured] = {}
        for name in ("auc", "auprc"):
            value = _mean_of_folds(ranked, name, self.weights[:, None])
            drawn = [
                _mean_of_folds(ranked, name, counts[units] * self.weights[:, None])
                for counts in self._drawn(n_units, len(units))
            ]
            found[name] = _with_interval(float(value[0]), drawn)
        return found


def _mean_of_folds(ranked: list[tuple[Ranking, Ints]], measure: str, weights: Floats) -> Floats:
    values = [getattr(ranking, measure)(weights[rows]) for ranking, rows in ranked]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw in which no fold holds both classes
        return np.asarray(np.nanmean(np.stack(values), axis=0), dtype=np.float64)


def _with_interval(value: float, drawn: list[Floats]) -> Measured:
    values = np.concatenate(drawn) if drawn else np.zeros(0)
    values = values[np.isfinite(values)]
    return Measured(value, *percentile_interval(values)) if len(values) else Measured(value)


def rows_that_fit(widest: int) -> int:
    """Return how many rows are compared at the most, where the widest dense features have so many columns."""
    return max(MAX_CELLS // max(widest, 1), 1)
