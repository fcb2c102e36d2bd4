"""The neurons of a Matryoshka SAE as a tree: from prefix to prefix, by the texts on which they fire together.

A neuron that a longer prefix adds stands below the neuron of the prefix before it that fires on the largest
share of its texts, if that is a third of them or more; else it begins a tree of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from hypsae_ray.data.arrays import Floats, Ints

LEAST_OVERLAP = 1 / 3


@dataclass(frozen=True)
class NeuronTree:
    """Where each of M neurons stands: (M,) each.

    Attributes:
        level: the first prefix that holds it, from 0.
        parent: the neuron above it, or -1.
        overlap: share of its texts on which the parent fires too.
        share: share of all texts on which it fires.
    """

    level: Ints
    parent: Ints
    overlap: Floats
    share: Floats


def neuron_tree(fired: sp.csr_matrix, prefix_lengths: Sequence[int]) -> NeuronTree:
    """Place the neurons of activations (n, M); M is a multiple of the longest prefix if SAEs are several.

    >>> fired = sp.csr_matrix([[1.0, 0, 2], [3, 0, 4], [0, 5, 6], [0, 7, 0]])
    >>> tree = neuron_tree(fired, [2, 3])
    >>> tree.parent.tolist(), tree.overlap.round(2).tolist(), tree.share.tolist()
    ([-1, -1, 0], [0.0, 0.0, 0.67], [0.5, 0.5, 0.75])
    """
    n, n_neurons = fired.shape
    ends = np.array(sorted(prefix_lengths), dtype=np.int64)
    within = np.arange(n_neurons) % ends[-1]
    level = np.searchsorted(ends, within, side="right")
    ones = sp.csc_matrix(fired, copy=True)
    ones.eliminate_zeros()
    ones.data = np.ones_like(ones.data)
    times = np.asarray(ones.sum(axis=0), dtype=np.float64).ravel()
    parent, overlap = np.full(n_neurons, -1, dtype=np.int64), np.zeros(n_neurons)
    for first in range(0, n_neurons, int(ends[-1])):
        for begin, end in pairwise(ends):
            above, mine = ones[:, first : first + begin], ones[:, first + begin : first + end]
            together = np.asarray((mine.T @ above).todense(), dtype=np.float64)
            shares = together / np.maximum(times[first + begin : first + end, None], 1)
            best = shares.argmax(axis=1)
            most = shares[np.arange(len(best)), best]
            found = most >= LEAST_OVERLAP
            parent[first + begin : first + end] = np.where(found, first + best, -1)
            overlap[first + begin : first + end] = np.where(found, most, 0.0)
    return NeuronTree(level, parent, overlap, times / max(n, 1))
