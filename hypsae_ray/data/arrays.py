"""Types of arrays, rows per block, codes of values, and samples of rows by hash."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]

# Rows per block. Random numbers are drawn block by block, so that results do not depend on where labels are
# stored; 65,536 rows of 50 labels are 26 MB.
BLOCK_ROWS = 65_536


def codes_of(values: "pd.Series[Any]") -> Ints:
    """Return codes from 0 for distinct values (n,); each missing value is one of its own.

    >>> codes_of(pd.Series(["b", "a", None, "b", None])).tolist()
    [0, 1, 2, 0, 3]
    """
    codes, distinct = pd.factorize(values)
    missing = codes < 0
    codes = codes.astype(np.int64)
    codes[missing] = len(distinct) + np.arange(int(missing.sum()))
    return codes


def hash_ids(ids: Ints) -> Hashes:
    """Return a hash of each id (n,), the same everywhere: no two ids share one, neighbours are unrelated.

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
