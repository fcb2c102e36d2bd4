"""Types of arrays, rows per block, and codes of values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


# Rows per block. Whatever is random is drawn block by block, so that results do not hang on where labels are
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
