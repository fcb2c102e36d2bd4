"""Which hypotheses say the same: agreement of their labels, groups of near-copies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.sample import Sample

# From this correlation of labels on, two hypotheses are near-copies; from the lower one on, a pair is listed.
NEAR_COPY = 0.8
LISTED = 0.5


@dataclass(frozen=True)
class Agreement:
    """How the labels of hypotheses agree, (H, H) each, over the rows that have both labels.

    Attributes:
        n: rows.
        phi: correlation of labels (for 0 and 1, the phi coefficient); NaN where one does not vary.
        kappa: Cohen's kappa (1960).
    """

    n: Floats
    phi: Floats
    kappa: Floats

    def groups(self) -> Ints:
        """Return a number per hypothesis, (H,): the same for near-copies, 0 for those that have none."""
        alike = np.nan_to_num(np.abs(self.phi)) >= NEAR_COPY
        np.fill_diagonal(alike, True)
        _, part = connected_components(sp.csr_matrix(alike.astype(np.int8)), directed=False)
        several = np.bincount(part) > 1
        return np.where(several, np.cumsum(several), 0)[part]

    def pairs(self) -> pd.DataFrame:
        """Return the pairs with a phi beyond 0.5 either way, the closest first.

        Columns: first, second (positions), phi, kappa, n.
        """
        first, second = np.triu_indices(len(self.phi), 1)
        close = np.nan_to_num(np.abs(self.phi[first, second]))
        listed = np.flatnonzero(close >= LISTED)
        listed = listed[np.argsort(-close[listed], kind="stable")]
        first, second = first[listed], second[listed]
        columns = {name: getattr(self, name)[first, second] for name in ("phi", "kappa", "n")}
        return pd.DataFrame({"first": first, "second": second, **columns})


def agreement(sample: Sample, values: Sequence[int]) -> Agreement:
    """Compare the labels of all pairs of hypotheses, in one reading.

    Raises:
        ValueError: a label is none of `values`.
    """
    H = sample.n_hypotheses
    n, xy, same = (np.zeros((H, H)) for _ in range(3))
    by_value = np.zeros((len(values), H, H))
    for _, labels in sample.blocks():
        absent = np.isnan(labels)
        known, filled = (~absent).astype(np.float64), np.where(absent, 0.0, labels)
        n += known.T @ known
        xy += filled.T @ filled
        for i, value in enumerate(values):
            has = (labels == value).astype(np.float64)
            same += has.T @ has
            by_value[i] += has.T @ known
    if (np.diagonal(by_value, axis1=1, axis2=2).sum(axis=0) != np.diag(n)).any():
        one_of = ", ".join(map(str, values))
        raise ValueError(f"labels must be {one_of} or NaN: apply the threshold to probabilities first")
    x, xx = (np.tensordot(np.power(values, k), by_value, axes=1) for k in (1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = xy / n - (x / n) * (x.T / n)
        variance = np.maximum(xx / n - (x / n) ** 2, 0)
        phi = covariance / np.sqrt(variance * variance.T)
        by_chance = sum((share / n) * (share.T / n) for share in by_value)
        kappa = (same / n - by_chance) / (1 - by_chance)
    return Agreement(n, np.where(np.isfinite(phi), phi, np.nan), np.where(np.isfinite(kappa), kappa, np.nan))
