"""Prevalence: the share of texts with a property, weighted, with its interval."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.sample import GROUP_BYTES, Sample, add_by_group, slices


@dataclass(frozen=True)
class Values:
    """An estimate of each hypothesis, and its variance: (H,) each."""

    value: Floats
    variance: Floats


def prevalences(sample: Sample) -> Values:
    """Return the share of texts with each property; for pairs of texts, of those that differ in it.

    Rows of one group are not independent, as in cluster-robust errors: the variance is the sum of the squares
    of what groups add to the share less its mean, times G / (G - 1).
    """
    n_units, has, there, squares = _sums(sample)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = has / there
        # Sum of (a - p b)^2 over units of which a has the property, of b with a label.
        spread = squares[0] - 2 * share * squares[1] + share**2 * squares[2]
        return Values(share, np.maximum(spread, 0) / there**2 * n_units / (n_units - 1))


def _sums(sample: Sample) -> tuple[Floats, Floats, Floats, Floats]:
    """Units with a label, weights with the property, with a label, and their products, (H,) and (3, H)."""
    n_hypotheses = sample.n_hypotheses
    if sample.groups is None:
        total = np.zeros((6, n_hypotheses))
        for rows, labels in sample.blocks():
            w = sample.weight(rows)
            has, there = np.abs(np.nan_to_num(labels)), (~np.isnan(labels)).astype(np.float64)
            ones, squares = np.stack([np.ones_like(w), w]), w**2
            total[:2] += ones @ there
            total[2] += w @ has
            total[3] += squares @ has
            total[5] += squares @ there
        total[4] = total[3]
        return total[0], total[2], total[1], total[3:]
    parts = [
        _by_group(sample, columns) for columns in slices(n_hypotheses, 16 * sample.n_groups, GROUP_BYTES)
    ]
    n, has, there, squares = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return n, has, there, squares


def _by_group(sample: Sample, columns: slice) -> tuple[Floats, Floats, Floats, Floats]:
    assert sample.groups is not None
    has, there = np.zeros((2, sample.n_groups, columns.stop - columns.start))
    for rows, labels in sample.blocks():
        w, mine = sample.weight(rows)[:, None], labels[:, columns]
        add_by_group(has, sample.groups[rows], w * np.abs(np.nan_to_num(mine)))
        add_by_group(there, sample.groups[rows], w * ~np.isnan(mine))
    products = np.stack([(a * b).sum(axis=0) for a, b in ((has, has), (has, there), (there, there))])
    return (there > 0).sum(axis=0).astype(np.float64), has.sum(axis=0), there.sum(axis=0), products


def intervals(found: Values, n: Floats, df: Floats | float = np.inf) -> Floats:
    """Return the ends (H, 2) of 95 % intervals, from n (H,) labels: Wilson's (1927).

    Of as many independent texts as would have this variance; of n where it is 0. Where few rows of unequal
    weight say what the variance is, of fewer, by the squared ratio of the normal quantile to that of a t
    distribution of df (H,) degrees of freedom (Korn and Graubard 1998).
    """
    share = np.clip(found.value, 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        count = np.where(found.variance > 0, share * (1 - share) / found.variance, n)
    count = np.where(count > 0, count, np.where(n > 0, n, np.nan))
    count = count * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, np.maximum(df, 1))) ** 2
    return np.column_stack(proportion_confint(share * count, count, 0.05, "wilson"))
