"""Linear algebra of small symmetric systems, in double precision."""

import numpy as np

from hypsae_ray.data.arrays import Floats


def solve(matrix: Floats, right: Floats) -> Floats:
    """Return the solution x of matrix x = right.

    Raises:
        LinAlgError: the matrix is singular.
    """
    return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)


def inverse(matrix: Floats) -> Floats:
    """Return the inverse.

    Raises:
        LinAlgError: the matrix is singular.
    """
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
