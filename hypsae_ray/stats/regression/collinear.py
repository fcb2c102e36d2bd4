"""Which columns of the joint model can have a coefficient of their own, and why the others cannot.

Columns are taken in order. One that is a combination of those before it is left out and described; all others
keep their coefficients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.regression.algebra import solve

# Of a column's sum of squares, what must be left outside the span of the others. Sums of zeros and ones are
# exact; one differing row in a million leaves 1e-6 or more, rounding about 1e-15 times the number of columns.
_TOLERANCE = 1e-10
# What rounding leaves, per row, of the square of a column that fixed effects explain.
_NOTHING = 1e-18
# Weights of a combination are whole numbers, or far from 0.
_ROUNDED = 1e-5


@dataclass(frozen=True)
class Independent:
    """Which columns are kept, ascending; why each other one is not, and of which columns it is made up."""

    kept: tuple[int, ...]
    dropped: dict[int, str]
    partners: dict[int, tuple[int, ...]]


def find_independent(gram: Floats, names: Sequence[str], weight: float) -> Independent:
    """Sort out columns that depend on earlier ones.

    Args:
        gram: (k, k) weighted sums of products of the columns, which are of the size of 1.
        weight: sum of the weights.
        names: (k,) how each column is called in the reasons; the first may be "constant".

    Returns:
        The kept positions, and per dropped position the reason, such as "it is the same on these rows as #3".
    """
    kept: list[int] = []
    dropped: dict[int, str] = {}
    partners: dict[int, tuple[int, ...]] = {}
    root = np.zeros((len(gram), len(gram)))
    for j in range(len(gram)):
        k = len(kept)
        above = solve_triangular(root[:k, :k], gram[kept, j], lower=True) if k else np.zeros(0)
        rest = gram[j, j] - above @ above
        if rest > _TOLERANCE * gram[j, j] and gram[j, j] > _NOTHING * weight:
            root[k, :k], root[k, k] = above, np.sqrt(rest)
            kept.append(j)
        else:
            weights = _weights(gram, j, kept) if gram[j, j] > _NOTHING * weight else {}
            offset = weights.pop(0, 0.0) if names[0] == "constant" else None
            partners[j] = tuple(weights)
            dropped[j] = _reason(names[j], offset, {names[i]: one for i, one in weights.items()})
    return Independent(tuple(kept), dropped, partners)


def _weights(gram: Floats, j: int, kept: list[int]) -> dict[int, float]:
    """The columns that make up column j, with their weights."""
    weights = solve(gram[np.ix_(kept, kept)], gram[kept, j]) if kept else np.zeros(0)
    return {i: float(one) for i, one in zip(kept, weights, strict=True) if abs(one) > _ROUNDED}


def _reason(name: str, offset: float | None, weights: dict[str, float]) -> str:
    """Say what a column is: the constant times `offset`, plus the named columns times their weights.

    Without a constant (offset None), it is what fixed effects leave of the column.
    """
    covariate = not name.startswith("#")
    if not weights:
        if offset is None:
            return "it is constant within every level of the fixed effects"
        if not covariate:
            return f"it is {offset:g} on every row"
        # Centred on all rows, it is 0 where it never varies, and another number where rows are left out.
        return "it is constant" + ("" if abs(offset) < _ROUNDED else " on the rows that have every label")
    who, values = ", ".join(weights), np.array(list(weights.values()))
    if len(values) == 1 and (covariate or not who.startswith("#")):
        return f"it is equal to {who}, or a linear function of it"
    offset = offset or 0.0
    if len(values) == 1 and abs(values[0] - 1) < _ROUNDED and abs(offset) < _ROUNDED:
        return f"it is the same on these rows as {who}"
    if len(values) == 1 and abs(values[0] + 1) < _ROUNDED:
        return f"it is the opposite of {who} on these rows"
    if abs(offset - 1) < _ROUNDED and (np.abs(values + 1) < _ROUNDED).all():
        return f"it is the reference level: each row has exactly one of it and {who}"
    return f"it is a combination of {who}"
