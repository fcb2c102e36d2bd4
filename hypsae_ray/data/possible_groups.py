"""Columns by which holdout rows may belong together, though the user named none.

Rows of one author or business are not independent, and tests that take them to be are too sure. What is found
here lets `evaluate` say how much that matters.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.data.columns import Typed, names, numbers
from hypsae_ray.data.files import columns_in
from hypsae_ray.data.splits import Dataset, columns_of

MAX_COLUMNS = 5
MAX_LENGTH = 64
MIN_DISTINCT = 10
_NULL = -1  # its code in pandas.factorize
MAX_SHARE = 0.98  # of distinct values among the rows: above it, hardly any value repeats


def find_possible_groups(dataset: Dataset) -> pa.Table:
    """Return row_id and an int64 code for each column that may be a group; rows as in the holdout.

    A column may be one if no part of the config uses it, its values are short texts or its name ends in id,
    there are at least MIN_DISTINCT of them, and they repeat. A null gets a code of its own in each row. The
    columns with the most distinct values come first. Where a group is named, there are none.
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
    coded = {name: pd.factorize(pd.concat(seen)) for name, seen in hashes.items() if seen}
    distinct = {name: len(values) for name, (codes, values) in coded.items() if _repeat(codes, len(values))}
    best = sorted(distinct, key=lambda name: -distinct[name])[:MAX_COLUMNS]
    groups = {name: _tell_nulls_apart(coded[name][0], distinct[name]) for name in best}
    return pa.table({"row_id": np.concatenate(row_ids), **groups})


def _unused(dataset: Dataset) -> list[str]:
    """Return the columns that all files of the holdout have, and no part of the config uses."""
    if dataset.options.group is not None:
        return []
    counts = [columns_in(file) for file in dataset.files[dataset.source("holdout")]]
    there = [{name for name, times in count.items() if times == 1} for count in counts if count]
    return sorted(set.intersection(*there) - {"row_id", *columns_of(dataset.options).names})


def _may_be_names(column: str, values: "pd.Series[Any]", named: Typed) -> bool:
    """Tell whether values are short, and ids by their name or texts that are not all numbers, as in a CSV."""
    there = values[~named.missing]
    if there.empty:
        return True
    if named.bad.any() or max(map(len, named.values[named.usable])) > MAX_LENGTH:
        return False
    is_text = there.map(lambda value: isinstance(value, str)).all()
    return column.lower().endswith("id") or bool(is_text and numbers(there).bad.any())


def _hash(named: Typed) -> pd.Series:
    """Return 8 bytes for each name; null stays null."""
    there = named.usable
    hashes = pd.util.hash_array(np.where(there, named.values, "")).view(np.int64)
    return pd.Series(hashes, dtype="Int64").where(there)


def _repeat(codes: np.ndarray, distinct: int) -> bool:
    return distinct >= MIN_DISTINCT and distinct + (codes == _NULL).sum() < MAX_SHARE * len(codes)


def _tell_nulls_apart(codes: np.ndarray, distinct: int) -> np.ndarray:
    nulls = codes == _NULL
    codes[nulls] = distinct + np.arange(nulls.sum())
    return codes.astype(np.int64)
