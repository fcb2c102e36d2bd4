"""Reading what users have: JSON, CSV and Parquet files, local or remote, one bounded frame at a time.

Values come out as they stand in the file; what they mean is decided in `data.columns`.

    files      which files a place means, what their names say, their bytes
    text       in which encoding bytes are text
    csv_file   CSV: delimiter, header, strict quoting
    json_file  JSON lines and arrays
    parquet_file
    names      which column a name means: by itself, or by the parts of a dotted name
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import pandas as pd

from hypsae_ray.data.files import csv_file, json_file, parquet_file, text
from hypsae_ray.data.files.find import DataFile, find_files, reading
from hypsae_ray.data.files.text import Dialect
from hypsae_ray.errors import InputError

__all__ = ["DataFile", "Dialect", "columns_in", "dialect", "find_files", "read_frames", "remarks"]

ROWS_PER_FRAME = 10_000


def read_frames(file: DataFile, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file in frames of at most ROWS_PER_FRAME, with `columns` only, untyped.

    The index is the row's number in the file, from 1 (for CSV, the header is not counted). A part of a
    dataset may be empty, and yields nothing.

    Raises:
        InputError: the file cannot be read, is truncated, lacks a column or has it twice; or it is the only
            one of its dataset, and empty.
    """
    first = 1
    with reading(file):
        folders = _from_folders(file, columns)
        inside = [name for name in columns if name not in folders]
        for frame in _frames(file, inside):
            frame.index = pd.RangeIndex(first, first + len(frame))
            first += len(frame)
            for name, value in folders.items():
                frame[name] = pd.Series([value] * len(frame), index=frame.index, dtype=object)
            yield frame[list(columns)]
    if first == 1 and file.alone:
        raise InputError(f"{file.path}: the file holds no rows")


def _from_folders(file: DataFile, columns: Sequence[str]) -> dict[str, str | None]:
    """Return the columns that the file's folders hold (year=2024/) and the file itself does not."""
    named = {name: value for name, value in file.keys.items() if name in columns}
    own = _own_columns(file) if named else ()
    return {name: value for name, value in named.items() if name not in own}


def _frames(file: DataFile, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    if file.format == "parquet":
        return parquet_file.read(file, columns, ROWS_PER_FRAME)
    read = csv_file.read if file.format == "csv" else json_file.read
    return read(file, dialect(file), columns, ROWS_PER_FRAME)


def columns_in(file: DataFile) -> Counter[str]:
    """Return how often each name stands among a file's columns; for JSON, those of its first rows.

    Nested fields have dotted names; the folders of a file (year=2024/) name columns too.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(file):
        return Counter(dict.fromkeys(file.keys, 1)) | _own_columns(file)


def _own_columns(file: DataFile) -> Counter[str]:
    if file.format == "parquet":
        return parquet_file.columns_in(file)
    columns_of = csv_file.columns_in if file.format == "csv" else json_file.columns_in
    return columns_of(file, dialect(file))


def dialect(file: DataFile) -> Dialect:
    """Return how a file's bytes become rows: its encoding and delimiter, found or as the user set them.

    Raises:
        InputError: the file cannot be read, or its encoding cannot be told.
    """
    with reading(file):
        return _dialect(file, file.stamp())


@lru_cache(maxsize=1 << 16)
def _dialect(file: DataFile, _stamp: str) -> Dialect:
    """Return the dialect of a file as it was at its stamp."""
    if file.format == "parquet":
        return Dialect("binary")
    encoding = text.find_encoding(file)
    return Dialect(encoding, csv_file.find_delimiter(file, encoding) if file.format == "csv" else None)


def remarks(files: Iterable[DataFile]) -> list[str]:
    """Return, in a line per encoding, which files are not UTF-8 and what they were taken for."""
    found: dict[str, list[str]] = {}
    for file in files:
        if file.encoding is None and file.format != "parquet" and not dialect(file).is_utf8:
            found.setdefault(dialect(file).encoding, []).append(file.path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more files' if len(paths) > 1 else ''}: not UTF-8, read as "
        f"{encoding}; where letters look wrong, set {text.SETTING}"
        for encoding, paths in found.items()
    ]
