"""What a row of input must be: the columns of the texts table, a reason per bad row, and splits by hash."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.data.arrays import Bools, Floats
from hypsae_ray.data.columns import Typed, names, numbers, texts
from hypsae_ray.data.values import Decimals, shown


@dataclass(frozen=True)
class Columns:
    """Which column of the input fills which column of `schema.texts`."""

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


@dataclass(frozen=True)
class Rows:
    """Rows with their meaning.

    Attributes:
        values: source_id, text, target, group, weight and covariate_NAME, as `schema.texts` has them; indexed
            as the input was.
        bad: the reason for each row that cannot be used; good rows are not in it.
    """

    values: pd.DataFrame
    bad: "pd.Series[str]"


Limit = tuple[Callable[[Floats], Bools], str]

_WEIGHTS: Limit = (lambda weight: weight > 0, "a weight above 0")
_TARGETS: Mapping[str, Limit] = {
    "classification": (lambda target: np.isin(target, (0.0, 1.0)), "0 or 1"),
    "count": (lambda target: (target >= 0) & (target == np.floor(target)), "a whole number of 0 or more"),
}


def read_rows(frame: pd.DataFrame, columns: Columns, *, task: str, decimal: Decimals = ".") -> Rows:
    """Return what the values of some rows mean, and which rows cannot be used.

    Args:
        frame: untyped values under the input's own column names.
        columns: what each column of the input is.
        task: classification needs a target of 0 or 1, count one of 0, 1, 2 ...; any other a finite number.
        decimal: of numbers that are texts; see `columns.numbers`.

    >>> frame = pd.DataFrame({"t": ["fine", " "], "y": [1, "2"]})
    >>> read_rows(frame, Columns("t", "y"), task="auto").bad.to_dict()
    {1: "column 't': the text is missing (' ')"}
    """
    rows = _Reader(frame)
    for name in columns.covariates:
        rows.take(f"covariate_{name}", name, numbers(frame[name], decimal), required="covariate")
    if columns.weight is not None:
        rows.take("weight", columns.weight, numbers(frame[columns.weight], decimal), "weight", _WEIGHTS)
    rows.take("target", columns.target, numbers(frame[columns.target], decimal), "target", _TARGETS.get(task))
    if columns.group is not None:
        rows.take("group", columns.group, names(frame[columns.group]))
    if columns.id is not None:
        rows.take("source_id", columns.id, names(frame[columns.id]), required="id")
    rows.take("text", columns.text, texts(frame[columns.text]), required="text")
    reasons = pd.Series(rows.reasons, index=frame.index, dtype=object)
    bad = cast("pd.Series[str]", reasons[reasons != ""])
    return Rows(pd.DataFrame(rows.values, index=frame.index), bad)


class _Reader:
    """Rows that are read a column at a time: of several reasons of a row the last one counts."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.values: dict[str, Any] = {"source_id": None, "group": None, "weight": np.nan}
        self.reasons = np.full(len(frame), "", dtype=object)

    def take(
        self, field: str, name: str, typed: Typed, required: str = "", limit: Limit | None = None
    ) -> None:
        """Take the values of a column.

        Args:
            field: of `schema.texts`.
            name: of the column.
            typed: its values.
            required: what they are, in words; "": they may be missing.
            limit: which numbers can be used, and what they are in words.
        """
        self.values[field] = typed.values
        column = self._frame[name]
        self._note(name, typed.bad, typed.reasons[typed.bad].tolist())
        if required:
            blanks = column[typed.missing].tolist()
            self._note(name, typed.missing, [f"the {required} is missing{_blank(value)}" for value in blanks])
        if limit is not None:
            fits, expected = limit
            wrong = typed.usable & ~fits(typed.values)
            self._note(name, wrong, [f"{shown(value)} is not {expected}" for value in column[wrong].tolist()])

    def _note(self, name: str, where: Bools, reasons: list[str]) -> None:
        self.reasons[where] = [f"column {name!r}: {reason}" for reason in reasons]


def _blank(value: Any) -> str:
    return f" ({shown(value)})" if isinstance(value, str) and value else ""


def text_ids(texts: Iterable[str]) -> list[str]:
    """Return a hash of each whole text (BLAKE2b, 16 bytes, hex): equal texts, equal ids."""
    return [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]


def text_keys(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return 8 bytes of each of n text ids: two of 10^7 texts share them once in 370,000 datasets."""
    return np.array([int(text_id[:16], 16) for text_id in ids], dtype=np.uint64)


def few_texts(n_rows: int, distinct: int) -> bool:
    """Tell whether texts repeat so much that rows are no measure of evidence.

    Below half, a typical text occurs twice or more, and the variance of a mean can be twice what rows alone
    say; with fewer than 30 distinct texts, errors that are robust to the repeats are too small as well
    (Cameron and Miller 2015, section VI).
    """
    return distinct < n_rows and (distinct < n_rows / 2 or distinct < 30)


def in_validation(ids: list[str], fraction: float) -> Bools:
    """Split `text_ids` by hash: about `fraction` of the texts are True, equal texts always on one side."""
    return _below(ids, slice(0, 8), fraction)


def in_holdout(ids: list[str], fraction: float) -> Bools:
    """Split `text_ids` of texts or of names of groups, independently of `in_validation`: by other bits."""
    return _below(ids, slice(8, 16), fraction)


def _below(ids: list[str], digits: slice, fraction: float) -> Bools:
    return np.array([int(text_id[digits], 16) < fraction * 2**32 for text_id in ids], dtype=bool)


def guess_task(values: Floats) -> Literal["regression", "classification"]:
    """Return classification if every target value is 0 or 1, else regression.

    Args:
        values: the distinct target values of all splits, or all of them.
    """
    return "classification" if np.isin(values, (0.0, 1.0)).all() else "regression"
