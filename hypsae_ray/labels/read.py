"""Stored annotations as labels for the statistics: read block by block, never all at once."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hypsae_ray.data.arrays import BLOCK_ROWS, Ints
from hypsae_ray.data.chunks import Rule, combine_labels, documents_of, starts_of
from hypsae_ray.errors import InputError
from hypsae_ray.labels.annotations import matrix
from hypsae_ray.labels.draw import DrawnRows
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import USABLE, Status

ANNOTATIONS = "annotations-"
LATEST = "latest.json"
Chunks = tuple[np.ndarray, np.ndarray]


def find_annotations(path: str) -> Folder:
    """Return the folder of annotations at a path or URI: that folder, or that of the last job in it.

    Raises:
        InputError: there are none.
    """
    out = Folder.at(path)
    named = out.read_json(LATEST)["annotations"] if out.has(LATEST) else "annotations"  # as 0.1.0 had it
    for folder in (out, out.sub(named)):
        if folder.names(ANNOTATIONS, ".parquet"):
            return folder
    raise InputError(f"{path}: there are no annotations here")


@dataclass(frozen=True)
class StoredLabels:
    """The annotations-*.parquet of a folder, a `stats.sample.Labels`.

    Attributes:
        folder: where they are.
        threshold: p_yes from which a label is 1: one for all, or (H,).
        left_out: ids of rows to leave out.
    """

    folder: Folder
    threshold: float | np.ndarray
    left_out: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and hypotheses."""
        names = self._names()
        rows = sum(self.folder.count_rows(name) for name in names)
        with self.folder.open(names[0]) as file:
            width = pq.ParquetFile(file).schema_arrow.field("p_yes").type.list_size
        return rows - len(self.left_out), width

    def row_ids(self) -> np.ndarray:
        """Return the row id of each row of labels, (n,)."""
        return np.concatenate([table["row_id"].to_numpy() for table in self._tables()])

    def drawn(self) -> DrawnRows | None:
        """Return how the rows were drawn; None: all rows were, each with a probability of 1 if it has one."""
        with self.folder.open(self._names()[0]) as file:
            if "probability" not in pq.ParquetFile(file).schema_arrow.names:
                return None
        tables = pa.concat_tables(self._tables("probability", "uniform"))
        row_ids, probability, uniform = (
            tables[name].to_numpy() for name in ("row_id", "probability", "uniform")
        )
        return DrawnRows(row_ids, probability, uniform) if (probability < 1).any() else None

    def unasked(self) -> int:
        """Return how many pairs of row and hypothesis a mask left out."""
        tables = self._tables("status")
        return sum(int((matrix(table, "status") == Status.UNASKED).sum()) for table in tables)

    def has_degrees(self) -> bool:
        """Return whether any p_yes is neither 0 nor 1, so that the threshold matters."""
        return any(bool(((p_yes > 0) & (p_yes < 1)).any()) for _, p_yes in self.tables())

    def hypotheses(self) -> pd.DataFrame | None:
        """Return what `hypsae annotate` wrote of each column; None if it wrote nothing.

        Columns: hypothesis ("" for none), and threshold if the job's hypotheses had it, NaN for none.
        """
        if not self.folder.has("hypotheses.csv"):
            return None
        file, missing = io.BytesIO(self.folder.read_bytes("hypotheses.csv")), {"threshold": [""]}
        table = pd.read_csv(file, dtype={"hypothesis": str}, keep_default_na=False, na_values=missing)
        return table[[name for name in ("hypothesis", "threshold") if name in table]]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield labels of 0, 1 and NaN, BLOCK_ROWS at a time."""
        return in_blocks(to_labels(p_yes, self.threshold) for _, p_yes in self.tables())

    def _names(self) -> list[str]:
        return self.folder.names(ANNOTATIONS, ".parquet")

    def _tables(self, *columns: str) -> Iterator[pa.Table]:
        """Yield one file after another, with row_id and some columns."""
        for name in self._names():
            table = self.folder.read_table(name, ["row_id", *columns])
            if len(self.left_out):
                table = table.filter(~np.isin(table["row_id"].to_numpy(), self.left_out))
            yield table

    def tables(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield row ids (m,) and p_yes (m, H) of one file after another, NaN where there is no label."""
        for table in self._tables("p_yes", "status"):
            status = matrix(table, "status")
            usable = np.logical_or.reduce([status == one for one in USABLE])  # a fifth of the time of isin
            yield table["row_id"].to_numpy(), np.where(usable, matrix(table, "p_yes"), np.nan)


@dataclass(frozen=True)
class DocumentLabels:
    """The annotations of chunks combined by document, a `stats.sample.Labels`.

    With `doses`, blocks hold how much of a property each document has, in place of labels.
    """

    chunks: StoredLabels
    rule: Rule
    doses: bool = False

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Documents and hypotheses."""
        return len(np.unique(documents_of(self.chunks.row_ids()))), self.chunks.shape[1]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield labels of 0, 1 and NaN, or doses, BLOCK_ROWS at a time."""
        return in_blocks(map(self._combined, self._whole()))

    def _combined(self, chunks: Chunks) -> np.ndarray:
        documents, p_yes = chunks
        labels = to_labels(p_yes, self.chunks.threshold)
        return combine_labels(labels, p_yes, starts_of(documents), self.rule)[self.doses]

    def _whole(self) -> Iterator[Chunks]:
        """Yield documents (m,) and p_yes (m, H) of chunks; a document that two files share comes once."""
        held: Chunks | None = None
        for row_ids, p_yes in self.chunks.tables():
            documents = documents_of(row_ids)
            if held is not None:
                documents, p_yes = np.append(held[0], documents), np.concatenate([held[1], p_yes])
            last = int(starts_of(documents)[-1])
            if last:
                yield documents[:last], p_yes[:last]
            held = documents[last:], p_yes[last:]
        if held is not None:
            yield held


def in_blocks(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield rows in blocks of BLOCK_ROWS, from parts of any size."""
    held: list[np.ndarray] = []
    waiting = 0
    for labels in parts:
        while waiting + len(labels) >= BLOCK_ROWS:
            cut = BLOCK_ROWS - waiting
            yield np.concatenate([*held, labels[:cut]]) if held else labels[:cut]
            held, waiting, labels = [], 0, labels[cut:]
        if len(labels):
            held.append(labels)
            waiting += len(labels)
    if held:
        yield np.concatenate(held)


def to_labels(p_yes: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """Return labels 0 and 1 of p_yes (n, H), by one threshold or by (H,); NaN stays NaN."""
    return np.where(np.isnan(p_yes), np.nan, (p_yes >= threshold).astype(np.float64))
