"""Random samples of rows that are the same whenever and wherever they are drawn: by a hash of row ids."""

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def hash_ids(ids: npt.NDArray[np.int64]) -> Hashes:
    """Return a hash of each id (n,): no two ids have the same, and neighbours nothing in common.

    It is the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

    >>> hash_ids(np.array([0])).tolist() == [0xE220A8397B1DCDAF]
    True
    """
    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def largest_drawn(hashes: Hashes, size: int) -> np.uint64:
    """Return the largest of the `size` smallest hashes (n,), n of `size` or more: rows up to it are drawn.

    A larger sample of the same rows holds every smaller one.
    """
    return np.partition(hashes, size - 1)[size - 1]
