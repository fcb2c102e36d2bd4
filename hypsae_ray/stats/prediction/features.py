"""Predict the target from wide features (embeddings, all neurons), each fold by a model of the other folds.

The model is a ridge regression, of classes a logistic one. Its penalty is the one that predicts best inside
the other folds, which are dealt into folds of their own for that. These keep groups whole, too: chosen by
rows, the penalty would be so small that the model knows the groups again, and says nothing of new ones.
Weights count in the fit and in the choice.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import eigh
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.prediction.cross_fit import deal_folds
from hypsae_ray.stats.regression.linear import Moments
from hypsae_ray.stats.sample import Features

# The strongest first: it is taken where nothing can be compared.
PENALTIES = np.logspace(5, -1, 13)  # of a sum of squares over rows of weight 1
STRENGTHS = np.logspace(-4, 1, 6)  # C of scikit-learn, 1 / penalty
_RIDGE_FOLDS = 5
_LOGISTIC_FOLDS = 3
LEFT_OUT = -1
_ROWS_AT_ONCE = 4_096
_ROUNDING = 1e-12  # of a mean square: what is left of the variance of a constant


def cross_fit_features(
    features: Features,
    target: Floats,
    folds: Ints,
    *,
    classes: bool,
    groups: Ints | None = None,
    weights: Floats | None = None,
) -> Floats:
    """Return each row's prediction by ridge (or logistic) regression on the other folds, (n,).

    Args:
        features: (n, d), dense or sparse.
        target: (n,); 0 and 1 for classes.
        folds: (n,).
        classes: predict log odds instead of a number.
        groups: (n,) codes from 0 of what belongs together; None: rows are independent.
        weights: (n,) above 0; None: all equal.
    """
    predicted = np.full(len(target), np.nan)
    weights = np.ones(len(target)) if weights is None else weights
    learn = fit_logistic if classes else fit_ridge
    for fold in np.unique(folds):
        used = folds != fold
        inner = np.full(len(target), LEFT_OUT)
        inner[used] = _inner_folds(target[used], groups if groups is None else groups[used], classes=classes)
        model = learn(features, target, weights / weights[used].mean(), inner)
        for rows in _blocks(~used):
            predicted[rows] = features[rows] @ model.coefficients + model.constant
    return predicted


def _blocks(chosen: npt.NDArray[np.bool_]) -> Iterator[Ints]:
    """Yield the numbers of chosen rows, a bounded number at a time: features are never copied as a whole."""
    rows = np.flatnonzero(chosen)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _inner_folds(target: Floats, groups: Ints | None, *, classes: bool) -> Ints:
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
    if codes is not None and not codes.any():  # rows of a single group can only be told apart
        codes = None
    n_folds = _LOGISTIC_FOLDS if classes else _RIDGE_FOLDS
    return deal_folds(target, codes, n_folds, np.random.default_rng(0))


@dataclass(frozen=True)
class Linear:
    """A linear predictor of d features.

    Attributes:
        coefficients: (d,).
        constant: where all features are 0.
        penalty: that was chosen: an element of PENALTIES, or of STRENGTHS.
    """

    coefficients: Floats
    constant: float
    penalty: float


def _sum_moments(X: Features, y: Floats, w: Floats, chosen: npt.NDArray[np.bool_]) -> Moments:
    """Sums over the chosen rows, of the features with a 1 before them: (1 + d, 1 + d) and (1 + d,)."""
    width = int(X.shape[1]) + 1
    total = Moments(0, 0.0, np.zeros((width, width)), np.zeros(width), 0.0, 0.0)
    for rows in _blocks(chosen):
        total += _moments_of(X[rows].astype(np.float64), y[rows], w[rows])
    return total


def _moments_of(X: Features, y: Floats, w: Floats) -> Moments:
    weighted = sp.csr_matrix(X.multiply(w[:, None])) if isinstance(X, sp.csr_matrix) else X * w[:, None]
    inner, sums = weighted.T @ X, np.asarray(weighted.sum(axis=0)).ravel()
    gram = np.empty((len(sums) + 1, len(sums) + 1))
    gram[0, 0], gram[0, 1:], gram[1:, 0] = w.sum(), sums, sums
    gram[1:, 1:] = cast(Any, inner).toarray() if sp.issparse(inner) else inner
    cross = np.concatenate([[w @ y], weighted.T @ y])
    return Moments(len(y), float(gram[0, 0]), gram, cross, float(w @ (y * y)), float(cross[0]))


def _spreads(moments: Moments) -> Floats:
    """The standard deviation of each feature, (1 + d,); 1 for the constant, and for features that are."""
    means, squares = moments.gram[0] / moments.weight, np.diag(moments.gram) / moments.weight
    variances = squares - means**2
    return np.where(variances > _ROUNDING * squares, np.sqrt(np.maximum(variances, 0)), 1.0)


def _ridge(moments: Moments, penalties: Floats) -> Floats:
    """Constant and coefficients for each penalty, (1 + d, penalties)."""
    weight, gram, cross = moments.weight, moments.gram, moments.cross
    mean, y_mean = gram[0, 1:] / weight, cross[0] / weight
    values, vectors = eigh(gram[1:, 1:] - weight * np.outer(mean, mean))
    along = vectors.T @ (cross[1:] - weight * mean * y_mean)
    coefficients = vectors @ (along[:, None] / (np.maximum(values, 0)[:, None] + penalties))
    return np.vstack([y_mean - mean @ coefficients, coefficients])


def _errors(moments: Moments, fitted: Floats) -> Floats:
    """The weighted sum of squared errors of each column of what `_ridge` returned, (penalties,)."""
    return moments.square - 2 * moments.cross @ fitted + (fitted * (moments.gram @ fitted)).sum(axis=0)


def fit_ridge(X: Features, y: Floats, w: Floats, folds: Ints) -> Linear:
    """Fit a ridge regression, with the penalty of the least squared error of rows (n,) that are left out.

    The penalty is that of features of variance 1. Sums over rows are all that is kept of the features.

    Args:
        X: (n, d).
        y: (n,).
        w: (n,) weights, 1 on average.
        folds: (n,) what is left out together; LEFT_OUT: not used at all.
    """
    named = np.unique(folds[folds != LEFT_OUT])
    raw = [_sum_moments(X, y, w, folds == fold) for fold in named]
    spreads = _spreads(reduce(Moments.__add__, raw))
    scale = np.outer(spreads, spreads)
    parts = [replace(part, gram=part.gram / scale, cross=part.cross / spreads) for part in raw]
    total, errors = reduce(Moments.__add__, parts), np.zeros(len(PENALTIES))
    for part in parts if len(parts) > 1 else []:
        errors += _errors(part, _ridge(total - part, PENALTIES))
    best = int(np.argmin(errors))
    fitted = _ridge(total, PENALTIES[[best]])[:, 0] / spreads
    return Linear(fitted[1:], float(fitted[0]), float(PENALTIES[best]))


def fit_logistic(X: Features, y: Floats, w: Floats, folds: Ints) -> Linear:
    """Fit a logistic regression, with the penalty of the least log loss of rows (n,) that are left out.

    Args are those of `fit_ridge`. Without both classes nothing is learnt; where no fold can be left out, the
    strongest penalty is taken.
    """
    used = folds != LEFT_OUT
    y, w, folds = y[used], w[used], folds[used]
    if np.ptp(y) == 0:
        return Linear(np.zeros(X.shape[1]), 0.0, float(STRENGTHS[0]))
    scaler = StandardScaler(with_mean=not sp.issparse(X), copy=False)
    scaled = cast(Features, scaler.fit_transform(X[used].astype(np.float64), sample_weight=w))
    losses = np.zeros(len(STRENGTHS))
    for fold in np.unique(folds):
        own = folds == fold
        if np.ptp(y[~own]) == 0:
            continue
        model = LogisticRegression(max_iter=200, warm_start=True)
        for i, strength in enumerate(STRENGTHS):
            _fit(model.set_params(C=strength), scaled[~own], y[~own], w[~own])
            odds = model.decision_function(scaled[own])
            losses[i] += w[own] @ np.logaddexp(0, np.where(y[own] == 1, -odds, odds))
    best = float(STRENGTHS[int(np.argmin(losses))])
    model = _fit(LogisticRegression(max_iter=200, C=best), scaled, y, w)
    coefficients = np.asarray(model.coef_)[0] / np.asarray(scaler.scale_)
    shift = 0.0 if sp.issparse(X) else np.asarray(scaler.mean_) @ coefficients
    return Linear(coefficients, float(np.asarray(model.intercept_)[0] - shift), best)


def _fit(model: LogisticRegression, X: Features, y: Floats, w: Floats) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an AUC needs no last digit
        return model.fit(X, y, sample_weight=w)
