"""Find the columns of a design that carry information of their own, and name the others.

Columns are taken in order. One that is a combination of the constant and the columns kept before it cannot
have a coefficient of its own; it is left out and described, and all others keep theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Of the length of a centred column, what must be left outside the span of the others. Columns of zeros and
# ones are integers: real remainders are far larger, rounding leaves about 1e-15 times the number of columns.
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Design:
    """Which columns of a matrix are kept, as positions in ascending order, and why each other one is not."""

    kept: tuple[int, ...]
    dropped: dict[int, str]


def find_independent(columns: Floats, names: Sequence[str]) -> Design:
    """Sort out columns that, beside a constant, depend on earlier ones.

    Args:
        columns: (n, H), finite.
        names: (H,) how each column is called in the reasons ("#3").

    Returns:
        The kept positions, and per dropped position the reason: "it is 0 on every row", "it is the same on
        these rows as #3", "it is the opposite of #3 on these rows", "it is a combination of #1, #2".
    """
    n, width = columns.shape
    basis = np.zeros((n, 0))
    kept: list[int] = []
    dropped: dict[int, str] = {}
    for j in range(width):
        centred = columns[:, j] - columns[:, j].mean() if n else columns[:, j]
        rest = centred - basis @ (basis.T @ centred)
        rest -= basis @ (basis.T @ rest)  # a second pass keeps the basis orthogonal to rounding
        if n and np.linalg.norm(rest) > _TOLERANCE * max(np.linalg.norm(columns[:, j]), 1e-300):
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
            kept.append(j)
        else:
            dropped[j] = _reason(columns, j, kept, names)
    return Design(tuple(kept), dropped)


def _reason(columns: Floats, j: int, kept: list[int], names: Sequence[str]) -> str:
    column = columns[:, j]
    if not len(column):
        return "it has no rows"
    if np.ptp(column) == 0:
        return f"it is {column[0]:g} on every row"
    for other in kept:
        if np.array_equal(column, columns[:, other]):
            return f"it is the same on these rows as {names[other]}"
        if np.array_equal(column, 1 - columns[:, other]):
            return f"it is the opposite of {names[other]} on these rows"
    design = np.column_stack([np.ones(len(column)), columns[:, kept]])
    weights = np.linalg.lstsq(design, column, rcond=None)[0][1:]
    involved = [names[other] for other, weight in zip(kept, weights, strict=True) if abs(weight) > 1e-6]
    return f"it is a combination of {', '.join(involved)}"
