"""The distinct texts of a folder of answers, in files to which further ones are only ever added.

A text's position is its row among those of all files, in their order.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hypsae_ray.store.artifacts import Folder

FILE_ROWS = 4096
SAMPLE = 1024
NO_TEXT = -1  # position of a row that has none
Positions = npt.NDArray[np.int64]
Tables = Callable[[Sequence[str]], Iterable[tuple[str, pa.Table]]]
_NAME = re.compile(r"texts-(?P<number>\d+)-(?P<rows>\d+)-(?P<digest>[0-9a-f]{8})\.parquet")


@dataclass(frozen=True)
class TextFile:
    """One file of texts: its number, rows, and a hash of their ids."""

    number: int
    rows: int
    digest: str

    @property
    def key(self) -> str:
        """What names of shards call it."""
        return f"{self.number:05d}-{self.digest}"

    @property
    def name(self) -> str:
        """Its file name."""
        return f"texts-{self.number:05d}-{self.rows}-{self.digest}.parquet"


@dataclass(frozen=True)
class Registered:
    """What is known of the texts of some rows when they are stored.

    Attributes:
        files: all files of texts, in order.
        positions: (n,) of each row's text, NO_TEXT where it has none.
        sample: the texts with the least ids, SAMPLE at most; ids are hashes, so they are drawn at random.
    """

    files: tuple[TextFile, ...]
    positions: Positions
    sample: list[str]


def stored_texts(folder: Folder) -> tuple[TextFile, ...]:
    """Return the files of texts in a folder, in order."""
    found = map(_NAME.fullmatch, folder.names("texts-", ".parquet"))
    return tuple(TextFile(int(name["number"]), int(name["rows"]), name["digest"]) for name in found if name)


def slices(files: Iterable[TextFile]) -> Iterator[tuple[TextFile, slice]]:
    """Yield each file with the positions of its texts."""
    start = 0
    for file in files:
        yield file, slice(start, start + file.rows)
        start += file.rows


def register(folder: Folder, tables: Tables, file_rows: int) -> Registered:
    """Store those texts of some rows that are not there yet, in the order of the rows.

    Args:
        folder: of the texts.
        tables: yields names and tables of the rows with the columns it is given, in the same order each time;
            text_id (hex) and text are null where a row has no text.
        file_rows: texts in each new file but the last.
    """
    files = stored_texts(folder)
    stored = np.concatenate([np.empty((0, 2), np.uint64), *(_stored_ids(folder, file) for file in files)])
    has_text, ids = map(np.concatenate, zip(*(_ids(table) for _, table in tables(["text_id"])), strict=True))
    order, first = _first_occurrences(np.concatenate([stored, ids]))
    position = np.arange(len(first))
    is_new = (first == position)[len(stored) :]
    position[len(stored) :] = len(stored) + np.cumsum(is_new) - 1
    positions = np.full(len(has_text), NO_TEXT, dtype=np.int64)
    positions[has_text] = position[first[len(stored) :]]
    ascending = order[order >= len(stored)]
    least = (ascending[_begins(first[ascending])] - len(stored))[:SAMPLE]
    sample, held = dict.fromkeys(least.tolist(), ""), list[tuple[bytes, str]]()
    for row, text in enumerate(_texts(tables)):
        if row in sample:
            sample[row] = text
        if is_new[row]:
            held.append((ids[row].astype(">u8").tobytes(), text))
        if len(held) == file_rows:
            files, held = (*files, _write(folder, files, held)), []
    return Registered((*files, _write(folder, files, held)) if held else files, positions, [*sample.values()])


def _texts(tables: Tables) -> Iterator[str]:
    for _, table in tables(["text_id", "text"]):
        yield from table["text"].filter(table["text_id"].is_valid()).to_pylist()


def _write(folder: Folder, files: Sequence[TextFile], texts: Sequence[tuple[bytes, str]]) -> TextFile:
    """Write one more file of ids and texts."""
    ids, values = zip(*texts, strict=True)
    digest = hashlib.sha256(b"".join(ids)).hexdigest()[:8]
    file = TextFile(files[-1].number + 1 if files else 0, len(ids), digest)
    folder.write_table(file.name, pa.table({"text_id": pa.array(ids, pa.binary(16)), "text": values}))
    return file


def _ids(table: pa.Table) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint64]]:
    """Return which rows have a text (n,), and the ids of these texts."""
    column = table["text_id"]
    return column.is_valid().to_numpy(), _numbers(bytes.fromhex("".join(column.drop_null().to_pylist())))


def _stored_ids(folder: Folder, file: TextFile) -> npt.NDArray[np.uint64]:
    with folder.open(file.name) as source:
        table = pq.ParquetFile(source).read(columns=["text_id"], use_threads=False)
    return _numbers(b"".join(table["text_id"].to_pylist()))


def _numbers(ids: bytes) -> npt.NDArray[np.uint64]:
    """Return ids of 16 bytes as (n, 2) numbers in the order of the bytes."""
    return np.frombuffer(ids, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def _first_occurrences(ids: npt.NDArray[np.uint64]) -> tuple[Positions, Positions]:
    """Return the order that sorts ids (n, 2), stable, and the position where each one stands first (n,)."""
    order = np.lexsort((ids[:, 1], ids[:, 0]))
    begins = _begins(ids[order, 0]) | _begins(ids[order, 1])
    first = np.empty(len(ids), dtype=np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return order, first


def _begins(values: np.ndarray) -> npt.NDArray[np.bool_]:
    """Return where another value begins than the one before (n,)."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]
