"""The vectors that users bring (`embed.engine: column`), read and checked with the rows they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hypsae_ray.config import Config, Embed
from hypsae_ray.data import own_vectors
from hypsae_ray.data.files import DataFile, read_frames
from hypsae_ray.data.files.vector_file import Stored, read_vectors
from hypsae_ray.data.own_vectors import Vectors
from hypsae_ray.data.splits import SPLITS, Dataset, Part, Reasons
from hypsae_ray.errors import InputError


@dataclass(frozen=True)
class OwnVectors:
    """Where the vectors of a dataset stand: in a column of its files, or in files of their own.

    Attributes:
        options: what is kept of each vector, and how.
        length: numbers in each.
        stored: those of files of their own, by source; empty: they stand in the column `options.column`.
    """

    options: Embed
    length: int
    stored: Mapping[str, Stored]

    @classmethod
    def find(cls, config: Config, files: Mapping[str, Sequence[DataFile]]) -> "OwnVectors":
        """Find the vectors of a dataset, by the data files of each source.

        Raises:
            InputError: a file cannot be read, there is no vector, they differ in length between files, or
                have fewer numbers than are to be kept.
        """
        options, data = config.embed, config.data
        places = options.files.places if options.files else {}
        stored = {source: read_vectors(place, options.column, data.id) for source, place in places.items()}
        place = places.get("train", data.train)
        length = (
            stored["train"].vectors.values.shape[1] if stored else _length(files["train"], options.column)
        )
        if not length:
            raise InputError(f"{place}: column {options.column!r} holds no vector")
        for other in stored.values():
            if (theirs := other.vectors.values.shape[1]) != length:
                raise InputError(f"{other.place}: vectors of {theirs} numbers, but {place} has {length}")
        if (options.dimensions or 0) > length:
            raise InputError(
                f"{place}: vectors of {length} numbers, but embed.dimensions is {options.dimensions}"
            )
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
        places = ", ".join(stored.place for stored in self.stored.values())
        kept = f", of which the first {self.kept} are kept" if self.kept < self.length else ""
        return f"vectors of {self.length} numbers{kept}, from {places or f'column {self.options.column!r}'}"

    def read(self, source: str, frame: pd.DataFrame, values: pd.DataFrame) -> Vectors:
        """Return the vectors of some rows of a source, ready to be stored.

        Args:
            source: train, val or holdout.
            frame: the rows as they stand in the data files.
            values: their meaning, `schema.texts`.
        """
        if self.stored:
            found, places = _look_up(self.stored[source], values)
        else:
            found = own_vectors.from_column(frame[self.options.column], self.length)
            places = [f"column {self.options.column!r}"] * len(frame)
        ready = found.prepared(self.kept, self.options.normalize, self.options.advanced.store_dtype)
        for i in np.flatnonzero(ready.reasons != ""):
            ready.reasons[i] = f"{places[i]}: {ready.reasons[i]}"
        return ready

    def bad(self, source: str, frame: pd.DataFrame, values: pd.DataFrame, first: int) -> "pd.Series[str]":
        """Return the reasons of rows whose vectors cannot be used; `first` is the number of the first row."""
        numbered = values.assign(row_id=np.arange(first, first + len(frame)))
        reasons = pd.Series(self.read(source, frame, numbered).reasons, index=frame.index)
        return reasons[reasons != ""]

    def of(self, part: Part, dataset: Dataset) -> np.ndarray:
        """Return the vectors (n, d) of rows whose vectors are known to be good."""
        return self.read(dataset.source(part.split), part.source, part.texts).values

    def require_rows(self, source: str, n_rows: int, place: str) -> None:
        """Refuse vectors that are in the order of the data, but not as many as its rows.

        Raises:
            InputError: so it is.
        """
        stored = self.stored.get(source)
        if stored is None or stored.ids is not None:
            return
        if (n := len(stored.vectors.values)) != n_rows:
            wanted = "one for each row, in their order, for rows that are left out too"
            raise InputError(
                f"{stored.place}: {n} vectors, but {place} has {n_rows} rows: wanted is {wanted}"
            )

    def differing(self, dataset: Dataset) -> dict[str, Reasons]:
        """Return by source the rows whose text stood before with another vector."""
        keys, sketches, places = [], [], []
        for part in dataset.read(SPLITS, self.columns):
            keys.append(np.array([int(text_id[:16], 16) for text_id in part.texts["text_id"]], np.uint64))
            sketches.append(own_vectors.sketch(self.of(part, dataset)))
            places += [(dataset.source(part.split), part.path, row) for row in part.texts.index]
        found: dict[str, dict[str, dict[int, str]]] = {}
        firsts = own_vectors.differing(np.concatenate(keys), np.concatenate(sketches))
        for row in np.flatnonzero(firsts >= 0):
            source, path, number = places[row]
            _, other, its = places[firsts[row]]
            reason = f"its text is that of row {its} of {other}, but its vector is another"
            found.setdefault(source, {}).setdefault(path, {})[number] = reason
        return {
            source: {path: pd.Series(rows, dtype=object) for path, rows in by_file.items()}
            for source, by_file in found.items()
        }


def _length(files: Sequence[DataFile], column: str) -> int:
    lengths = (
        own_vectors.length_of(frame[column]) for file in files for frame in read_frames(file, [column])
    )
    return next(filter(None, lengths), 0)


def _look_up(stored: Stored, rows: pd.DataFrame) -> tuple[Vectors, list[str]]:
    """Return the vectors of rows by their ids, or by their numbers, and where they stand."""
    found = rows["row_id"] if stored.ids is None else stored.ids.get_indexer(pd.Index(rows["source_id"]))
    places = np.asarray(found, dtype=np.int64)
    there = (places >= 0) & (places < len(stored.vectors.values))
    places = np.where(there, places, 0)
    reasons = np.where(there, stored.vectors.reasons[places], "it holds no vector for this row")
    named = [
        f"{stored.place}, row {i + 1}" if own else stored.place for i, own in zip(places, there, strict=True)
    ]
    return Vectors(stored.vectors.values[places], reasons), named
