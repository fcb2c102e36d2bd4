"""JSON, CSV and Parquet files, local or remote, read one bounded frame at a time.

Values are returned as the file has them; `data.columns` decides what they mean.

    find          which files a path means; what their names tell; finding a column by its name
    encoding      in which encoding bytes are text
    csv_file, json_file, parquet_file    one format each: `read` and `columns_in`
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import pandas as pd

from hypsae_ray.data.files import csv_file, encoding, json_file, parquet_file
from hypsae_ray.data.files.encoding import Dialect
from hypsae_ray.data.files.find import DataFile, find_files, reading
from hypsae_ray.errors import InputError

__all__ = ["DataFile", "Dialect", "columns_in", "dialect", "find_files", "read_frames", "remarks"]

ROWS_PER_FRAME = 10_000
_FORMATS = {"csv": csv_file, "json": json_file, "parquet": parquet_file}


def read_frames(file: DataFile, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file in frames of at most ROWS_PER_FRAME, with `columns` only, untyped.

    The index is the row's number in the file, from 1 (for CSV, the header is not counted). A file that is
    one of several may be empty, and yields nothing.

    Raises:
        InputError: the file cannot be read, is truncated, lacks a column or has it twice; or it is the only
            one of its dataset, and empty.
    """
    first = 1
    with reading(file):
        from_folders = {name: value for name, value in file.partitions.items() if name in columns}
        if from_folders and (own := _own_columns(file)):
            from_folders = {name: value for name, value in from_folders.items() if name not in own}
        inside = [name for name in columns if name not in from_folders]
        for frame in _FORMATS[file.format].read(file, dialect(file), inside, ROWS_PER_FRAME):
            frame.index = pd.RangeIndex(first, first + len(frame))
            first += len(frame)
            for name, value in from_folders.items():
                frame[name] = pd.Series([value] * len(frame), index=frame.index, dtype=object)
            yield frame[list(columns)]
    if first == 1 and file.alone:
        raise InputError(f"{file.path}: the file holds no rows")


def columns_in(file: DataFile) -> Counter[str]:
    """Return how often a file has each column; for JSON, by its first rows.

    Nested fields have dotted names; folders such as year=2024/ are columns too.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(file):
        return Counter(dict.fromkeys(file.partitions, 1)) | _own_columns(file)


def _own_columns(file: DataFile) -> Counter[str]:
    return _FORMATS[file.format].columns_in(file, dialect(file))


def dialect(file: DataFile) -> Dialect:
    """Return how a file's bytes become rows: its encoding and delimiter, found or as the user set them.

    Raises:
        InputError: the file cannot be read, or its encoding cannot be determined.
    """
    with reading(file):
        return _dialect(file, file.stamp())


@lru_cache(maxsize=1 << 16)
def _dialect(file: DataFile, _stamp: str) -> Dialect:
    """Return the dialect of a file as it was at its stamp."""
    if file.format == "parquet":
        return Dialect("binary")
    name = encoding.find_encoding(file)
    return Dialect(name, csv_file.find_delimiter(file, name) if file.format == "csv" else None)


def remarks(files: Iterable[DataFile]) -> list[str]:
    """Return a line for each encoding that was found and is not UTF-8: which files were read in it."""
    found: dict[str, list[str]] = {}
    for file in files:
        if file.encoding is None and file.format != "parquet" and not dialect(file).is_utf8:
            found.setdefault(dialect(file).encoding, []).append(file.path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more files' if len(paths) > 1 else ''}: not UTF-8, read as "
        f"{name}; where letters look wrong, set {encoding.SETTING}"
        for name, paths in found.items()
    ]
