"""The user's files as rows that train, validate and test.

The split is by hash: it is the same on every reading, and needs no memory.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hypsae_ray.config import Data
from hypsae_ray.data import rows
from hypsae_ray.data.files import DataFile, dialect, read_frames
from hypsae_ray.data.levels import Levels, SeenNames
from hypsae_ray.data.rows import NO_LEVELS
from hypsae_ray.data.values import Decimals
from hypsae_ray.errors import InputError

SPLITS = ("train", "val", "holdout")
TRAINING = ("train", "val")
Files = Mapping[str, Sequence[DataFile]]  # by source
Reasons = Mapping[str, "pd.Series[str]"]  # by file: row number -> why the row is not used
_NO_REASONS: "pd.Series[str]" = pd.Series(dtype=object)


@dataclass(frozen=True)
class SplitRows:
    """Some rows of one file that belong to one split."""

    split: str
    path: str
    texts: pd.DataFrame  # as `rows.Rows` has them, with row_id and text_id, indexed by row number in the file
    source: pd.DataFrame  # the same rows as the file has them


@dataclass(frozen=True)
class Dataset:
    """The user's files by source: train, and val and holdout if they have files of their own."""

    options: Data
    files: Files
    left_out: Mapping[str, Reasons]  # by source, the rows that are not used
    levels: Levels = NO_LEVELS

    def source(self, split: str) -> str:
        """Return which files a split comes from."""
        return split if split in self.files else "train"

    def read(self, splits: Collection[str], extra: Sequence[str] = ()) -> Iterator[SplitRows]:
        """Yield all rows of some splits, a bounded number at a time; `extra` columns are in their source."""
        for source, files in self.files.items():
            of_source = [split for split in splits if self.source(split) == source]
            if not of_source:
                continue
            for file, frame, row_ids in _numbered(files, self.options, extra):
                bad = self.left_out[source].get(file.path, _NO_REASONS)
                kept = ~frame.index.isin(bad.index)
                texts = read_rows(file, frame, self.options, self.levels).values.assign(row_id=row_ids)[kept]
                texts["text_id"] = rows.text_ids(rows.contents(texts))
                split_of = self._split_of(texts, source)
                for split in of_source:
                    inside = split_of == split
                    yield SplitRows(split, file.path, texts[inside], frame[kept][inside])

    def without(self, split: str, reasons: Reasons) -> "Dataset":
        """Return the same files with more rows of a split left out."""
        before = self.left_out[self.source(split)]
        merged = {
            path: pd.concat([before.get(path, _NO_REASONS), reasons.get(path, _NO_REASONS)])
            for path in {**before, **reasons}
        }
        return replace(self, left_out={**self.left_out, self.source(split): merged})

    def _split_of(self, texts: pd.DataFrame, source: str) -> np.ndarray:
        """Return the split of each row, (n,)."""
        splits = np.full(len(texts), source, dtype=object)
        owners = rows.text_ids(texts["group"].where(texts["group"].notna(), rows.contents(texts)))
        if source == "train" and "val" not in self.files:
            # Pairs of one group share texts, which would train what they validate.
            ids = owners if len(self.options.text_columns) > 1 else texts["text_id"].tolist()
            splits[rows.in_validation(ids, self.options.val_fraction)] = "val"
        if source == "train" and self.options.holdout_fraction is not None:
            splits[rows.in_holdout(owners, self.options.holdout_fraction)] = "holdout"
        return splits


def paths_of(options: Data) -> dict[str, str]:
    """Return the paths that the user named, by source."""
    named = {"train": options.train, "val": options.val, "holdout": options.holdout}
    return {source: path for source, path in named.items() if path is not None}


def _numbered(
    files: Sequence[DataFile], options: Data, extra: Sequence[str]
) -> Iterator[tuple[DataFile, pd.DataFrame, np.ndarray]]:
    """Yield frames of the files with their row ids, which count all rows, bad ones too."""
    columns, offset = [*rows.columns_of(options), *extra], 0
    for file in files:
        for frame in read_frames(file, columns):
            yield file, frame, np.arange(offset, offset + len(frame))
            offset += len(frame)


def read_rows(
    file: DataFile, frame: pd.DataFrame, options: Data, levels: Levels, *, with_texts: bool = True
) -> rows.Rows:
    """Return what the rows of one frame of a file mean, with or without their ids and texts."""
    return rows.read_rows(frame, options, _decimal(file, options), levels, with_texts=with_texts)


def find_levels(files: Files, options: Data) -> Levels:
    """Return the levels of covariates of which most values are no numbers, and the classes of multiclass.

    Raises:
        InputError: a column has too many, or holds dates, or two columns would have one name.
    """
    of_classes = options.task == "multiclass"
    columns = [*options.covariates, *([options.target] if of_classes else [])]
    seen = find_names(files, options, columns)
    try:
        categories = {name: seen[name].category() for name in options.covariates if seen[name].are_names}
        levels = Levels(categories, seen[options.target].classes() if of_classes else ())
    except InputError as error:
        raise InputError(f"{options.train}: {error}") from None
    stored = levels.covariates(options.covariates)
    if repeated := [name for name in stored if stored.count(name) > 1]:
        name = f"column {repeated[0]!r} and a level of another covariate have one name"
        raise InputError(f"{options.train}: {name}: rename one")
    return levels


def find_names(files: Files, options: Data, columns: Sequence[str]) -> dict[str, SeenNames]:
    """Return the names in some columns, over all rows of all files; nothing is read for no columns."""
    seen = {name: SeenNames(name) for name in columns}
    for file in (file for of_source in files.values() for file in of_source if columns):
        for frame in read_frames(file, columns):
            for name, found in seen.items():
                found.add(frame[name], _decimal(file, options))
    return seen


def _decimal(file: DataFile, options: Data) -> Decimals:
    """Return the decimal mark of a file: in doubt for a CSV that keeps its commas for something else."""
    doubtful = options.decimal is None and file.format == "csv" and dialect(file).delimiter not in (",", None)
    return None if doubtful else options.decimal or "."
