"""Vectors in files of their own, next to the data: .npy, or a column of any data file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from hypsae_ray.data.columns import names
from hypsae_ray.data.files import columns_in, read_frames
from hypsae_ray.data.files.find import DataFile, find_files, reading
from hypsae_ray.data.own_vectors import Vectors, from_array, from_column, length_of
from hypsae_ray.errors import InputError
from hypsae_ray.store.artifacts import Folder


@dataclass(frozen=True)
class Stored:
    """The vectors of one place.

    Attributes:
        place: as the user named it.
        vectors: (N, d), all of them.
        ids: (N,) names of the rows they belong to; None: they are in the order of the data.
    """

    place: str
    vectors: Vectors
    ids: pd.Index | None


def find_vector_files(place: str) -> list[DataFile]:
    """List the files of a place: one .npy, or data files as `find_files` finds them.

    Raises:
        InputError: there is none.
    """
    if not place.lower().endswith(".npy"):
        return find_files(place)
    folder = Folder.at(place)
    return [DataFile(folder.filesystem, folder.path)]


def read_vectors(place: str, column: str, id_column: str | None) -> Stored:
    """Read all vectors of a place.

    Args:
        place: a .npy file, or data files.
        column: that holds the vectors, in data files.
        id_column: that holds the id of the row that a vector belongs to, if the files have it.

    Raises:
        InputError: a file cannot be read, holds no array of vectors, lacks a column, or an id is none or
            stands twice.
    """
    files = find_vector_files(place)
    if files[0].format is None:
        return Stored(place, _load(files[0]), None)
    by_id = id_column is not None and all(id_column in columns_in(file) for file in files)
    return _read_tables(place, files, column, id_column if by_id else None)


def _load(file: DataFile) -> Vectors:
    with reading(file), file.filesystem.open_input_file(file.path) as source:
        try:
            array = np.load(cast(Any, source), allow_pickle=False)
        except ValueError as error:  # other formats, and arrays of Python objects
            raise InputError(f"{file.path}: cannot be read as an array of numpy: {error}") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{file.path}: wanted is an array (n, d) of numbers, not one of shape {array.shape} and type "
            f"{array.dtype}"
        )
    return from_array(array)


def _read_tables(place: str, files: Sequence[DataFile], column: str, id_column: str | None) -> Stored:
    wanted = [column] if id_column is None else [id_column, column]
    parts: list[Vectors] = []
    ids: list[pd.Series] = []
    for file in files:
        for frame in read_frames(file, wanted):
            length = parts[0].values.shape[1] if parts else length_of(frame[column])
            parts.append(from_column(frame[column], length))
            if id_column is not None:
                ids.append(_ids(frame[id_column], f"{file.path}: column {id_column!r}"))
    if not parts or not parts[0].values.shape[1]:
        raise InputError(f"{place}: column {column!r} holds no vector")
    whole = Vectors(
        np.concatenate([part.values for part in parts]), np.concatenate([part.reasons for part in parts])
    )
    return Stored(place, whole, _distinct(pd.concat(ids), place) if ids else None)


def _ids(column: pd.Series, where: str) -> pd.Series:
    found = names(column)
    for row, reason in found.reasons[~found.usable].head(1).items():
        raise InputError(f"{where}, row {row}: {reason}")
    return pd.Series(found.values, index=column.index)


def _distinct(ids: pd.Series, place: str) -> pd.Index:
    for row, name in ids[ids.duplicated()].head(1).items():
        raise InputError(f"{place}: row {row}: id {name} has a vector already")
    return pd.Index(ids)
