"""Which pairs of row and hypothesis are to be asked, from a file that the user made."""

from dataclasses import dataclass

import numpy as np

from hypsae_ray.data.columns import numbers
from hypsae_ray.data.files import find_files, read_frames
from hypsae_ray.data.values import says_truth, shown
from hypsae_ray.errors import InputError

COLUMNS = ("row_id", "hypothesis_id")
LARGEST = 2**53  # whole numbers above it are not exact in float64


@dataclass(frozen=True)
class Mask:
    """Pairs to ask; `row_ids` ascend, `hypotheses` stand beside them."""

    row_ids: np.ndarray
    hypotheses: np.ndarray

    @classmethod
    def read(cls, place: str, n_hypotheses: int) -> "Mask":
        """Read a file of pairs.

        Raises:
            InputError: it cannot be read, or a value is not a whole number in range.
        """
        parts = [np.empty((0, 2), dtype=np.int64)]
        for file in find_files(place):
            for frame in read_frames(file, COLUMNS):
                pairs = np.column_stack([numbers(frame[name]).values for name in COLUMNS])
                bad = ~((pairs >= 0) & (pairs < LARGEST) & (pairs == np.floor(pairs)))
                bad |= np.column_stack([frame[name].map(says_truth) for name in COLUMNS])
                bad[:, 1] |= pairs[:, 1] >= n_hypotheses
                if bad.any():
                    row, column = (int(i) for i in np.argwhere(bad)[0])
                    name, wanted = COLUMNS[column], f"0 to {n_hypotheses - 1}" if column else "the rows"
                    value = shown(frame[name].iloc[row])
                    raise InputError(
                        f"{file.path}: row {frame.index[row]}: column {name!r}: {value} is none of {wanted}"
                    )
                parts.append(pairs.astype(np.int64))
        pairs = np.concatenate(parts)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        return cls(pairs[:, 0], pairs[:, 1])

    def of(self, row_ids: np.ndarray, n_hypotheses: int) -> np.ndarray:
        """Return which pairs of some rows, ascending, are to be asked: (len(row_ids), n_hypotheses) bool."""
        asked = np.zeros((len(row_ids), n_hypotheses), dtype=bool)
        low, high = np.searchsorted(self.row_ids, [row_ids[0], row_ids[-1] + 1]) if len(row_ids) else (0, 0)
        at = np.searchsorted(row_ids, self.row_ids[low:high])
        there = row_ids[np.minimum(at, len(row_ids) - 1)] == self.row_ids[low:high]
        asked[at[there], self.hypotheses[low:high][there]] = True
        return asked
