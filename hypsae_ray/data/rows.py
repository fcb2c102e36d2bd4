"""What a row of input must be: the columns of the texts table, a reason per bad row, and splits by hash."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.data.columns import Bools, Floats, Typed, names, numbers, texts
from hypsae_ray.data.values import Decimals, shown


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


def read_rows(frame: pd.DataFrame, columns: Columns, *, task: str, decimal: Decimals = ".") -> Rows:
    """Return what the values of some rows mean, and which rows cannot be used.

    Args:
        frame: untyped values under the input's own column names.
        columns: the part each column plays.
        task: classification wants a target of 0 or 1, count one of 0, 1, 2 ...; any other a finite number.
        decimal: of numbers that are texts; see `columns.numbers`.

    >>> frame = pd.DataFrame({"t": ["fine", " "], "y": [1, "2"]})
    >>> read_rows(frame, Columns("t", "y"), task="auto").bad.to_dict()
    {1: "column 't': the text is missing (' ')"}
    """
    reading = _Reading(frame)
    for name in columns.covariates:
        reading.take(f"covariate_{name}", name, numbers(frame[name], decimal), "covariate")
    reading.take_limited("weight", columns.weight, decimal, (lambda weight: weight > 0, "a weight above 0"))
    reading.take_limited("target", columns.target, decimal, _TARGETS.get(task))
    for part, name, wanted in (("group", columns.group, ""), ("source_id", columns.id, "id")):
        if name is not None:
            reading.take(part, name, names(frame[name]), wanted)
    reading.take("text", columns.text, texts(frame[columns.text]), "text")
    return reading.rows()


Limit = tuple[Callable[[Floats], Bools], str]

_TARGETS: Mapping[str, Limit] = {
    "classification": (lambda target: np.isin(target, (0.0, 1.0)), "0 or 1"),
    "count": (lambda target: (target >= 0) & (target == np.floor(target)), "a whole number of 0 or more"),
}


class _Reading:
    """Rows that are being read, a column at a time: of the reasons of a row the last one counts."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._values: dict[str, Any] = {"source_id": None, "group": None, "weight": np.nan}
        self._reasons = np.full(len(frame), "", dtype=object)

    def take(self, part: str, name: str, typed: Typed, wanted: str) -> None:
        """Take the values of a column; `wanted` is what a row cannot do without, "" if it can."""
        self._values[part] = typed.values
        self._note(name, typed.bad, typed.reasons[typed.bad].tolist())
        if wanted:
            blanks = self._frame[name][typed.missing].tolist()
            self._note(name, typed.missing, [f"the {wanted} is missing{_blank(value)}" for value in blanks])

    def take_limited(self, part: str, name: str | None, decimal: Decimals, limit: Limit | None) -> None:
        """Take a column of numbers of which not all will do."""
        if name is None:
            return
        typed = numbers(self._frame[name], decimal)
        self.take(part, name, typed, part)
        if limit is not None:
            fits, wanted = limit
            wrong = typed.usable & ~fits(typed.values)
            values = self._frame[name][wrong].tolist()
            self._note(name, wrong, [f"{shown(value)} is not {wanted}" for value in values])

    def _note(self, name: str, where: Bools, reasons: list[str]) -> None:
        self._reasons[where] = [f"column {name!r}: {reason}" for reason in reasons]

    def rows(self) -> Rows:
        """Return what was read."""
        reasons = pd.Series(self._reasons, index=self._frame.index, dtype=object)
        bad = cast("pd.Series[str]", reasons[reasons != ""])
        return Rows(pd.DataFrame(self._values, index=self._frame.index), bad)


def _blank(value: Any) -> str:
    return f" ({shown(value)})" if isinstance(value, str) and value else ""


def text_ids(of: Iterable[str]) -> list[str]:
    """Return a hash of each whole text (BLAKE2b, 16 bytes, hex): equal texts, equal ids."""
    return [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in of]


def few_texts(n_rows: int, distinct: int) -> bool:
    """Tell whether texts repeat so much that rows are no measure of evidence.

    Below half, a typical text stands twice or more, and the variance of a mean can be twice what rows alone
    say; with fewer than 30 distinct texts, errors that are robust to the repeats are too small as well
    (Cameron and Miller 2015, section VI).
    """
    return distinct < n_rows and (distinct < n_rows / 2 or distinct < 30)


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
