"""Does more mean more? The mean target by how strongly a neuron fires, and a test of the trend.

A neuron's sentence says what its texts have. If that is what moves the target, texts that fire more should
move it more. Texts that fire are cut into five parts of equal size by their activation. The trend is the
slope of the target on the rank of the activation among them: a few extreme activations do not decide it.
"""

import math

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import stats

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.regression.design import make_design
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import LabelArray, Sample

BINS = 5
_LEAST = 3 * BINS


def dose_response(
    activations: sp.csc_matrix, target: Floats, groups: Ints | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Describe how the target changes with the activation of each hypothesis's neuron.

    Args:
        activations: (n, H), above 0 where the neuron of a hypothesis fires.
        target: (n,).
        groups: (n,) codes of rows that belong together; None: rows are independent.

    Returns:
        Bins (hypothesis_id, bin, low, high, n, mean, ci_low, ci_high; bin 0 holds the silent texts, 1 the
        weakest fifth of the firing ones), and trends (hypothesis_id, slope, slope_se, slope_ci_low,
        slope_ci_high, slope_pval, verdict). A slope is the change of the mean target from the weakest to the
        strongest text.
    """
    bins: list[dict[str, float]] = []
    trends: list[dict[str, float | str]] = []
    for j in range(activations.shape[1]):
        fired = activations[:, [j]].toarray().ravel().astype(np.float64)
        bins += _bins(j, fired, target, groups)
        trends.append(_trend(j, fired, target, groups))
    bin_columns = ["hypothesis_id", "bin", "low", "high", "n", "mean", "ci_low", "ci_high"]
    return pd.DataFrame(bins, columns=pd.Index(bin_columns)), pd.DataFrame(trends)


def _ranks(values: Floats) -> Floats:
    """Ranks from 0 (the lowest) to 1, ties in the middle of theirs."""
    if len(values) < 2:
        return np.zeros(len(values))
    return (np.asarray(stats.rankdata(values), dtype=np.float64) - 1) / (len(values) - 1)


def _bins(j: int, fired: Floats, target: Floats, groups: Ints | None) -> list[dict[str, float]]:
    firing = fired > 0
    number = np.zeros(len(fired), dtype=np.int64)
    number[firing] = 1 + np.minimum((_ranks(fired[firing]) * BINS).astype(np.int64), BINS - 1)
    rows: list[dict[str, float]] = []
    for one in np.unique(number).tolist():
        inside = number == one
        mean, low, high = _mean(target[inside], None if groups is None else groups[inside])
        strength = fired[inside]
        row = {"hypothesis_id": j, "bin": one, "low": float(strength.min()), "high": float(strength.max())}
        rows.append({**row, "n": int(inside.sum()), "mean": mean, "ci_low": low, "ci_high": high})
    return rows


def _mean(target: Floats, groups: Ints | None) -> tuple[float, float, float]:
    """Mean and its 95 % interval, by t; with groups, the variance is that of sums by group."""
    mean = float(target.mean())
    units = np.arange(len(target)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(units, target - mean)
    n_units = len(sums)
    if n_units < 2:
        return mean, math.nan, math.nan
    se = math.sqrt(float((sums**2).sum()) * n_units / (n_units - 1)) / len(target)
    margin = float(stats.t.ppf(0.975, n_units - 1)) * se
    return mean, mean - margin, mean + margin


def _trend(j: int, fired: Floats, target: Floats, groups: Ints | None) -> dict[str, float | str]:
    firing = fired > 0
    fired, target, groups = fired[firing], target[firing], None if groups is None else groups[firing]
    slope = se = low = high = pval = math.nan
    if len(fired) < _LEAST or (groups is not None and len(np.unique(groups)) < BINS):
        verdict = "too few firing texts"
    elif np.ptp(fired) == 0 or np.ptp(target) == 0:
        verdict = "nothing varies"
    else:
        sample = Sample(LabelArray(_ranks(fired)[:, None]), target, groups)
        design = make_design(sample, np.zeros(1, dtype=np.int64), centred=True)
        (moments,) = sum_moments(design)
        found = fit_joint(design, moments, "HC3" if groups is None else "cluster").estimates
        slope, se, pval = (float(values[1]) for values in (found.value, found.se, found.pval))
        low, high = found.interval(0.95)[1].tolist()
        verdict = "no trend seen" if not pval < 0.05 else "rises" if slope > 0 else "falls"
    row = {"slope": slope, "slope_se": se, "slope_ci_low": low, "slope_ci_high": high, "slope_pval": pval}
    return {"hypothesis_id": j, **row, "verdict": verdict}
