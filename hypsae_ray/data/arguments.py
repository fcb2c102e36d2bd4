"""Arguments of functions for notebooks: containers read into columns and tables, values by their meaning.

A function takes any list, Series or array, and refuses anything else in one line: with the name of the
argument, the position (and the label of the index where it differs), the value, and what is expected. Objects
of pandas that belong to one set of rows are matched by their index, all others by position.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hypsae_ray.data import columns
from hypsae_ray.data.arrays import Bools, Floats, Ints, codes_of
from hypsae_ray.errors import InputError

Column = pd.Series  # of any values
SENTENCES = "a list of sentences, or a table with a column 'interpretation' or 'hypothesis'"
TEXTS = "a list, a Series or a 1-D array of texts"
VALUES = "a list, a Series or a 1-D array"
UNFIT = "does not fit"


def column(name: str, values: Any, expected: str = VALUES) -> "pd.Series[Any]":
    """Return the values of a sequence or iterator as a Series, with its index if it has one.

    `expected` says in a message what the argument should be.

    Raises:
        InputError: it is one text or number, bytes, a dict, a set, a table, an open file.

    >>> column("texts", "hello world")
    Traceback (most recent call last):
    hypsae_ray.errors.InputError: texts: expected a list, a Series or a 1-D array, not the text 'hello world'
    """
    if isinstance(values, pd.Series):
        return cast("pd.Series[Any]", values)
    if seen := _no_column(values):
        raise InputError(f"{name}: expected {expected}, not {seen}")
    if isinstance(values, pd.Index | pd.api.extensions.ExtensionArray):
        return pd.Series(cast(Any, values))
    if hasattr(values, "__array__"):
        array = _unmasked(values)
        if array.ndim != 1:
            raise InputError(f"{name}: expected {expected}, not an array of shape {array.shape}")
        return pd.Series(array)
    return pd.Series(list(values), dtype=object)  # as objects, or one None makes floats of whole numbers


def _no_column(values: Any) -> str:
    """Return in words what a value is that is no column; "" if it may be one."""
    kind = type(values).__name__
    if isinstance(values, str):
        return f"the text {columns.shown(values)}"
    if isinstance(values, pd.DataFrame):
        return f"a DataFrame with the columns {columns.shown(values.columns.tolist())}: give one of them"
    if isinstance(values, (Mapping, set, frozenset)):
        return f"a {kind} ({columns.shown(values)})"
    if isinstance(values, bytes | bytearray) or sp.issparse(values):
        return f"a {kind}"
    if hasattr(values, "read"):
        return "an open file: read its lines into a list"
    return "" if isinstance(values, Iterable) else columns.shown(values)


def table(name: str, values: Any, expected: str) -> pd.DataFrame:
    """Return a DataFrame, 2-D array, sparse matrix or list of rows as a DataFrame.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(values, pd.DataFrame):
        return values
    if sp.issparse(values):
        return pd.DataFrame(cast(Any, values).toarray())
    if isinstance(values, pd.Series):
        raise InputError(f"{name}: expected {expected}, not a Series: give series.to_frame()")
    if seen := _no_column(values):
        raise InputError(f"{name}: expected {expected}, not {seen}")
    try:
        array = _unmasked(values if hasattr(values, "__array__") else list(values))
    except ValueError:
        raise InputError(f"{name}: expected {expected}, not rows that differ in length") from None
    if array.ndim != 2:
        raise InputError(f"{name}: expected {expected}, not values of shape {array.shape}")
    return pd.DataFrame(array)


def _unmasked(values: Any) -> npt.NDArray[Any]:
    """Return an array; what a masked one hides is None."""
    if isinstance(values, np.ma.MaskedArray):
        return np.array(cast(Any, values).tolist(), dtype=object)
    return np.asarray(values)


def texts(name: str, values: Any) -> list[str]:
    """Return n texts, each one with something in it.

    Raises:
        InputError: there are none, or some are missing, blank or no text.
    """
    given = column(name, values, TEXTS)
    if given.empty:
        raise InputError(f"{name}: it is empty")
    typed = columns.texts(given)
    refuse(name, given, typed.reasons, "leave such rows out of all that belongs to the texts")
    return typed.values.tolist()


def numbers(
    name: str,
    values: Any,
    expected: str = "a finite number",
    fits: Callable[[Floats], Bools] | None = None,
) -> Floats:
    """Return n numbers; `expected` says in words what each one should be, `fits` which of n are that.

    Raises:
        InputError: some are missing, infinite, no numbers, or do not fit.
    """
    given = column(name, values)
    typed = columns.numbers(given)
    reasons = typed.reasons.to_numpy(object)
    if fits is not None:
        reasons = np.where(typed.usable & ~fits(typed.values), UNFIT, reasons)
    refuse(name, given, reasons, f"expected on each row: {expected}")
    return typed.values


def number_table(name: str, frame: pd.DataFrame) -> Floats:
    """Return the numbers of a table (n, H), NaN where there is none.

    Raises:
        InputError: some values are no numbers.
    """
    values = np.full(frame.shape, np.nan)
    for j, label in enumerate(frame.columns):
        given = frame.iloc[:, j]
        typed = columns.numbers(given)
        reasons = typed.reasons.where(typed.reasons != columns.MISSING, "")
        refuse(f"{name}, column {columns.shown(label)}", given, reasons, "expected a number, or NaN for none")
        values[:, j] = typed.values
    return values


