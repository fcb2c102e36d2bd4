"""Which rows of the user's files train, validate and test, and which of the last are not new.

The split is by hash: it is the same on every reading, and needs no memory. To compare the holdout with the
training rows, a hash and a signature of each text are kept, and the names of groups.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hypsae_ray.config import Chunk, Data
from hypsae_ray.data import rows
from hypsae_ray.data.chunks import chunk_ids, split_texts
from hypsae_ray.data.files import DataFile, dialect, read_frames
from hypsae_ray.data.near_copies import CopyIndex
from hypsae_ray.data.values import Decimals

SPLITS = ("train", "val", "holdout")
TRAINING = ("train", "val")
Reasons = Mapping[str, "pd.Series[str]"]  # by file: row number -> why the row is not used

OVERLAPS = {
    "same_text": "the text stands word for word in the training data",
    "near_copy": "the text is a near copy of one in the training data",
    "same_group": "its group stands in the training data",
}


@dataclass(frozen=True)
class Part:
    """Some rows of one file that belong to one split.

    Attributes:
        split: train, val or holdout.
        path: of the file.
        texts: the rows as `schema.texts` has them, indexed by row number in the file.
        source: the same rows as they stand in the file.
    """

    split: str
    path: str
    texts: pd.DataFrame
    source: pd.DataFrame


@dataclass(frozen=True)
class Dataset:
    """The user's files.

    Attributes:
        options: which column is what, and how rows are split.
        files: by source: train, and val and holdout if they have files of their own.
        left_out: by source, the rows that are not used.
    """

    options: Data
    files: Mapping[str, Sequence[DataFile]]
    left_out: Mapping[str, Reasons]

    def source(self, split: str) -> str:
        """Return which files a split comes from."""
        return split if split in self.files else "train"

    def read(self, splits: Collection[str], extra: Sequence[str] = ()) -> Iterator[Part]:
        """Yield all rows of some splits, a bounded number at a time.

        Args:
            splits: those wanted.
            extra: further columns to read, for `Part.source`.
        """
        for source, files in self.files.items():
            wanted = [split for split in splits if self.source(split) == source]
            if not wanted:
                continue
            for file, frame, row_ids in _numbered(files, self.options, extra):
                bad = self.left_out[source].get(file.path, _NO_REASONS)
                kept = ~frame.index.isin(bad.index)
                texts = read_rows(file, frame, self.options).values.assign(row_id=row_ids)[kept]
                texts["text_id"] = rows.text_ids(texts["text"])
                place = self._place(texts, source)
                for split in wanted:
                    inside = place == split
                    yield Part(split, file.path, texts[inside], frame[kept][inside])

    def without(self, split: str, reasons: Reasons) -> "Dataset":
        """Return the same files with more rows of a split left out."""
        before = self.left_out[self.source(split)]
        merged = {
            path: pd.concat([before.get(path, _NO_REASONS), reasons.get(path, _NO_REASONS)])
            for path in {**before, **reasons}
        }
        return replace(self, left_out={**self.left_out, self.source(split): merged})

    def _place(self, texts: pd.DataFrame, source: str) -> np.ndarray:
        """Return the split of each row, (n,)."""
        place = np.full(len(texts), source, dtype=object)
        if source == "train" and "val" not in self.files:
            place[rows.in_validation(texts["text_id"].tolist(), self.options.val_fraction)] = "val"
        if source == "train" and self.options.holdout_fraction is not None:
            owner = texts["group"].where(texts["group"].notna(), texts["text"])
            place[rows.in_holdout(rows.text_ids(owner), self.options.holdout_fraction)] = "holdout"
        return place


_NO_REASONS: "pd.Series[str]" = pd.Series(dtype=object)


def places(options: Data) -> dict[str, str]:
    """Return the datasets that the user named, by source."""
    named = {"train": options.train, "val": options.val, "holdout": options.holdout}
    return {source: place for source, place in named.items() if place is not None}


def columns_of(options: Data) -> rows.Columns:
    """Return which column plays which part."""
    return rows.Columns(
        options.text, options.target, options.id, options.group, options.covariates, options.weight
    )


def _numbered(
    files: Sequence[DataFile], options: Data, extra: Sequence[str]
) -> Iterator[tuple[DataFile, pd.DataFrame, np.ndarray]]:
    """Yield frames of the files with their row ids, which count all rows, bad ones too."""
    columns, offset = [*columns_of(options).names, *extra], 0
    for file in files:
        for frame in read_frames(file, columns):
            yield file, frame, np.arange(offset, offset + len(frame))
            offset += len(frame)


def read_rows(file: DataFile, frame: pd.DataFrame, options: Data) -> rows.Rows:
    """Return what the rows of one frame of a file mean."""
    return rows.read_rows(frame, columns_of(options), task=options.task, decimal=_decimal(file, options))


def _decimal(file: DataFile, options: Data) -> Decimals:
    """Return the decimal mark of a file: in doubt for a CSV that keeps its commas for something else."""
    doubtful = options.decimal is None and file.format == "csv" and dialect(file).delimiter not in (",", None)
    return None if doubtful else options.decimal or "."


def to_chunks(documents: pd.DataFrame, chunk: Chunk) -> pd.DataFrame:
    """Return a row per chunk of each document, with all else that its row has; ids as in `data.chunks`."""
    texts, position = split_texts(documents["text"].tolist(), chunk.words, chunk.overlap)
    place = np.arange(len(position)) - np.searchsorted(position, position)
    ids = chunk_ids(documents["row_id"].to_numpy()[position], place)
    return documents.iloc[position].assign(row_id=ids, text=texts, text_id=rows.text_ids(texts))


@dataclass
class Targets:
    """The target values of some rows, as far as it matters whether anything can be learnt from them."""

    rows: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    binary: bool = True

    def see(self, targets: np.ndarray) -> None:
        """Take in more rows."""
        if len(targets):
            self.rows += len(targets)
            self.low, self.high = min(self.low, targets.min()), max(self.high, targets.max())
            self.binary = self.binary and rows.guess_task(targets) == "classification"


@dataclass(frozen=True)
class Comparison:
    """What a holdout has in common with its training data.

    Attributes:
        reasons: the holdout rows that are not new.
        counts: how many there are of each kind of OVERLAPS.
        targets: by split; of the holdout, of the new rows, or of all where they are kept.
        distinct_texts: of the same rows, by split.
    """

    reasons: Reasons
    counts: Mapping[str, int]
    targets: Mapping[str, Targets]
    distinct_texts: Mapping[str, int]


def compare(dataset: Dataset) -> Comparison:
    """Find the holdout rows that are not new; the first kind of OVERLAPS counts."""
    targets, distinct = {split: Targets() for split in SPLITS}, {split: _Distinct() for split in SPLITS}
    training = _Training(dataset.options.near_copy)
    for part in dataset.read(TRAINING):
        training.add(part.texts)
        targets[part.split].see(part.texts["target"].to_numpy())
        distinct[part.split].add(part.texts["text_id"])
    found: dict[str, list[pd.Series]] = {}
    for part in dataset.read(("holdout",)):
        kinds = training.kinds(part.texts)
        found.setdefault(part.path, []).append(kinds[kinds != ""])
        used = part.texts if dataset.options.overlap == "keep" else part.texts[kinds == ""]
        targets["holdout"].see(used["target"].to_numpy())
        distinct["holdout"].add(used["text_id"])
    by_file = {path: pd.concat(kinds) for path, kinds in found.items()}
    counts = {kind: int(sum((kinds == kind).sum() for kinds in by_file.values())) for kind in OVERLAPS}
    reasons = {path: kinds.map(OVERLAPS) for path, kinds in by_file.items() if len(kinds)}
    return Comparison(reasons, counts, targets, {split: seen.count() for split, seen in distinct.items()})


class _Distinct:
    """Counts distinct texts by 8 bytes of their ids: two of 10^7 share them once in 370,000 datasets."""

    def __init__(self) -> None:
        self._seen: list[np.ndarray] = []

    def add(self, text_ids: pd.Series) -> None:
        hashes = np.array([int(text_id[:16], 16) for text_id in text_ids], dtype=np.uint64)
        self._seen.append(np.unique(hashes))

    def count(self) -> int:
        return len(np.unique(np.concatenate(self._seen))) if self._seen else 0


class _Training:
    """The texts and groups of the training rows."""

    def __init__(self, near_copy: float | None) -> None:
        self._text_ids: set[str] = set()
        self._groups: set[str] = set()
        self._copies = None if near_copy is None else CopyIndex(near_copy, np.random.default_rng(0))

    def add(self, texts: pd.DataFrame) -> None:
        distinct = texts.drop_duplicates("text_id")
        new = distinct[~_among(distinct["text_id"], self._text_ids)]
        self._text_ids.update(new["text_id"])
        if self._copies is not None:
            self._copies.add(new["text"].tolist())
        self._groups.update(texts["group"].dropna())

    def kinds(self, texts: pd.DataFrame) -> pd.Series:
        """Return the kind of overlap of each row, "" for new ones."""
        kinds = pd.Series("", index=texts.index, dtype=object)
        kinds[_among(texts["group"], self._groups)] = "same_group"
        if self._copies is not None:
            kinds[self._copies.find(texts["text"].tolist())] = "near_copy"
        kinds[_among(texts["text_id"], self._text_ids)] = "same_text"
        return kinds


def _among(values: pd.Series, known: set[str]) -> np.ndarray:
    return np.fromiter((value in known for value in values), dtype=bool, count=len(values))
