"""Proxies of labels: what embeddings and neurons say a label will be, learned from the rows that have one.

Every row, labelled or not, belongs to one of five folds, and its proxy is made by the labels of the other
four. So a proxy knows nothing of the row's own label, and a fold's labelled and other rows have proxies of
one and the same model: they differ by chance alone, which is what corrected estimates rest on.

The model of a fold has two steps:

1. Ridge regression of all labels on the embeddings; the penalty of each hypothesis is the one with the least
   error of leaving rows out one by one, which has a closed form (Golub, Heath and Wahba 1979).
2. Logistic regression of the label on that score, as it is for a row left out, on how strongly the neuron of
   the hypothesis fires, and on what a cheaper model says. It puts them on the scale of a probability (Platt
   1999), and is where they are weighed against each other.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from hypsae_ray.data.arrays import Floats, Hashes, Ints

FOLDS = 5
PENALTIES = np.logspace(-3, 3, 13)
"""Of ridge, in units of the mean square of the embeddings' directions."""
SUREST = 0.001
"""P(yes) of a cheaper model closer to 0 or 1 counts as this."""
LEAST = 4
"""Labels of either kind from which on anything is learned; below, a proxy is the prevalence."""


def folds_of(hashes: Hashes) -> Ints:
    """Return the fold (n,) of rows by hashes (n,) of what belongs together: a group, or a text."""
    return (hashes % np.uint64(FOLDS)).astype(np.int64)


@dataclass(frozen=True)
class Clues:
    """What is known of rows without any label.

    Attributes:
        embeddings: (n, d); None: not used.
        activations: (n, H) of the neuron of each hypothesis; None: not used.
        p_yes: (n, H) of a cheaper model; None: there is none.
    """

    embeddings: Floats | None = None
    activations: Floats | None = None
    p_yes: Floats | None = None

    def rows(self, which: Ints) -> "Clues":
        """Return those of some rows."""
        return Clues(*(None if part is None else part[which] for part in self._parts))

    @property
    def n(self) -> int:
        """Rows."""
        return next(len(part) for part in self._parts if part is not None)

    @property
    def _parts(self) -> tuple[Floats | None, Floats | None, Floats | None]:
        return self.embeddings, self.activations, self.p_yes

    def columns(self, scores: Floats | None, j: int) -> Floats:
        """Return what logistic regression reads of a hypothesis, (n, 1 to 4).

        Its scores (n, H) by ridge regression, whether its neuron fires, and how strongly; and the log odds of
        p_yes, which one that is nearly 0 or 1 ends at.
        """
        columns = [] if scores is None else [scores[:, j]]
        if self.activations is not None:
            fires = np.maximum(self.activations[:, j], 0)
            columns += [(fires > 0).astype(np.float64), np.log1p(fires)]
        if self.p_yes is not None:
            columns.append(logit(np.clip(self.p_yes[:, j], SUREST, 1 - SUREST)))
        return np.column_stack(columns)


@dataclass(frozen=True)
class _Ridge:
    """Coefficients (d, H) on embeddings less their mean (d,), and the mean label (H,)."""

    centre: Floats
    weights: Floats
    mean: Floats

    def scores(self, embeddings: Floats) -> Floats:
        """Return the score of each hypothesis, (n, H)."""
        return self.mean + (embeddings - self.centre) @ self.weights


@dataclass(frozen=True)
class Model:
    """Proxies of one fold: a ridge regression, and per hypothesis the logistic regression after it."""

    ridge: _Ridge | None
    logistic: Sequence[Floats]

    def predict(self, clues: Clues) -> Floats:
        """Return proxies (n, H), from 0 to 1."""
        scores = None
        if self.ridge is not None and clues.embeddings is not None:
            scores = self.ridge.scores(clues.embeddings)
        found = np.zeros((clues.n, len(self.logistic)))
        for j, (constant, *slopes) in enumerate(self.logistic):
            found[:, j] = expit(constant + clues.columns(scores, j) @ np.array(slopes))
        return found


def fill(values: Floats) -> Floats:
    """Return values (n, H) with the mean of their column where they are NaN; 0 where all are."""
    known = ~np.isnan(values)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, values, mean)


def learn(clues: Clues, labels: Floats, folds: Ints) -> list[Model]:
    """Return the model of each fold, from labelled rows outside of it.

    Args:
        clues: of n labelled rows.
        labels: (n, H) 0 or 1, NaN where there is none.
        folds: (n,) of these rows.
    """
    others = (np.flatnonzero(folds != fold) for fold in range(FOLDS))
    return [_learn(clues.rows(rows), labels[rows]) for rows in others]


def predict(models: Sequence[Model], clues: Clues, folds: Ints) -> Floats:
    """Return proxies (n, H) of rows in folds (n,), each by the model of its own."""
    found = np.zeros((len(folds), len(models[0].logistic)))
    for fold, model in enumerate(models):
        mine = np.flatnonzero(folds == fold)
        found[mine] = model.predict(clues.rows(mine))
    return found


def _learn(clues: Clues, labels: Floats) -> Model:
    ridge, scores = (None, None) if clues.embeddings is None else _fit_ridge(clues.embeddings, labels)
    return Model(ridge, [_fit_logistic(clues.columns(scores, j), one) for j, one in enumerate(labels.T)])


def _fit_ridge(embeddings: Floats, labels: Floats) -> tuple[_Ridge, Floats]:
    """Return the regression, and each row's score by one that was fitted without it, (n, H).

    A label that is missing counts as the mean of the others.
    """
    n, known = len(labels), ~np.isnan(labels)
    mean = np.where(known, labels, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    rest, centre = np.where(known, labels - mean, 0.0), embeddings.mean(axis=0)
    U, s, Vt = np.linalg.svd(embeddings - centre, full_matrices=False)
    inside = U.T @ rest
    penalties = PENALTIES * max(float((s**2).mean()), 1e-300)
    weights, scores = np.zeros((embeddings.shape[1], labels.shape[1])), np.zeros_like(rest)
    least = np.full(labels.shape[1], np.inf)
    for penalty in penalties[::-1]:  # the strongest first: it stays where nothing is better
        shrunk = s**2 / (s**2 + penalty)
        own = np.minimum((U**2) @ shrunk + 1 / n, 1 - 1e-9)[:, None]
        without = (U @ (shrunk[:, None] * inside) - own * rest) / (1 - own)
        error = (np.where(known, rest - without, 0.0) ** 2).sum(axis=0)
        better = error < least
        least = np.where(better, error, least)
        scores[:, better] = without[:, better]
        weights[:, better] = (Vt.T @ ((s / (s**2 + penalty))[:, None] * inside))[:, better]
    return _Ridge(centre, weights, mean), mean + scores


def _fit_logistic(columns: Floats, label: Floats) -> Floats:
    """Return the constant and the slopes (1 + columns,): of the prevalence alone where labels are few."""
    known = ~np.isnan(label)
    yes = int((label == 1).sum())
    n = int(known.sum())
    if min(yes, n - yes) < LEAST:
        share = (yes + 0.5) / (n + 1)
        return np.append(np.log(share / (1 - share)), np.zeros(columns.shape[1]))
    spread = columns[known].std(axis=0)
    scale = np.where(spread > 1e-12, spread, np.inf)
    model = LogisticRegression(C=1.0, solver="newton-cholesky")  # of 4 columns at the most
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(columns[known] / scale, label[known])
    return np.append(model.intercept_, model.coef_[0] / scale)
