"""Stored annotations as labels for the statistics: read block by block, never all at once."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hypsae_ray.answers import matrix
from hypsae_ray.artifacts import Folder
from hypsae_ray.core.sample import BLOCK_ROWS
from hypsae_ray.errors import InputError
from hypsae_ray.schema import USABLE, Status
from hypsae_ray.stages.annotate import to_labels

ANNOTATIONS = "annotations-"
LATEST = "latest.json"


def find_annotations(place: str) -> Folder:
    """Return the folder of the annotations at a place: those right there, or those of the last job in it.

    Raises:
        InputError: there are none.
    """
    out = Folder.at(place)
    named = out.read_json(LATEST)["annotations"] if out.has(LATEST) else "annotations"  # as 0.1.0 had it
    for folder in (out, out.sub(named)):
        if folder.names(ANNOTATIONS, ".parquet"):
            return folder
    raise InputError(f"{place}: there are no annotations here")


@dataclass(frozen=True)
class StoredLabels:
    """The annotations of a folder, a `core.sample.Labels`.

    Attributes:
        folder: where annotations-*.parquet are.
        threshold: P(yes) from which a text counts as labelled yes: one, or (H,) one per hypothesis.
    """

    folder: Folder
    threshold: float | np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and hypotheses."""
        return self._shape

    @cached_property
    def _shape(self) -> tuple[int, int]:
        names = self._names()
        rows = sum(self.folder.count_rows(name) for name in names)
        with self.folder.open(names[0]) as file:
            width = pq.ParquetFile(file).schema_arrow.field("p_yes").type.list_size
        return rows, width

    def row_ids(self) -> np.ndarray:
        """Return which row of the data each row of labels is about, (n,)."""
        return np.concatenate(
            [self.folder.read_table(name, ["row_id"])["row_id"].to_numpy() for name in self._names()]
        )

    def unasked(self) -> int:
        """Return how many pairs of row and hypothesis a mask left out."""
        tables = (self.folder.read_table(name, ["status"]) for name in self._names())
        return sum(int((matrix(table, "status") == Status.UNASKED).sum()) for table in tables)

    def has_degrees(self) -> bool:
        """Return whether any P(yes) is neither 0 nor 1: it is a threshold that makes a label of it."""
        return any(bool(((p_yes > 0) & (p_yes < 1)).any()) for _, p_yes in self.tables())

    def hypotheses(self) -> list[str | None] | None:
        """Return the sentence of each column, as `hypsae annotate` wrote them; None: none are there."""
        if not self.folder.has("hypotheses.csv"):
            return None
        table = pd.read_csv(io.BytesIO(self.folder.read_bytes("hypotheses.csv")), keep_default_na=False)
        return [sentence or None for sentence in table["hypothesis"].astype(str)]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield labels of 0, 1 and NaN, BLOCK_ROWS at a time whatever the size of files."""
        held: list[np.ndarray] = []
        waiting = 0
        for _, p_yes in self.tables():
            labels = to_labels(p_yes, self.threshold)
            while waiting + len(labels) >= BLOCK_ROWS:
                cut = BLOCK_ROWS - waiting
                yield np.concatenate([*held, labels[:cut]]) if held else labels[:cut]
                held, waiting, labels = [], 0, labels[cut:]
            if len(labels):
                held.append(labels)
                waiting += len(labels)
        if held:
            yield np.concatenate(held)

    def _names(self) -> list[str]:
        return self.folder.names(ANNOTATIONS, ".parquet")

    def tables(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield row ids (m,) and P(yes) (m, H) of one file after another, NaN where there is no label."""
        for name in self._names():
            table = self.folder.read_table(name, ["row_id", "p_yes", "status"])
            status = matrix(table, "status")
            usable = np.logical_or.reduce([status == one for one in USABLE])  # a fifth of the time of isin
            yield table["row_id"].to_numpy(), np.where(usable, matrix(table, "p_yes"), np.nan)
