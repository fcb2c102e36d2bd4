"""Which rows are labelled, and with which probability each of them was drawn."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hypsae_ray.data.arrays import Bools, Floats, Hashes, Ints, hash_ids

_SECOND = 0x6A09E667F3BCC909  # so that rows that come late in the first wave do not in the second


@dataclass(frozen=True)
class DrawnRows:
    """Rows that were drawn: ids (n,), ascending; the probability of each, and whether by the uniform draw."""

    row_ids: Ints
    probability: Floats
    uniform: Bools

    @classmethod
    def of(cls, row_ids: Ints, probability: Floats) -> "DrawnRows":
        """Take rows that may be named several times, with one probability each."""
        ids, first = np.unique(row_ids, return_index=True)
        chance = probability[first]
        return cls(ids, chance, np.full(len(ids), np.ptp(chance) == 0 if len(ids) else True))

    def positions(self, row_ids: Ints) -> tuple[Bools, Ints]:
        """Return which of some rows (m,) were drawn, and the positions of those here."""
        at = np.minimum(np.searchsorted(self.row_ids, row_ids), max(len(self.row_ids) - 1, 0))
        there = self.row_ids[at] == row_ids if len(self.row_ids) else np.zeros(len(row_ids), dtype=bool)
        return there, at[there]


FOR_PEOPLE = 0x3C6EF372FE94F82B
"""A salt, so that what people label has nothing to do with which rows a model was given."""


def uniform_numbers(row_ids: Ints, salt: int = _SECOND) -> Floats:
    """Return a number of 0 or more and below 1 for each row (n,), the same everywhere.

    A row is drawn if it is below the row's probability. It has nothing to do with the hash of the row, nor
    with the numbers of another salt.
    """
    hashes: Hashes = hash_ids(hash_ids(row_ids).view(np.int64) ^ np.int64(salt))
    return _to_unit(hashes)


def _to_unit(hashes: Hashes) -> npt.NDArray[np.float64]:
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
