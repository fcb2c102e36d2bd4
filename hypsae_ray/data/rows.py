"""What a row of input must be: the columns of the texts table, a reason per bad row, and splits by hash."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.config import Data
from hypsae_ray.data.arrays import Bools, Floats
from hypsae_ray.data.columns import Typed, names, numbers, texts
from hypsae_ray.data.levels import Levels
from hypsae_ray.data.values import Decimals, shown


@dataclass(frozen=True)
class Rows:
    """Rows with their meaning.

    Attributes:
        values: source_id, text, target, group, weight and covariate_NAME, as `schema.texts` has them, and
            text_b, the second text of a pair; indexed as the input was.
        bad: the reason for each row that cannot be used; good rows are not in it.
    """

    values: pd.DataFrame
    bad: "pd.Series[str]"


NO_LEVELS = Levels()
Limit = tuple[Callable[[Floats], Bools], str]
# Field of `schema.texts`, name of the column, values, what is required ("": nothing), limit.
TypedColumn = tuple[str, str, Typed, str, Limit | None]

_WEIGHTS: Limit = (lambda weight: weight > 0, "a weight above 0")
TARGETS: Mapping[str, Limit] = {  # by task
    "classification": (lambda target: np.isin(target, (0.0, 1.0)), "0 or 1"),
    "count": (lambda target: (target >= 0) & (target == np.floor(target)), "a whole number of 0 or more"),
}


def columns_of(options: Data) -> list[str]:
    """Return all columns of a file that are read, each one once."""
    named = (*options.text_columns, options.id, *number_columns(options))
    return list(dict.fromkeys(name for name in named if name is not None))


def number_columns(options: Data) -> list[str]:
    """Return the columns that are read where ids and texts are not."""
    named = (options.target, options.group, options.weight, *options.covariates)
    return list(dict.fromkeys(name for name in named if name is not None))


def read_rows(
    frame: pd.DataFrame,
    options: Data,
    decimal: Decimals = ".",
    levels: Levels = NO_LEVELS,
    *,
    with_texts: bool = True,
) -> Rows:
    """Return what the values of some rows mean, and which rows cannot be used.

    Args:
        frame: untyped values under the input's own column names.
        options: what each column is; task classification needs a target of 0 or 1, count one of 0, 1, 2 ...;
            any other a finite number.
        decimal: of numbers that are texts; see `columns.numbers`.
        levels: of covariates that are categories, which become a column of 0 and 1 for each level but the
            first, and of a target that becomes codes of classes.
        with_texts: read ids and texts too; else the frame may lack their columns.

    >>> frame = pd.DataFrame({"t": ["fine", " "], "y": [1, "2"]})
    >>> read_rows(frame, Data(train="a", holdout="b", text="t", target="y")).bad.to_dict()
    {1: "column 't': the text is missing (' ')"}
    """
    values: dict[str, Any] = {"source_id": None, "group": None, "weight": np.nan}
    reasons = np.full(len(frame), "", dtype=object)
    typed_columns = chain(
        _typed_numbers(frame, options, decimal, levels), _typed_texts(frame, options) if with_texts else ()
    )
    for field, name, typed, required, limit in typed_columns:
        values[field] = typed.values
        found = _reasons(frame[name], typed, required, limit)
        # Of several reasons of a row that of the last column counts.
        reasons[found != ""] = [f"column {name!r}: {reason}" for reason in found[found != ""]]
    bad = pd.Series(reasons, index=frame.index, dtype=object)
    return Rows(pd.DataFrame(values, index=frame.index), cast("pd.Series[str]", bad[bad != ""]))


def _typed_numbers(
    frame: pd.DataFrame, options: Data, decimal: Decimals, levels: Levels
) -> Iterator[TypedColumn]:
    for name in options.covariates:
        numeric = ((name, numbers(frame[name], decimal)),)
        columns = levels.indicators(name, frame[name]) if name in levels.categories else numeric
        for one, typed in columns:
            yield f"covariate_{one}", name, typed, "covariate", None
    if (name := options.weight) is not None:
        yield "weight", name, numbers(frame[name], decimal), "weight", _WEIGHTS
    target = frame[options.target]
    target = levels.codes(target) if levels.classes else numbers(target, decimal)
    yield "target", options.target, target, "target", TARGETS.get(options.task)
    if (name := options.group) is not None:
        yield "group", name, names(frame[name]), "", None


def _typed_texts(frame: pd.DataFrame, options: Data) -> Iterator[TypedColumn]:
    if (name := options.id) is not None:
        yield "source_id", name, names(frame[name]), "id", None
    for field, name in zip(("text", "text_b"), options.text_columns, strict=False):
        yield field, name, texts(frame[name]), "text", None


def _reasons(column: "pd.Series[Any]", typed: Typed, required: str, limit: Limit | None) -> npt.NDArray[Any]:
    """Return why each value cannot be used, (n,); "" where it can."""
    reasons, missing = typed.reasons.to_numpy(copy=True), typed.missing
    blanks = column[missing].tolist()
    reasons[missing] = [f"the {required} is missing{_blank(value)}" if required else "" for value in blanks]
    if limit is not None:
        fits, expected = limit
        wrong = typed.usable & ~fits(typed.values)
        reasons[wrong] = [f"{shown(value)} is not {expected}" for value in column[wrong].tolist()]
    return reasons


def _blank(value: Any) -> str:
    return f" ({shown(value)})" if isinstance(value, str) and value else ""


def text_ids(texts: Iterable[str]) -> list[str]:
    """Return a hash of each whole text (BLAKE2b, 16 bytes, hex): equal texts, equal ids."""
    return [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]


def contents(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return what splits go by, (n,): the text of each row; of a pair both, the same in either order."""
    if "text_b" not in rows:
        return rows["text"]
    pairs = zip(rows["text"], rows["text_b"], strict=True)
    return pd.Series(["\0".join(sorted(pair)) for pair in pairs], index=rows.index, dtype=object)


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
    """Return classification if every target value is 0 or 1, else regression."""
    return "classification" if np.isin(values, (0.0, 1.0)).all() else "regression"