def codes(name: str, values: Any) -> tuple[Ints, int]:
    """Return codes from 0 for the distinct names of n values, and how many are missing.

    Each missing one has a code of its own.

    Raises:
        InputError: some values are no names.
    """
    given = column(name, values)
    positions, distinct = np.arange(len(given)), given
    if given.dtype != object:  # naming the distinct values only: a tenth of the time
        positions, found = pd.factorize(given)
        distinct = pd.Series(found)
    typed = columns.names(distinct)
    reasons = typed.reasons.reset_index(drop=True).reindex(positions, fill_value=columns.MISSING)
    missing = reasons == columns.MISSING
    refuse(name, given, reasons.mask(missing, ""), "give one text or number a row")
    return codes_of(pd.Series(typed.values, dtype=object).reindex(positions)), int(missing.sum())


def vectors(name: str, values: Any) -> npt.NDArray[Any]:
    """Return embeddings or activations as an array (n, d) of floats.

    Raises:
        InputError: it is no table of finite numbers.
    """
    frame = table(name, values, "an array (n, d) of numbers, a row for each text")
    array = values if type(values) is np.ndarray else frame.to_numpy(copy=True)
    if array.dtype.kind not in "fiub":
        array = number_table(name, frame)
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    # Summing finds NaN and infinite values with one number a row in memory.
    bad = ~np.isfinite(array.sum(axis=1, dtype=np.float64))
    refuse_rows(name, bad, frame.index, "it holds NaN or infinite values")
    return array


def refuse(name: str, given: "pd.Series[Any]", reasons: Any, advice: str) -> None:
    """Raise InputError with the `complaint` about the values of an argument, if there is one."""
    if message := complaint(name, given, reasons, advice):
        raise InputError(message)


def complaint(name: str, given: "pd.Series[Any]", reasons: Any, advice: str) -> str:
    """Return in one line how many values cannot be used, where the first is, and why; "" if all can be used.

    Reasons (n,) are in words, "" for none; UNFIT follows the value.
    """
    reasons = np.asarray(reasons, dtype=object)
    bad = reasons != ""
    if not bad.any():
        return ""
    first = int(np.argmax(bad))
    reason, value = str(reasons[first]), given.iloc[first]
    if reason == columns.MISSING:
        reason = f"{columns.shown(value) if isinstance(value, str) else value} is missing"
    elif reason == UNFIT:
        reason = f"{columns.shown(value)} {reason}"
    count = f"{bad.sum():,} of {len(bad):,} values cannot be used, the first at"
    return f"{name}: {count} {where(given.index, first)}: {reason}; {advice}"


def refuse_rows(name: str, bad: Bools, index: "pd.Index[Any]", reason: str) -> None:
    """Raise InputError, which names the first, if any of n rows is bad."""
    if bad.any():
        first = where(index, int(np.argmax(bad)))
        raise InputError(
            f"{name}: {bad.sum():,} of {len(bad):,} rows cannot be used, the first at {first}: {reason}"
        )


def refuse_near_n(name: str, n_levels: int, n: int, advice: str) -> None:
    """Raise InputError if levels have fewer than two rows each on average: most would fit one row exactly."""
    if n_levels > n / 2:
        raise InputError(
            f"{name}: {n_levels:,} categories on {n:,} rows, most with one row each: at most half as many "
            f"can be estimated; {advice}"
        )


def where(index: "pd.Index[Any]", position: int) -> str:
    """Return in words where a row is.

    >>> where(pd.Index([7, 8, 9]), 1), where(pd.RangeIndex(3), 1)
    ('position 1 (index 8)', 'position 1')
    """
    label = index[position]
    return f"position {position}" + ("" if label == position else f" (index {columns.shown(label)})")


def index_of(values: Any) -> "pd.Index[Any] | None":
    """Return the labels of the rows of an object of pandas; None for anything else."""
    return values.index if isinstance(values, pd.Series | pd.DataFrame) else None


@dataclass(frozen=True)
class Rows:
    """The n rows that all arguments of a call are about.

    An index of 0 to n - 1 is what pandas gives to rows that nobody named. So rows 3, 1, 2, 0 and rows
    0, 1, 2, 3 may be the same ones shuffled, or others in the same order: only the user knows.
    """

    owner: str  # the argument that the others are matched with
    n: int
    index: "pd.Index[Any] | None" = None  # their labels

    def take(self, name: str, values: npt.NDArray[Any], index: "pd.Index[Any] | None") -> npt.NDArray[Any]:
        """Return values (n, ...) of an argument in the order of these rows; without an index: by position.

        Raises:
            InputError: its rows are not these, or cannot be matched with certainty.
        """
        if len(values) != self.n:
            raise InputError(f"{name}: {len(values):,} rows, but {self.owner} has {self.n:,}")
        if index is None or self.index is None or index.equals(self.index):
            return values
        if why := self._mismatch(name, index):
            advice = "if both are in the same order, give it as a list or an array, which has none"
            raise InputError(f"{name}: its index is not that of {self.owner}: {why}; {advice}")
        return values[index.get_indexer(self.index)]

    def _mismatch(self, name: str, index: "pd.Index[Any]") -> str:
        assert self.index is not None
        for one, its, other in ((self.owner, self.index, index), (name, index, self.index)):
            absent = ~its.isin(other)
            if absent.any():
                return f"{one} alone has a row {columns.shown(its[int(np.argmax(absent))])}"
            if its.has_duplicates:
                return f"row {columns.shown(its[its.duplicated()][0])} stands twice in {one}"
        plain = pd.RangeIndex(self.n)
        for one, its in ((self.owner, self.index), (name, index)):
            if its.equals(plain):
                return f"{one} has only 0 to {self.n - 1}, and the other has these in another order"
        return ""
