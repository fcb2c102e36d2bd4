"""Forward selection: neuron by neuron, the one that explains most of what is left of the target.

Of neurons that say much the same, such as a broad one and its parts in a Matryoshka, the one that fits best
comes first, and what it has said counts no more for the others.
"""

import numpy as np
import scipy.sparse as sp

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.neurons.given import NOTHING, Given, Left


def forward(columns: sp.csc_matrix, target: Floats, n_select: int, given: Given) -> Ints:
    """Choose columns one after another, each by its partial correlation given those before it.

    It is the one with which least squares leave least of the target.

    Args:
        columns: (n, m).
        target: (n,).
        n_select: number of columns; fewer are chosen if the others are combinations of them.
        given: what is held fixed.

    Returns:
        The columns in the order of choice.
    """
    left, rest = Left.of(columns, given), given.residual(target)
    smallest, whole = NOTHING * (rest @ rest), np.nan_to_num(left.sizes) ** 2
    sizes, basis = whole.copy(), np.zeros((0, len(rest)))
    chosen: list[int] = []
    while len(chosen) < min(n_select, len(sizes)):
        gains = (left.columns.T @ rest) ** 2 / np.where(sizes > NOTHING * whole, sizes, np.inf)
        best = int(np.argmax(gains))
        if gains[best] <= smallest:
            break
        direction = given.residual(columns[:, [best]].toarray().ravel())
        direction = direction - basis.T @ (basis @ direction)
        direction /= np.linalg.norm(direction)
        basis = np.vstack([basis, direction])
        sizes = sizes - (left.columns.T @ direction) ** 2
        sizes[best] = 0
        rest = rest - direction * (direction @ rest)
        chosen.append(best)
    return np.array(chosen, dtype=np.int64)
