"""Which pairs of row and hypothesis to label, from a file that the user made."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hypsae_ray.data.arrays import Bools, Ints
from hypsae_ray.data.columns import numbers
from hypsae_ray.data.files import DataFile, find_files, read_frames
from hypsae_ray.data.values import says_truth, shown
from hypsae_ray.errors import InputError

COLUMNS = ("row_id", "hypothesis_id")
LARGEST = 2**53  # whole numbers above it are not exact in float64


@dataclass(frozen=True)
class Mask:
    """Pairs to label: `row_ids` (n,), ascending, and `hypotheses` (n,)."""

    row_ids: Ints
    hypotheses: Ints

    @classmethod
    def read(cls, path: str, n_hypotheses: int) -> "Mask":
        """Read a file of pairs.

        Raises:
            InputError: it cannot be read, or a value is not a whole number in range.
        """
        frames = ((file, frame) for file in find_files(path) for frame in read_frames(file, COLUMNS))
        found = [np.empty((0, 2), dtype=np.int64), *(_pairs(*frame, n_hypotheses) for frame in frames)]
        pairs = np.concatenate(found)
        return cls(*pairs[np.argsort(pairs[:, 0], kind="stable")].T)

    def of(self, row_ids: Ints, n_hypotheses: int) -> Bools:
        """Return which pairs of some rows, ascending, are to be labelled: (len(row_ids), n_hypotheses)."""
        asked = np.zeros((len(row_ids), n_hypotheses), dtype=bool)
        low, high = np.searchsorted(self.row_ids, [row_ids[0], row_ids[-1] + 1]) if len(row_ids) else (0, 0)
        at = np.searchsorted(row_ids, self.row_ids[low:high])
        known = row_ids[np.minimum(at, len(row_ids) - 1)] == self.row_ids[low:high]
        asked[at[known], self.hypotheses[low:high][known]] = True
        return asked


def _pairs(file: DataFile, frame: pd.DataFrame, n_hypotheses: int) -> Ints:
    """Return the pairs (n, 2) of a frame."""
    pairs = np.column_stack([numbers(frame[name]).values for name in COLUMNS])
    bad = ~((pairs >= 0) & (pairs < LARGEST) & (pairs == np.floor(pairs)))
    bad |= np.column_stack([frame[name].map(says_truth) for name in COLUMNS])
    bad[:, 1] |= pairs[:, 1] >= n_hypotheses
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        name, expected = COLUMNS[column], f"0 to {n_hypotheses - 1}" if column else "the rows"
        value = shown(frame[name].iloc[row])
        raise InputError(
            f"{file.path}: row {frame.index[row]}: column {name!r}: {value} is none of {expected}"
        )
    return pairs.astype(np.int64)
