"""What a value of a user's column means, whatever file, container or dtype it came in.

A CSV knows only texts, JSON only its few types, Parquet and pandas many; one null turns a column of whole
numbers into floats. So values are compared by what they mean, not by how they are stored:

- missing: None, NaN, NaT, pandas' NA, and a text without a visible character;
- a name (id, group, category): a text; 5, 5.0, Decimal(5) and "5.0" are one name, "5"; "007" is another;
- a number: any finite number, or a text that is certainly one; True and yes are 1, False and no are 0;
- a text: as it is.

Every function gives values and, for each one that cannot be used, a reason that shows it. A missing value has
the reason MISSING: whether that is bad depends on the column.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.data.arrays import Bools, Floats
from hypsae_ray.data.values import (
    COMMA,
    MISSING,
    Decimals,
    exact_bits,
    is_missing,
    read_name,
    read_number,
    read_text,
    says_truth,
    shown,
)

__all__ = ["MISSING", "Typed", "is_missing", "names", "numbers", "read_each", "shown", "texts"]


@dataclass(frozen=True)
class Typed:
    """A column with its meaning.

    Attributes:
        values: (n,) float64 for numbers, else str or None; NaN or None where a value cannot be used.
        reasons: (n,) why not, "" where it can; indexed as the column was.
    """

    values: npt.NDArray[Any]
    reasons: "pd.Series[str]"

    @property
    def usable(self) -> Bools:
        """Which values can be used, (n,)."""
        return (self.reasons == "").to_numpy(bool)

    @property
    def missing(self) -> Bools:
        """Which values are missing, (n,)."""
        return (self.reasons == MISSING).to_numpy(bool)

    @property
    def bad(self) -> Bools:
        """Which values are there but cannot be used, (n,)."""
        return ~(self.usable | self.missing)


def names(column: "pd.Series[Any]") -> Typed:
    """Return the names of ids, groups or categories: equal values have equal names in every format.

    >>> values = [5, 5.0, "5.0", np.int8(5), " a ", "007", True, None, [1]]
    >>> names(pd.Series(values, dtype=object)).values.tolist()
    ['5', '5', '5', '5', 'a', '007', 'True', None, None]
    """
    bits = exact_bits(column.dtype)
    return read_each(column, lambda value: read_name(value, bits))


def numbers(column: "pd.Series[Any]", decimal: Decimals = ".") -> Typed:
    """Return the numbers of a column as float64; True and yes are 1, False and no are 0.

    Truth values are numbers only where the column holds nothing but them and 0 and 1.

    Args:
        column: any values.
        decimal: the decimal mark of numbers that are written as texts; the other mark may stand between
            groups of three digits. None: a point, but 1,234 is doubtful and cannot be used; so it is in a
            column with values such as 4,5.

    >>> numbers(pd.Series([5, "1,234.5", True, None, "€ 3"], dtype=object)).values.tolist()
    [5.0, 1234.5, nan, nan, nan]
    """
    if (stored := _stored_numbers(column)) is not None:
        reasons = np.full(len(column), "", dtype=object)
        reasons[np.isnan(stored)] = MISSING
        reasons[np.isinf(stored)] = [f"{value} is not a finite number" for value in stored[np.isinf(stored)]]
        values = np.where(np.isfinite(stored), stored, np.nan)
        return Typed(values, pd.Series(reasons, index=column.index, dtype=object))
    read = read_each(column, lambda value: read_number(value, decimal))
    if decimal == "." and any(COMMA in reason for reason in read.reasons):
        return numbers(column, None)
    values = np.array([math.nan if value is None else value for value in read.values], dtype=np.float64)
    if (words := _stray_words(column, values)).any():
        values[words] = np.nan
        not_numbers = column.map(lambda value: f"{shown(value)} is not a number")
        return Typed(values, read.reasons.mask(words, not_numbers))
    return Typed(values, read.reasons)


def texts(column: "pd.Series[Any]") -> Typed:
    """Return the texts of a column, unchanged.

    >>> texts(pd.Series(["fine", " ", None, 5], dtype=object)).reasons.tolist()
    ['', 'missing', 'missing', '5 is not a text']
    """
    return read_each(column, read_text)


def read_each(column: "pd.Series[Any]", read: Callable[[Any], Any]) -> Typed:
    """Read every value by `read`, which raises ValueError with the reason where it cannot be used."""
    values = np.full(len(column), None, dtype=object)
    reasons = np.full(len(column), "", dtype=object)
    for i, value in enumerate(column.tolist()):
        try:
            values[i] = read(value)
        except ValueError as error:
            reasons[i] = str(error)
    return Typed(values, pd.Series(reasons, index=column.index, dtype=object))


def _stored_numbers(column: "pd.Series[Any]") -> Floats | None:
    """Return the values of a column that holds numbers only, NaN where one is missing; else None."""
    of_numbers = ("integer", "floating", "mixed-integer-float")
    if column.dtype.kind in "biuf" or (
        column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in of_numbers
    ):
        try:
            return column.to_numpy(np.float64, na_value=np.nan)
        except OverflowError:
            return None
    return None


def _stray_words(column: "pd.Series[Any]", values: Floats) -> Bools:
    """Return which values are truth values, if the column also holds numbers other than 0 and 1."""
    stray = np.isin(values, (0, 1))
    if stray[~np.isnan(values)].all():
        return np.zeros(len(values), dtype=bool)
    stray[stray] = [says_truth(value) for value in column[stray].tolist()]
    return stray
