"""What the vectors that users bring mean: lists of numbers, one for each row, all of one length."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.data.values import is_missing, shown

Floats = npt.NDArray[np.float32]
Reasons = npt.NDArray[np.object_]
SKETCH = 8  # numbers that a vector is compared by: its products with so many random directions
SAME = 0.05  # distance, as a share of its length, within which a vector is the same but for rounding


@dataclass(frozen=True)
class Vectors:
    """Vectors of some rows.

    Attributes:
        values: (n, d) float32; what stands where a vector cannot be used means nothing.
        reasons: (n,) str, why a vector cannot be used, "" where it can.
    """

    values: Floats
    reasons: Reasons

    def prepared(self, kept: int, unit: bool, dtype: str) -> "Vectors":
        """Return the first `kept` numbers of each vector, scaled to length 1 if `unit`, as they are stored.

        Args:
            kept: at most d.
            unit: a vector of zeros alone cannot be used then.
            dtype: float32 or float16; a vector that it cannot hold cannot be used.
        """
        values: npt.NDArray[Any] = self.values[:, :kept]
        reasons = self.reasons.copy()
        if unit:
            lengths = np.linalg.norm(values, axis=1, keepdims=True)
            reasons[(lengths[:, 0] == 0) & (reasons == "")] = (
                f"its first {kept} numbers are all 0, which no factor scales to length 1 (embed.normalize)"
            )
            with np.errstate(invalid="ignore"):  # of vectors that are refused
                values = np.divide(values, np.where(lengths == 0, 1, lengths), dtype=np.float32)
        with np.errstate(over="ignore"):
            too_large = ~np.isfinite(values.astype(dtype)).all(axis=1)
        reasons[too_large & (reasons == "")] = f"{dtype} cannot hold it (embed.advanced.store_dtype)"
        return Vectors(values, reasons)


def length_of(column: "pd.Series[Any]") -> int:
    """Return how many numbers the first vector of a column has; 0 if there is none."""
    for value in column.tolist():
        try:
            return len(_numbers(value))
        except ValueError:
            continue
    return 0


def from_column(column: "pd.Series[Any]", length: int) -> Vectors:
    """Return the vectors of a column: lists, arrays, or JSON lists as texts.

    >>> from_column(pd.Series([[3, 4], "[1, 2]", [5], None], dtype=object), 2).reasons.tolist()
    ['', '', '1 numbers, where the first vector has 2', 'the vector is missing']
    """
    values = np.zeros((len(column), length), dtype=np.float32)
    reasons = np.full(len(column), "", dtype=object)
    for i, value in enumerate(column.tolist()):
        try:
            values[i] = _vector(value, length)
        except ValueError as error:
            reasons[i] = str(error)
    return Vectors(values, reasons)


def from_array(array: npt.NDArray[Any]) -> Vectors:
    """Return the rows of an array (n, d) of numbers."""
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    reasons = np.full(len(values), "", dtype=object)
    for i in np.flatnonzero(~np.isfinite(values).all(axis=1)):
        reasons[i] = _not_finite(array[i], values[i])
    return Vectors(values, reasons)


def _vector(value: Any, length: int) -> Floats:
    numbers = _numbers(value)
    if len(numbers) != length:
        raise ValueError(f"{len(numbers)} numbers, where the first vector has {length}")
    with np.errstate(over="ignore"):
        vector = numbers.astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError(_not_finite(numbers, vector))
    return vector


def _numbers(value: Any) -> npt.NDArray[np.float64]:
    """Return the numbers of one value, (k,); raise ValueError with the reason if it holds none."""
    if is_missing(value):
        raise ValueError("the vector is missing")
    try:
        numbers = np.asarray(json.loads(value) if isinstance(value, str) else value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(())
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"{shown(value)} is not a list of numbers, such as [0.1, -0.2]")
    return numbers


def _not_finite(numbers: npt.NDArray[Any], vector: Floats) -> str:
    first = int(np.argmin(np.isfinite(vector)))
    return f"number {first + 1} of the vector is {numbers[first]}, not a finite number of float32"


def sketch(values: Floats) -> Floats:
    """Return (n, SKETCH) numbers that are as far apart as vectors (n, d) are, roughly.

    Of two that differ by their own length, one pair in 10^9 is taken for the same; of two that differ by a
    hundredth of it, none is taken for different.
    """
    directions = np.random.default_rng(0).normal(size=(values.shape[1], SKETCH)) / np.sqrt(SKETCH)
    return (values @ directions).astype(np.float32)


def differing(text_keys: npt.NDArray[np.uint64], sketches: Floats) -> npt.NDArray[np.int64]:
    """Return for each row the first row of the same text if its vector is another, else -1, (n,)."""
    _, first, of = np.unique(text_keys, return_index=True, return_inverse=True)
    firsts = first[of]
    apart = np.linalg.norm(sketches - sketches[firsts], axis=1)
    return np.where(apart > SAME * np.linalg.norm(sketches[firsts], axis=1), firsts, -1).astype(np.int64)
