"""numpy's `solve` and `inv`, typed: of float64 arrays they return float64, which its stubs do not say."""

import numpy as np

from hypsae_ray.data.arrays import Floats


def solve(matrix: Floats, right: Floats) -> Floats:
    """Return x of matrix x = right; raise LinAlgError if the matrix is singular."""
    return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)


def inverse(matrix: Floats) -> Floats:
    """Return the inverse; raise LinAlgError if the matrix is singular."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
