"""JSON: an object a line, or one array of objects."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import IO, Any

import pandas as pd

from hypsae_ray.data.files.encoding import Dialect, open_text
from hypsae_ray.data.files.find import DataFile
from hypsae_ray.errors import InputError

FIRST_ROWS = 10_000
_BLOCK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")
_ABSENT = object()
_TWICE = object()  # the value of a key that occurs twice in its object


def read(
    file: DataFile, dialect: Dialect, columns: Sequence[str], rows_per_frame: int
) -> Iterator[pd.DataFrame]:
    """Yield frames of a file's rows; a key that a later row lacks is null there."""
    with open_text(file, dialect.encoding) as text:
        rows, first = _rows(file, text), 1
        while held := list(islice(rows, rows_per_frame)):
            yield _to_frame(file, held, columns, first)
            first += len(held)


def columns_in(file: DataFile, dialect: Dialect) -> Counter[str]:
    """Return the names in the first rows, 2 for those that occur twice in a row."""
    names: Counter[str] = Counter()
    with open_text(file, dialect.encoding) as text:
        for row in islice(_rows(file, text), FIRST_ROWS):
            names |= Counter({name: 1 + (value is _TWICE) for name, value in _leaves(row)})
    return names


def _leaves(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _rows(file: DataFile, text: IO[str]) -> Iterator[dict[str, Any]]:
    lines = enumerate(text, 1)
    number, line = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    if line.lstrip().startswith("["):
        return _items(file, line.lstrip()[1:], text)
    return _lines(file, chain([(number, line)], lines))


def _lines(file: DataFile, lines: Iterator[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    for number, line in lines:
        if line.strip():
            try:
                row = _DECODER.decode(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{file.path}: line {number} is not JSON (truncated?): {error}") from None
            yield _object(file, f"line {number}", row)


def _items(file: DataFile, buffer: str, text: IO[str]) -> Iterator[dict[str, Any]]:
    """Yield the items of an array; `buffer` is what was read after its bracket."""
    at, number, ended = 0, 1, False
    while True:
        at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
        if buffer.startswith("]", at):
            return
        try:
            row, end = _DECODER.raw_decode(buffer, at)
        except json.JSONDecodeError as error:
            if ended or not _may_be_cut(error, buffer):
                raise InputError(
                    f"{file.path}: item {number} of the array is not JSON (truncated?): {error.msg}"
                ) from None
            more = text.read(max(_BLOCK, len(buffer) - at))
            buffer, at, ended = buffer[at:] + more, 0, not more
            continue
        yield _object(file, f"item {number} of the array", row)
        at, number = end, number + 1


def _may_be_cut(error: json.JSONDecodeError, buffer: str) -> bool:
    """Tell whether more text may complete it: it ends at the end of the buffer, or within a string."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(buffer) - 16


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        row |= {name: _TWICE for name, count in counts.items() if count > 1}
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_to_dict)


def _object(file: DataFile, where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{file.path}: {where} is not a JSON object: {json.dumps(row, default=str)[:60]}")
    return row


def _to_frame(file: DataFile, rows: list[dict[str, Any]], columns: Sequence[str], first: int) -> pd.DataFrame:
    values = {name: [_value(row, name) for row in rows] for name in columns}
    for name, found in values.items():
        if first == 1 and all(value is _ABSENT for value in found):
            raise file.no_column(name, dict.fromkeys(leaf for row in rows for leaf, _ in _leaves(row)))
        if _TWICE in found:
            raise InputError(
                f"{file.path}: row {first + found.index(_TWICE)}: key {name!r} stands twice in its object: "
                "which one is meant? Take out one"
            )
        values[name] = [None if value is _ABSENT else value for value in found]
    return pd.DataFrame(values, dtype=object)


def _value(row: dict[str, Any], name: str) -> Any:
    """Return the value of a key, or of a field of a nested object by its dotted name.

    >>> _value({"user": {"id": 7}}, "user.id"), _value({"user.id": 8, "user": {"id": 7}}, "user.id")
    (7, 8)
    """
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    while dot:
        inner = row.get(head)
        if inner is _TWICE:
            return _TWICE
        if isinstance(inner, dict) and (found := _value(inner, rest)) is not _ABSENT:
            return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return _ABSENT
