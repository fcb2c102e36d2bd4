"""What the holdout has in common with the training rows, and by which columns its rows may belong together.

To compare it with the training rows, a hash and a signature of each text are kept, and the names of groups.

Rows of one author or business are not independent, and tests that take them to be are too sure. Columns that
may be such groups, though the user named none, let `evaluate` say how much that matters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.data.arrays import codes_of
from hypsae_ray.data.chunks import to_singles
from hypsae_ray.data.columns import Typed, names, numbers
from hypsae_ray.data.dataset import SPLITS, TRAINING, Dataset, Reasons
from hypsae_ray.data.files import columns_in
from hypsae_ray.data.near_copies import CopyIndex
from hypsae_ray.data.rows import columns_of, guess_task, text_keys

OVERLAPS = {
    "same_text": "the text stands word for word in the training data",
    "near_copy": "the text is a near copy of one in the training data",
    "same_group": "its group stands in the training data",
}
MAX_COLUMNS = 5
MAX_LENGTH = 64
MIN_DISTINCT = 10
MAX_SHARE = 0.98  # of distinct values among the rows: above it, hardly any value repeats


@dataclass
class TargetRange:
    """The target values of some rows, as far as it matters whether anything can be learnt from them."""

    rows: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    between: tuple[float, ...] = ()  # one value between them, if there is any
    binary: bool = True

    @property
    def values(self) -> tuple[float, ...]:
        """The lowest value, one between, and the highest, as far as there are any."""
        return (self.low, *self.between, self.high) if self.rows else ()

    def see(self, targets: np.ndarray) -> None:
        """Take in more rows."""
        if len(targets):
            values = np.unique(np.concatenate([self.values, targets])).tolist()
            self.low, self.high, self.between = values[0], values[-1], tuple(values[1:-1][:1])
            self.rows += len(targets)
            self.binary = self.binary and guess_task(targets) == "classification"


@dataclass(frozen=True)
class Comparison:
    """What a holdout has in common with its training data; targets and texts by split.

    Those of the holdout are of the new rows, or of all where they are kept. A pair is new if both texts are.
    """

    reasons: Reasons  # the holdout rows that are not new
    counts: Mapping[str, int]  # of them, by OVERLAPS
    targets: Mapping[str, TargetRange]
    distinct_texts: Mapping[str, int]


def compare(dataset: Dataset) -> Comparison:
    """Find the holdout rows that are not new; the first of OVERLAPS that applies counts."""
    targets = {split: TargetRange() for split in SPLITS}
    keys = {split: [text_keys([])] for split in SPLITS}

    def see(split: str, rows: pd.DataFrame) -> None:
        targets[split].see(rows["target"].to_numpy())
        keys[split].append(np.unique(text_keys(_singles(rows)["text_id"])))

    training = _Training(dataset.options.near_copy)
    for part in dataset.read(TRAINING):
        training.add(_singles(part.texts))
        see(part.split, part.texts)
    found: dict[str, list[pd.Series]] = {}
    for part in dataset.read(("holdout",)):
        overlaps = _of_rows(training.overlaps(_singles(part.texts)), part.texts.index)
        found.setdefault(part.path, []).append(overlaps[overlaps != ""])
        see("holdout", part.texts if dataset.options.overlap == "keep" else part.texts[overlaps == ""])
    by_file = {path: pd.concat(overlaps) for path, overlaps in found.items()}
    counts = {name: int(sum((overlaps == name).sum() for overlaps in by_file.values())) for name in OVERLAPS}
    reasons = {path: overlaps.map(OVERLAPS) for path, overlaps in by_file.items() if len(overlaps)}
    distinct = {split: len(np.unique(np.concatenate(seen))) for split, seen in keys.items()}
    return Comparison(reasons, counts, targets, distinct)


def _singles(rows: pd.DataFrame) -> pd.DataFrame:
    return to_singles(rows) if "text_b" in rows else rows


def _of_rows(overlaps: pd.Series, rows: pd.Index) -> pd.Series:
    """Return of the overlaps of the texts of each row the first of OVERLAPS, "" for none."""
    if len(overlaps) == len(rows):
        return overlaps
    order = [*OVERLAPS, ""]
    first = overlaps.map(order.index).groupby(level=0).min()
    return first.map(dict(enumerate(order))).reindex(rows).astype(object)


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

    def overlaps(self, texts: pd.DataFrame) -> pd.Series:
        """Return which of OVERLAPS each row is, "" for new ones."""
        found = pd.Series("", index=texts.index, dtype=object)
        found[_among(texts["group"], self._groups)] = "same_group"
        if self._copies is not None:
            found[self._copies.find(texts["text"].tolist())] = "near_copy"
        found[_among(texts["text_id"], self._text_ids)] = "same_text"
        return found


def _among(values: pd.Series, known: set[str]) -> np.ndarray:
    return np.fromiter((value in known for value in values), dtype=bool, count=len(values))


def find_possible_groups(dataset: Dataset) -> pa.Table:
    """Return row_id and an int64 code for each column that may be a group; rows as in the holdout.

    A column may be one if no part of the config uses it, its values are short texts or its name ends in id,
    there are at least MIN_DISTINCT of them, and they repeat. A null gets a code of its own in each row. The
    columns with the most distinct values come first. Where the user named a group, there are none.
    """
    hashes: dict[str, list[pd.Series]] = {name: [] for name in _unused(dataset)}
    columns, row_ids = tuple(hashes), [np.empty(0, dtype=np.int64)]
    for part in dataset.read(("holdout",), columns) if columns else ():
        row_ids.append(part.texts["row_id"].to_numpy())
        for name in list(hashes):
            named = names(part.source[name])
            if _may_be_names(name, part.source[name], named):
                hashes[name].append(_hash(named))
            else:
                del hashes[name]
    found = {name: pd.concat(seen) for name, seen in hashes.items() if seen}
    repeating = [name for name, values in found.items() if _repeat(values)]
    best = sorted(repeating, key=lambda name: -found[name].nunique())[:MAX_COLUMNS]
    return pa.table({"row_id": np.concatenate(row_ids), **{name: codes_of(found[name]) for name in best}})


def _unused(dataset: Dataset) -> list[str]:
    """Return the columns that all files of the holdout have, and no part of the config uses."""
    if dataset.options.group is not None:
        return []
    counts = [columns_in(file) for file in dataset.files[dataset.source("holdout")]]
    single = [{name for name, times in count.items() if times == 1} for count in counts if count]
    return sorted(set.intersection(*single) - {"row_id", *columns_of(dataset.options)})


def _may_be_names(column: str, values: "pd.Series[Any]", named: Typed) -> bool:
    """Tell whether values are short, and ids by their name or texts that are not all numbers, as in a CSV."""
    present = values[~named.missing]
    if present.empty:
        return True
    if named.bad.any() or max(map(len, named.values[named.usable])) > MAX_LENGTH:
        return False
    is_text = present.map(lambda value: isinstance(value, str)).all()
    return column.lower().endswith("id") or bool(is_text and numbers(present).bad.any())


def _hash(named: Typed) -> pd.Series:
    """Return 8 bytes for each name; null stays null."""
    hashes = pd.util.hash_array(np.where(named.usable, named.values, "")).view(np.int64)
    return pd.Series(hashes, dtype="Int64").where(named.usable)


def _repeat(values: pd.Series) -> bool:
    distinct = values.nunique()
    return distinct >= MIN_DISTINCT and distinct + values.isna().sum() < MAX_SHARE * len(values)
