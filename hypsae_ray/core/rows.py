"""What a row of input must be: checks that give a reason per bad row, and the columns of the texts table."""

import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Which column of the input plays which part; the names of schema.texts are filled from them."""

    text: str
    target: str
    id: str | None = None
    group: str | None = None
    covariates: tuple[str, ...] = ()
    weight: str | None = None

    @property
    def names(self) -> list[str]:
        """All columns that are read, each one once."""
        optional = [name for name in (self.id, self.group, self.weight) if name is not None]
        return list(dict.fromkeys([self.text, self.target, *optional, *self.covariates]))


def find_bad_rows(frame: pd.DataFrame, columns: Columns, *, task: str) -> "pd.Series[str]":
    """Return the reason for each row that cannot be used, indexed like `frame`; good rows are not in it.

    Args:
        frame: untyped values under the input's own column names.
        columns: the part each column plays.
        task: classification wants a target of 0 or 1, count one of 0, 1, 2 ...; any other a finite number.

    >>> frame = pd.DataFrame({"t": ["fine", " "], "y": [1, 2]})
    >>> find_bad_rows(frame, Columns("t", "y"), task="auto").to_dict()
    {1: "column 't': the text is empty"}
    """
    reasons: pd.Series[str] = pd.Series("", index=frame.index, dtype=object)
    for name in columns.covariates:
        _note(reasons, ~np.isfinite(to_numbers(frame[name])), f"column {name!r}: not a finite number")
    if columns.weight is not None:
        weight = to_numbers(frame[columns.weight])
        unusable = ~(np.isfinite(weight) & (weight > 0))
        _note(reasons, unusable, f"column {columns.weight!r}: not a weight above 0")
    _note_targets(reasons, frame[columns.target], columns.target, task)
    if columns.id is not None:
        absent = frame[columns.id].map(_is_missing).to_numpy(bool)
        _note(reasons, absent, f"column {columns.id!r}: the id is missing")
    _note_texts(reasons, frame[columns.text], columns.text)
    return reasons[reasons != ""]


def _note_targets(reasons: "pd.Series[str]", values: "pd.Series[Any]", name: str, task: str) -> None:
    target = to_numbers(values)
    if task == "classification":
        _note(reasons, ~np.isin(target, (0.0, 1.0)), f"column {name!r}: not 0 or 1")
    if task == "count":
        whole = (target >= 0) & (target == np.floor(target))
        _note(reasons, ~whole, f"column {name!r}: not a whole number of 0 or more")
    _note(reasons, ~np.isfinite(target), f"column {name!r}: not a finite number")
    _note(reasons, values.map(_is_missing).to_numpy(bool), f"column {name!r}: the target is missing")


def bad_texts(texts: "pd.Series[Any]", name: str) -> "pd.Series[str]":
    """Return for each value of the column `name` why it is no usable text; "" where it is one."""
    reasons: pd.Series[str] = pd.Series("", index=texts.index, dtype=object)
    _note_texts(reasons, texts, name)
    return reasons


def _note_texts(reasons: "pd.Series[str]", texts: "pd.Series[Any]", name: str) -> None:
    is_text = texts.map(lambda value: isinstance(value, str)).to_numpy(bool)
    blank = texts.map(lambda value: isinstance(value, str) and not value.strip()).to_numpy(bool)
    broken = texts.map(lambda value: isinstance(value, str) and not _is_encodable(value)).to_numpy(bool)
    _note(reasons, broken, f"column {name!r}: the text holds a lone surrogate, which is not Unicode text")
    _note(reasons, blank, f"column {name!r}: the text is empty")
    _note(reasons, ~is_text, f"column {name!r}: the value is not a text")
    _note(reasons, texts.map(_is_missing).to_numpy(bool), f"column {name!r}: the text is null")


def _note(reasons: "pd.Series[str]", bad: npt.NDArray[np.bool_], reason: str) -> None:
    """Later notes win: call it from the least to the most telling reason."""
    reasons[bad] = reason


def _is_missing(value: Hashable) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_numbers(values: "pd.Series[Any]") -> Floats:
    """Return float64 values, NaN where a value is no number; True and False are 1 and 0."""
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def text_ids(texts: "pd.Series[str]") -> list[str]:
    """Return a hash of each whole text (BLAKE2b, 16 bytes, hex): equal texts, equal ids."""
    return [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]


def in_validation(ids: list[str], fraction: float) -> npt.NDArray[np.bool_]:
    """Split by hash: about `fraction` of the texts are True, equal texts always on the same side.

    Args:
        ids: what `text_ids` returned.
        fraction: share of texts, in 0 to 1.
    """
    return _below(ids, slice(0, 8), fraction)


def in_holdout(ids: list[str], fraction: float) -> npt.NDArray[np.bool_]:
    """Split as `in_validation` does, but independently of it: by other bits of the hash.

    Args:
        ids: what `text_ids` returned for the texts, or for the names of their groups.
        fraction: share of ids, in 0 to 1.
    """
    return _below(ids, slice(8, 16), fraction)


def _below(ids: list[str], digits: slice, fraction: float) -> npt.NDArray[np.bool_]:
    return np.array([int(text_id[digits], 16) < fraction * 2**32 for text_id in ids], dtype=bool)


def guess_task(values: Floats) -> Literal["regression", "classification"]:
    """Return classification if every target value is 0 or 1, else regression.

    Args:
        values: the distinct target values of all splits, or all of them.
    """
    return "classification" if np.isin(values, (0.0, 1.0)).all() else "regression"
