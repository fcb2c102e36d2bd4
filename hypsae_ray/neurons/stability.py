"""Stability: how well a neuron is found again by SAEs trained from other seeds.

SAEs of the same data and sizes, trained from other seeds, share only part of their neurons (Paulo and Belrose
2025, arXiv 2501.16615). A neuron's counterpart in another SAE is the neuron whose activations correlate most
with its own over the training texts; the correlation with it is how well it is found there (Bricken et al.
2023, "Towards Monosemanticity", on the universality of features). Stability is the mean over the other SAEs.
Two neurons may have the same counterpart: of a neuron that another SAE splits, both parts are found.
"""

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

from hypsae_ray.data.arrays import Floats

_COLUMNS = 256  # of the other SAE at a time: bounds the dense block (M, 256)


def stability(activations: sp.csr_matrix, others: Iterable[sp.csr_matrix]) -> Floats:
    """Return how well each neuron is found again by other SAEs, (M,), from 0 to 1; NaN where it never varies.

    Args:
        activations: (n, M) of the SAE whose neurons are looked for.
        others: (n, M') of each of the other SAEs, on the same rows; M' may differ. At least one.
    """
    found = [best_correlation(activations, other) for other in others]
    return np.mean(found, axis=0)


def best_correlation(activations: sp.csr_matrix, other: sp.csr_matrix) -> Floats:
    """Return the highest Pearson correlation of each neuron (M,) with any neuron of another SAE.

    0 where none is positive; NaN for a neuron that has one value on all rows.
    """
    mine, theirs = _standardised(activations), _standardised(other)
    n, best = activations.shape[0], np.zeros(activations.shape[1])
    for start in range(0, other.shape[1], _COLUMNS):
        block = slice(start, start + _COLUMNS)
        products = (mine.T @ theirs[:, block]).toarray() / n
        means = np.outer(np.ravel(mine.mean(axis=0)), np.ravel(theirs[:, block].mean(axis=0)))
        best = np.maximum(best, (products - means).max(axis=1))
    return np.where(np.diff(mine.indptr) > 0, best.clip(0, 1), np.nan)


def _standardised(activations: sp.csr_matrix) -> sp.csc_matrix:
    """Return columns divided by their standard deviation, not centred; empty where that is 0."""
    columns = sp.csc_matrix(activations, dtype=np.float64)
    mean = np.ravel(columns.mean(axis=0))
    squares = np.ravel(columns.multiply(columns).mean(axis=0))
    variance = squares - mean**2
    varies = variance > 1e-12 * squares  # below lies what rounding leaves of a constant column
    scale = np.divide(1, np.sqrt(variance, where=varies), where=varies, out=np.zeros_like(mean))
    scaled = sp.csc_matrix(columns @ sp.diags_array(scale))
    scaled.eliminate_zeros()
    return scaled
