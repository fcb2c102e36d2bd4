"""Which hypotheses of two runs say the same: by their sentences, else by their labels of the same texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hypsae_ray.data.arrays import Bools, Floats

LEAST_PHI = 0.5


@dataclass(frozen=True)
class Match:
    """Positions of two hypotheses, one of each run, and how their labels correlate.

    phi is NaN where no text has both labels, or all have the same one.
    """

    first: int
    second: int
    phi: float
    same_sentence: bool


def phi(first: Floats, second: Floats) -> Floats:
    """Return the phi coefficients (H, K) of labels 0 and 1 of the same texts, (n, H) and (n, K).

    Pearson's correlation, that is, over the texts that have both labels. NaN where one column is constant,
    or there is no such text.

    >>> phi(np.array([[1.0], [1], [0], [0]]), np.array([[1.0], [0], [0], [np.nan]])).round(3).tolist()
    [[0.5]]
    """
    (a, known_a), (b, known_b) = _filled(first), _filled(second)
    n = known_a.T @ known_b
    sum_a, sum_b = a.T @ known_b, known_a.T @ b
    squares_a, squares_b = (a * a).T @ known_b, known_a.T @ (b * b)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = n * (a.T @ b) - sum_a * sum_b
        return covariance / np.sqrt((n * squares_a - sum_a**2) * (n * squares_b - sum_b**2))


def _filled(labels: Floats) -> tuple[Floats, Floats]:
    """Return labels with 0 where there is none, and 1 where there is one."""
    known = ~np.isnan(labels)
    return np.where(known, labels, 0.0), known.astype(np.float64)


def match(first: Sequence[str | None], second: Sequence[str | None], phis: Floats) -> list[Match]:
    """Return the matches of H and K hypotheses, in the order of the first ones.

    Equal sentences match, whatever their labels. Of the others the two match of which each is the other's
    best by phi, of LEAST_PHI or more.

    Args:
        first: sentences (H,), None where there is none.
        second: those of the other run, (K,).
        phis: (H, K), NaN where there is none.
    """
    left = np.where(np.isnan(phis), -np.inf, phis)
    found: list[Match] = []
    for i, j in _equal(first, second):
        found.append(Match(i, j, float(phis[i, j]), True))
        left[i, :] = left[:, j] = -np.inf
    if left.size:
        found += [Match(i, j, float(phis[i, j]), False) for i, j in np.argwhere(_best(left)).tolist()]
    return sorted(found, key=lambda one: one.first)


def _equal(first: Sequence[str | None], second: Sequence[str | None]) -> list[tuple[int, int]]:
    """Return positions of equal sentences; of repeated ones the first with the first, and so on."""
    places: dict[str, list[int]] = {}
    for j, sentence in enumerate(second):
        if sentence:
            places.setdefault(sentence, []).append(j)
    return [(i, places[one].pop(0)) for i, one in enumerate(first) if one and places.get(one)]


def _best(phis: Floats) -> Bools:
    """Return which pairs (H, K) are each other's best, of LEAST_PHI or more; of equal ones the first."""
    best = np.zeros(phis.shape, dtype=bool)
    rows = np.arange(len(phis))
    of_rows, of_columns = phis.argmax(axis=1), phis.argmax(axis=0)
    mutual = (of_columns[of_rows] == rows) & (phis[rows, of_rows] >= LEAST_PHI)
    best[rows[mutual], of_rows[mutual]] = True
    return best
