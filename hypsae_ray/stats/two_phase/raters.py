"""How labels agree with those of people, on rows of unequal weight."""

from itertools import combinations

import numpy as np

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.prevalence import Values, intervals
from hypsae_ray.stats.sample import Sample, sum_by_group

_Z = 1.959963984540054  # of a normal distribution, for 95 %


def accuracy(truth: Sample, said: Floats, value: int) -> tuple[Floats, Floats]:
    """Return how often labels are right where the truth is a value, (h,), with 95 % intervals (h, 2).

    Sensitivity with a value of 1, specificity with 0. Intervals are Wilson's (1927), of as many independent
    rows as would have the variance of the weighted share, which is that of leaving rows, or groups, out one
    by one; where all are right, or none, of Kish's number.

    Args:
        truth: n rows with the true labels, NaN where there is none; its weights and groups count.
        said: (n, h) labels to be judged, NaN where there is none.
        value: 0 or 1.
    """
    labels = np.concatenate([one for _, one in truth.blocks()])
    judged = (labels == value) & ~np.isnan(said)
    weights = truth.weight(slice(0, truth.n))[:, None] * judged
    found, effective = _share(_by_unit(truth, weights * (said == labels)), _by_unit(truth, weights))
    return found.value, intervals(found, effective)


def _share(right: Floats, weights: Floats) -> tuple[Values, Floats]:
    """Return the share of weights (u, h) that is right (u, h), and Kish's (1965) number of units, (h,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=0)
        share = right.sum(axis=0) / total
        moves = (right - share * weights) / total * _inflation(weights)
        return Values(share, (moves**2).sum(axis=0)), np.nan_to_num(total**2 / (weights**2).sum(axis=0))


def _inflation(weights: Floats) -> Floats:
    """By how much more leaving a unit out changes a mean than its influence says, (u, h): as in HC3."""
    return 1 / np.maximum(1 - weights / weights.sum(axis=0), 1e-12)


def _by_unit(sample: Sample, values: Floats) -> Floats:
    return values if sample.groups is None else sum_by_group(sample.groups, sample.n_groups, values)


def kappas(truth: Sample, said: Floats) -> tuple[Floats, Floats]:
    """Return Cohen's kappa (1960) of labels and the truth, (h,), with 95 % intervals (h, 2).

    The variance is the delta method's, a sum of squared influences of rows, or groups, as leaving each out
    would show them: with many rows of equal weight that of Fleiss, Cohen and Everitt (1969). The interval is
    even on the scale of Fisher's z, atanh(kappa). NaN where kappa is not known; its ends where all labels
    agree. Arguments are those of `accuracy`.
    """
    labels = np.concatenate([one for _, one in truth.blocks()])
    weights = truth.weight(slice(0, truth.n))
    kappa, influence = _kappa(labels, said, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        there = weights[:, None] * ~np.isnan(labels + said)
        moves = _by_unit(truth, np.nan_to_num(influence)) * _inflation(_by_unit(truth, there))
        se = np.sqrt((moves**2).sum(axis=0)) / (1 - kappa**2)
        ends = np.tanh(np.arctanh(kappa)[:, None] + np.array([-_Z, _Z]) * se[:, None])
    known = np.isfinite(se) & (se > 0)
    return kappa, np.where(known[:, None], ends, np.nan)


def _kappa(labels: Floats, said: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return kappa (h,) of two sets of labels (n, h), and the influence of each row on it, (n, h).

    kappa = (o - e) / (1 - e), where o is the share of rows on which they agree, and e = a b + (1 - a)(1 - b)
    that by chance, of the shares a and b of 1 in either.
    """
    there = ~np.isnan(labels) & ~np.isnan(said)
    z, m = np.where(there, labels, 0.0), np.where(there, said, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        w = weights[:, None] * there
        w = w / w.sum(axis=0)
        same = (z == m).astype(np.float64)
        a, b, o = (w * z).sum(axis=0), (w * m).sum(axis=0), (w * same).sum(axis=0)
        e = a * b + (1 - a) * (1 - b)
        kappa = np.where(e < 1 - 1e-12, (o - e) / (1 - e), np.nan)
        moves_e = (z - a) * (2 * b - 1) + (m - b) * (2 * a - 1)
        influence = w * ((same - o) / (1 - e) - (1 - o) / (1 - e) ** 2 * moves_e)
    return kappa, influence


def coder_kappas(sample: Sample, coders: Floats) -> Floats:
    """Return the mean kappa of all pairs of people, (h,), of labels (C, n, h); NaN where no pair has one.

    A pair counts the rows that both have labelled, with their weights in the sample.
    """
    weights = sample.weight(slice(0, sample.n))
    pairs = [_kappa(one, other, weights)[0] for one, other in combinations(coders, 2)]
    found = np.array(pairs).reshape(len(pairs), coders.shape[2])
    n = (~np.isnan(found)).sum(axis=0)
    return np.where(n > 0, np.nansum(found, axis=0) / np.maximum(n, 1), np.nan)
