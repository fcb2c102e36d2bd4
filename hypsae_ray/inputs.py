"""Reading what users have: JSONL, CSV and Parquet files, local or remote, one bounded frame at a time.

Values come out as they stand in the file; what they must be is checked in `core.rows`.
"""

import csv
import fnmatch
import hashlib
import io
import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hypsae_ray.artifacts import Folder
from hypsae_ray.errors import ConfigError, InputError

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}
ROWS_PER_FRAME = 10_000


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset."""

    filesystem: pafs.FileSystem
    path: str

    @property
    def format(self) -> str | None:
        """jsonl, csv or parquet by the file's ending (.gz and .zst aside); None if it is none of these."""
        name = self.path.removesuffix(".gz").removesuffix(".zst")
        return next((kind for ending, kind in FORMATS.items() if name.endswith(ending)), None)

    def stamp(self) -> str:
        """Return a name that changes with the file's path, size or time of change."""
        info = self.filesystem.get_file_info(self.path)
        return f"{self.path} {info.size} {info.mtime_ns}"

    def digest(self) -> str:
        """Return the hex SHA-256 of the file's content.

        Raises:
            InputError: the file cannot be read.
        """
        digest = hashlib.sha256()
        try:
            with self.filesystem.open_input_stream(self.path, compression=None) as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {_one_line(error)}") from None
        return digest.hexdigest()


def find_files(place: str) -> list[DataFile]:
    """List the files of a dataset, sorted by path.

    Args:
        place: a file, a glob (** for folders at any depth), or a folder with all below it; a local path or a
            URI. In a folder, what is hidden (. or _ before a name) is left out.

    Raises:
        InputError: there is no such file, none in a format that can be read, or the place cannot be listed.
    """
    try:
        folder = Folder.at(place)
        files = [DataFile(folder.filesystem, path) for path in _paths(folder)]
    except ConfigError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"{place}: cannot be listed: {_one_line(error)}") from None
    if not files:
        raise InputError(f"{place}: no such file or folder, or nothing matches")
    wanted = [file for file in files if file.format]
    if not wanted:
        raise InputError(f"{place}: no JSONL, CSV or Parquet file (endings: {', '.join(FORMATS)})")
    return wanted


def _paths(folder: Folder) -> list[str]:
    if any(sign in folder.path for sign in "*?["):
        fixed = folder.path[: min(folder.path.index(sign) for sign in "*?[" if sign in folder.path)]
        selector = pafs.FileSelector(fixed.rpartition("/")[0], recursive=True, allow_not_found=True)
        found = [info.path for info in folder.filesystem.get_file_info(selector) if info.is_file]
        return sorted(path for path in found if _matches(path, folder.path))
    info = folder.filesystem.get_file_info(folder.path)
    if info.is_file:
        return [folder.path]
    inside = folder.filesystem.get_file_info(
        pafs.FileSelector(folder.path, recursive=True, allow_not_found=True)
    )
    found = [item.path for item in inside if item.is_file]
    return sorted(path for path in found if not _hidden(path.removeprefix(folder.path)))


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _matches(path: str, pattern: str) -> bool:
    """Match part by part: * does not cross a slash, ** stands for any number of folders.

    >>> [_matches(path, "/a/**/*.csv") for path in ("/a/x.csv", "/a/b/c/x.csv", "/b/x.csv")]
    [True, True, False]
    """
    return _match_parts(path.split("/"), pattern.split("/"))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match_parts(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    return (
        bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _match_parts(parts[1:], patterns[1:])
    )


def read_frames(file: DataFile, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file in frames of at most ROWS_PER_FRAME, with `columns` only, untyped.

    The index is the row's number in the file, from 1 (for CSV, the header is not counted).

    Raises:
        InputError: the file cannot be read, is truncated or empty, or lacks a column.
    """
    readers = {"jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}
    first = 1
    try:
        for frame in readers[file.format or ""](file, columns):
            frame.index = pd.RangeIndex(first, first + len(frame))
            first += len(frame)
            yield frame
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"{file.path}: cannot be read: {_one_line(error)}") from None
    if first == 1:
        raise InputError(f"{file.path}: the file holds no rows")


def columns_in(file: DataFile) -> set[str]:
    """Return the names of a file's columns; for JSONL, those of its first lines.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if file.format == "parquet":
            with file.filesystem.open_input_file(file.path) as source:
                return set(pq.ParquetFile(source).schema_arrow.names)
        with _open_text(file) as lines:
            if file.format == "csv":
                return set(next(csv.reader(lines), ()))
            first = (line for line in itertools.islice(lines, ROWS_PER_FRAME) if line.strip())
            return {name for number, line in enumerate(first, 1) for name in _parse_line(file, number, line)}
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"{file.path}: cannot be read: {_one_line(error)}") from None


def _open_text(file: DataFile) -> io.TextIOWrapper:
    stream = file.filesystem.open_input_stream(file.path, compression="detect")
    return io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", newline="")  # type: ignore[arg-type]


def _read_jsonl(file: DataFile, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    first = True
    with _open_text(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_parse_line(file, number, line))
            if len(rows) == ROWS_PER_FRAME:
                yield _rows_to_frame(file, rows, columns, first)
                rows, first = [], False
    if rows:
        yield _rows_to_frame(file, rows, columns, first)


def _parse_line(file: DataFile, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{file.path}: line {number} is not JSON (truncated?): {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{file.path}: line {number} is not a JSON object: {line.strip()[:60]}")
    return row


def _rows_to_frame(file: DataFile, rows: list[dict], columns: Sequence[str], first: bool) -> pd.DataFrame:
    if first:  # later rows may lack a key, which then counts as null
        _require(file, columns, {name for row in rows for name in row})
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns})


def _read_csv(file: DataFile, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    try:
        with _open_text(file) as text:
            frames = pd.read_csv(
                text,
                dtype=str,
                chunksize=ROWS_PER_FRAME,
                na_values=[""],
                keep_default_na=False,
                index_col=False,  # else a comma at the end of each row shifts the columns by one
            )
            while (frame := _next_frame(frames)) is not None:
                _require(file, columns, set(frame.columns))
                yield frame[list(columns)].astype(object)
    except pd.errors.EmptyDataError:
        return
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(f"{file.path}: not a readable CSV: {_one_line(error)}") from None


def _next_frame(frames: Iterator[pd.DataFrame]) -> pd.DataFrame | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        return next(frames, None)


def _read_parquet(file: DataFile, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    with file.filesystem.open_input_file(file.path) as source:
        parquet = pq.ParquetFile(source)
        _require(file, columns, set(parquet.schema_arrow.names))
        wanted = list(dict.fromkeys(columns))
        for batch in parquet.iter_batches(ROWS_PER_FRAME, columns=wanted, use_threads=False):
            yield pd.DataFrame({name: batch.column(name).to_pylist() for name in columns}, dtype=object)


def _require(file: DataFile, columns: Sequence[str], present: set[str]) -> None:
    for name in columns:
        if name not in present:
            raise InputError(
                f"{file.path}: no column {name!r}; it has {', '.join(sorted(map(str, present)))}"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
