"""The vectors that users bring (`embed.engine: column`), read and checked with the rows they belong to.

They are a column of the data files, or in files of their own: a .npy array, or a column of any data file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.config import Config, Embed
from hypsae_ray.data.columns import names, read_each
from hypsae_ray.data.dataset import SPLITS, Dataset, Reasons, SplitRows
from hypsae_ray.data.files import DataFile, columns_in, find_files, read_frames
from hypsae_ray.data.files.find import reading
from hypsae_ray.data.rows import text_keys
from hypsae_ray.data.values import is_missing, shown
from hypsae_ray.errors import InputError
from hypsae_ray.store.artifacts import Folder

Floats = npt.NDArray[np.float32]
SKETCH = 8  # numbers that a vector is compared by: its products with as many random directions
SAME = 0.05  # distance, as a share of its length, within which a vector is the same but for rounding


@dataclass(frozen=True)
class Vectors:
    """Vectors of some rows."""

    values: Floats  # (n, d); meaningless where a vector cannot be used
    reasons: npt.NDArray[np.object_]  # (n,) str, why a vector cannot be used, "" where it can

    @classmethod
    def from_array(cls, array: npt.NDArray[Any]) -> "Vectors":
        """Return the rows of an array (n, d) of numbers."""
        with np.errstate(over="ignore"):
            values = array.astype(np.float32)
        reasons = np.full(len(values), "", dtype=object)
        for i in np.flatnonzero(~np.isfinite(values).all(axis=1)):
            reasons[i] = _not_finite(array[i], values[i])
        return cls(values, reasons)

    @classmethod
    def from_column(cls, column: "pd.Series[Any]", length: int) -> "Vectors":
        """Return the vectors of a column: lists, arrays, or JSON lists as texts.

        >>> Vectors.from_column(pd.Series([[3, 4], "[1, 2]", [5], None], dtype=object), 2).reasons.tolist()
        ['', '', '1 numbers, where the first vector has 2', 'the vector is missing']
        """
        typed = read_each(column, lambda value: _vector(value, length))
        values = np.zeros((len(column), length), dtype=np.float32)
        for i in np.flatnonzero(typed.usable):
            values[i] = typed.values[i]
        return cls(values, typed.reasons.to_numpy(copy=True))

    def prepared(self, options: Embed, kept: int) -> "Vectors":
        """Return the first `kept` numbers of each vector as they are stored."""
        values, reasons = self.values[:, :kept], self.reasons.copy()
        if options.normalize:
            lengths = np.linalg.norm(values, axis=1, keepdims=True)
            reasons[(lengths[:, 0] == 0) & (reasons == "")] = (
                f"its first {kept} numbers are all 0, which no factor scales to length 1 (embed.normalize)"
            )
            with np.errstate(invalid="ignore"):  # of vectors that are refused
                values = np.divide(values, np.where(lengths == 0, 1, lengths), dtype=np.float32)
        with np.errstate(over="ignore"):
            too_large = ~np.isfinite(values.astype(options.advanced.store_dtype)).all(axis=1)
        reasons[too_large & (reasons == "")] = (
            f"{options.advanced.store_dtype} cannot hold it (embed.advanced.store_dtype)"
        )
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


def _length(column: "pd.Series[Any]") -> int:
    """Return how many numbers the first vector of a column has; 0 if there is none."""
    for value in column.tolist():
        try:
            return len(_numbers(value))
        except ValueError:
            continue
    return 0


@dataclass(frozen=True)
class VectorFiles:
    """All vectors of files of their own."""

    path: str  # as the user named it
    vectors: Vectors  # (N, d)
    ids: pd.Index | None  # (N,) names of the rows they belong to; None: they are in the order of the data

    @classmethod
    def read(cls, path: str, column: str, id_column: str | None) -> "VectorFiles":
        """Read all vectors of a path.

        In data files `column` holds them, and `id_column`, if there is one, the ids of their rows.

        Raises:
            InputError: a file cannot be read, holds no array of vectors, lacks a column, or an id is missing
                or repeated.
        """
        files = find_vector_files(path)
        if not files[0].format:
            return cls(path, _load(files[0]), None)
        keys = [id_column] if id_column and all(id_column in columns_in(file) for file in files) else []
        vectors: list[Vectors] = []
        ids: list[pd.Series] = []
        for file in files:
            for frame in read_frames(file, [*keys, column]):
                length = vectors[0].values.shape[1] if vectors else _length(frame[column])
                vectors.append(Vectors.from_column(frame[column], length))
                ids += [_ids(frame[key], file) for key in keys]
        if not vectors or not vectors[0].values.shape[1]:
            raise InputError(f"{path}: column {column!r} holds no vector")
        values = np.concatenate([part.values for part in vectors])
        reasons = np.concatenate([part.reasons for part in vectors])
        return cls(path, Vectors(values, reasons), _distinct(pd.concat(ids), path) if ids else None)

    def take(self, rows: pd.DataFrame) -> tuple[Vectors, list[str]]:
        """Return the vectors of rows (`schema.texts`) by their ids or numbers, and where each is."""
        found = rows["row_id"] if self.ids is None else self.ids.get_indexer(pd.Index(rows["source_id"]))
        positions = np.asarray(found, dtype=np.int64)
        known = (positions >= 0) & (positions < len(self.vectors.values))
        positions = np.where(known, positions, 0)
        reasons = np.where(known, self.vectors.reasons[positions], "it holds no vector for this row")
        rows_at = zip(positions, known, strict=True)
        where = [f"{self.path}, row {i + 1}" if there else self.path for i, there in rows_at]
        return Vectors(self.vectors.values[positions], reasons), where


def find_vector_files(path: str) -> list[DataFile]:
    """List the files of a path: one .npy, or data files as `find_files` finds them.

    Raises:
        InputError: there is none.
    """
    if not path.lower().endswith(".npy"):
        return find_files(path)
    folder = Folder.at(path)
    return [DataFile(folder.filesystem, folder.path)]


def _load(file: DataFile) -> Vectors:
    with reading(file), file.filesystem.open_input_file(file.path) as source:
        try:
            array = np.load(cast(Any, source), allow_pickle=False)
        except ValueError as error:  # other formats, and arrays of Python objects
            raise InputError(f"{file.path}: cannot be read as an array of numpy: {error}") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        seen = f"one of shape {array.shape} and type {array.dtype}"
        raise InputError(f"{file.path}: an array (n, d) of numbers is needed, not {seen}")
    return Vectors.from_array(array)


def _ids(column: pd.Series, file: DataFile) -> pd.Series:
    found = names(column)
    for row, reason in found.reasons[~found.usable].head(1).items():
        raise InputError(f"{file.path}: column {column.name!r}, row {row}: {reason}")
    return pd.Series(found.values, index=column.index)


def _distinct(ids: pd.Series, path: str) -> pd.Index:
    for row, name in ids[ids.duplicated()].head(1).items():
        raise InputError(f"{path}: row {row}: id {name} has a vector already")
    return pd.Index(ids)


@dataclass(frozen=True)
class OwnVectors:
    """The vectors of a dataset: a column of its files, or files of their own."""

    options: Embed  # what is kept of each vector, and how
    length: int  # numbers in each
    stored: Mapping[str, VectorFiles]  # by source; empty: they are a column of the data

    @classmethod
    def find(cls, config: Config, files: Mapping[str, Sequence[DataFile]]) -> "OwnVectors":
        """Find the vectors of a dataset, by the data files of each source.

        Raises:
            InputError: a file cannot be read, there is no vector, they differ in length between files, or
                have fewer numbers than are to be kept.
        """
        options, data = config.embed, config.data
        paths = options.files.paths if options.files else {}
        stored = {source: VectorFiles.read(path, options.column, data.id) for source, path in paths.items()}
        path = paths.get("train", data.train)
        if stored:
            length = stored["train"].vectors.values.shape[1]
        else:
            frames = (frame for file in files["train"] for frame in read_frames(file, [options.column]))
            length = next(filter(None, (_length(frame[options.column]) for frame in frames)), 0)
        if not length:
            raise InputError(f"{path}: column {options.column!r} holds no vector")
        for other in stored.values():
            if (theirs := other.vectors.values.shape[1]) != length:
                raise InputError(f"{other.path}: vectors of {theirs} numbers, but {path} has {length}")
        if (options.dimensions or 0) > length:
            too_short = f"vectors of {length} numbers, but embed.dimensions is {options.dimensions}"
            raise InputError(f"{path}: {too_short}")
        return cls(options, length, stored)

    @property
    def columns(self) -> list[str]:
        """The columns to read from the data files."""
        return [] if self.stored else [self.options.column]

    @property
    def kept(self) -> int:
        """Numbers that are kept of each vector."""
        return self.options.dimensions or self.length

    def describe(self) -> str:
        """Return in words what the vectors are."""
        paths = ", ".join(stored.path for stored in self.stored.values())
        kept = f", of which the first {self.kept} are kept" if self.kept < self.length else ""
        return f"vectors of {self.length} numbers{kept}, from {paths or f'column {self.options.column!r}'}"

    def read(self, source: str, frame: pd.DataFrame, values: pd.DataFrame) -> Vectors:
        """Return the vectors, ready to be stored, of rows as their files and as `schema.texts` have them."""
        if self.stored:
            found, where = self.stored[source].take(values)
        else:
            found = Vectors.from_column(frame[self.options.column], self.length)
            where = [f"column {self.options.column!r}"] * len(frame)
        ready = found.prepared(self.options, self.kept)
        for i in np.flatnonzero(ready.reasons != ""):
            ready.reasons[i] = f"{where[i]}: {ready.reasons[i]}"
        return ready

    def bad(self, source: str, frame: pd.DataFrame, values: pd.DataFrame, first: int) -> "pd.Series[str]":
        """Return the reasons of rows whose vectors cannot be used; `first` is the number of the first row."""
        numbered = values.assign(row_id=np.arange(first, first + len(frame)))
        reasons = pd.Series(self.read(source, frame, numbered).reasons, index=frame.index)
        return reasons[reasons != ""]

    def of(self, part: SplitRows, dataset: Dataset) -> Floats:
        """Return the vectors (n, d) of rows whose vectors are known to be good."""
        return self.read(dataset.source(part.split), part.source, part.texts).values

    def require_rows(self, source: str, n_rows: int, path: str) -> None:
        """Raise InputError if vectors are in the order of the data, but not as many as its rows."""
        stored = self.stored.get(source)
        if stored is not None and stored.ids is None and (n := len(stored.vectors.values)) != n_rows:
            raise InputError(
                f"{stored.path}: {n} vectors, but {path} has {n_rows} rows: one for each row is needed, in "
                "their order, for rows that are left out too"
            )

    def differing(self, dataset: Dataset) -> dict[str, Reasons]:
        """Return by source the rows whose text an earlier row has with another vector."""
        keys, sketches, rows = [], [], []
        for part in dataset.read(SPLITS, self.columns):
            keys.append(text_keys(part.texts["text_id"]))
            sketches.append(sketch(self.of(part, dataset)))
            rows += [(dataset.source(part.split), part.path, row) for row in part.texts.index]
        found: dict[str, dict[str, dict[int, str]]] = {}
        firsts = differing(np.concatenate(keys), np.concatenate(sketches))
        for i in np.flatnonzero(firsts >= 0):
            (source, path, row), (_, other, first) = rows[i], rows[firsts[i]]
            reason = f"its text is that of row {first} of {other}, but its vector is another"
            found.setdefault(source, {}).setdefault(path, {})[row] = reason
        return {
            source: {path: pd.Series(reasons, dtype=object) for path, reasons in by_file.items()}
            for source, by_file in found.items()
        }


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
