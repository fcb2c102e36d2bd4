"""With which probability each row is to be drawn in a further wave, and what all waves come to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.analysis import Analysis
from hypsae_ray.stats.regression.algebra import inverse
from hypsae_ray.stats.regression.likelihood import information
from hypsae_ray.stats.sample import Sample

UNIFORM_SHARE = 0.2
"""Of a wave, what is drawn whatever a row holds: one that looks certain may count 5 times, not 500."""

MARGIN = 1.1
"""By how much smaller half widths are planned than asked for: first rows know variances but roughly."""


def pooled(first: float | Floats, later: Floats) -> Floats:
    """Return the probability (N,) to be in either of two waves that are drawn independently."""
    return first + (1 - first) * later


def allocate(size: Floats, n: float) -> Floats:
    """Return probabilities (N,) in proportion to sizes (N,) of 0 or more, that add up to n rows.

    A fifth is spread evenly. None is above 1: what a row cannot take goes to the others.
    """
    if n >= len(size):
        return np.ones(len(size))
    total = float(size.sum())
    share = np.full(len(size), 1 / len(size))
    if total > 0:
        share *= UNIFORM_SHARE
        share += (1 - UNIFORM_SHARE) / total * size
    # The largest shares are certain; those that are left have their parts of what is left. Only the n largest
    # can be certain.
    largest = -np.sort(-np.partition(share, -max(1, int(n)))[-max(1, int(n)) :])
    left = 1 - np.concatenate([[0.0], np.cumsum(largest)[:-1]])
    certain = int(np.argmin((n - np.arange(len(largest))) * largest > left))
    return np.minimum(share * (n - certain) / left[certain], 1.0)


def spread_of_influence(analysis: Analysis, all_rows: Sample) -> Floats:
    """Return how much is not known of the influence of each row on the hypotheses' coefficients, (N,).

    That is the root of the sum, over hypotheses, of the variance of the row's influence where its label is 1
    with the probability that its proxy says, and all other labels are what theirs say; each in units of the
    variance of the coefficient. Rows whose label is certain have none; nor have those whose target is what
    the model expects with either label. Where fixed effects are absorbed, it is the same for all rows.
    """
    if analysis.design.levels is not None:
        return np.ones(all_rows.n)
    design, family = analysis.design.keep(analysis.fit.columns), analysis.method.family
    beta = analysis.fit.estimates.value * design.scale
    bread, variance = inverse(information(design, family, beta)), analysis.fit.estimates.se**2
    everywhere = replace(design, sample=all_rows, complete=np.ones(all_rows.n, dtype=bool), held=None)
    found = np.zeros(all_rows.n)
    hypotheses = np.flatnonzero(design.hypotheses[design.kept] >= 0)
    for rows in everywhere.rows():
        eta = rows.X @ beta
        columns, moved = rows.X.T.copy(), (rows.X @ bread).T.copy()  # each column in one piece
        for j in hypotheses[variance[hypotheses] > 0]:
            chance, slope, pull = np.clip(columns[j], 0, 1), beta[j], bread[j, j]
            ends = [
                (moved[j] + step * pull) * (rows.y - family.mean(eta + step * slope))
                for step in (1 - columns[j], -columns[j])  # to a label of 1, and of 0
            ]
            found[rows.index] += chance * (1 - chance) * (rows.w * (ends[0] - ends[1])) ** 2 / variance[j]
    return np.sqrt(found)


def rows_for(analysis: Analysis, size: Floats, half_width: float, wanted: Sequence[int] = ()) -> int:
    """Return how many of N rows are to be labelled for 95 % intervals of coefficients of a half width.

    Args:
        analysis: of rows that were drawn with one probability, corrected by proxies.
        size: (N,) by which further rows would be drawn.
        half_width: in units of the coefficients.
        wanted: the hypotheses whose intervals matter; empty: all that have one.
    """
    drawn, phases = analysis.sample.drawn, analysis.phases
    if drawn is None or phases is None:
        return len(size)
    first, n, N = drawn.probability[0], len(drawn.positions), len(size)
    hypotheses = analysis.design.hypotheses[analysis.fit.columns]
    columns = np.flatnonzero(np.isin(hypotheses, list(wanted)) if wanted else hypotheses >= 0)

    def widest(total: int) -> float:
        later = allocate(size, (total - n) / (1 - first)) if total < N else np.ones(N)
        variance = phases.variance(pooled(first, later)[drawn.positions])[columns]
        df = analysis.fit.covariance.df[columns] * total / n
        return float(np.nanmax(stats.t.ppf(0.975, df) * np.sqrt(np.maximum(variance, 0))))

    low, high = n, N
    if not len(columns) or np.isnan(widest(N)):
        return N
    while high - low > max(1, n // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if widest(middle) <= half_width / MARGIN else (middle, high)
    return n if widest(n) <= half_width / MARGIN else high
