"""Which pairs of row and hypothesis to label, from a file that the user made."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hypsae_ray.data.arrays import Bools, Floats, Ints
from hypsae_ray.data.columns import numbers
from hypsae_ray.data.files import DataFile, columns_in, find_files, read_frames
from hypsae_ray.data.values import says_truth, shown
from hypsae_ray.errors import InputError

COLUMNS, PROBABILITY = ("row_id", "hypothesis_id"), "probability"
LARGEST = 2**53  # whole numbers above it are not exact in float64


@dataclass(frozen=True)
class Mask:
    """Pairs to label: `row_ids` (n,), ascending, and `hypotheses` (n,).

    probability: (n,) with which the row of each was drawn; None: the file does not say.
    """

    row_ids: Ints
    hypotheses: Ints
    probability: Floats | None = None

    @classmethod
    def read(cls, path: str, n_hypotheses: int) -> "Mask":
        """Read a file of pairs.

        Raises:
            InputError: it cannot be read, or a value is not a whole number in range. Or it has probabilities,
                and one is none, or a row has several, or not all hypotheses.
        """
        files = find_files(path)
        is_design = all(PROBABILITY in columns_in(file) for file in files) and bool(files)
        columns = (*COLUMNS, PROBABILITY) if is_design else COLUMNS
        frames = [(file, frame) for file in files for frame in read_frames(file, columns)]
        pairs = np.concatenate(
            [np.empty((0, 2), dtype=np.int64), *(_pairs(*frame, n_hypotheses) for frame in frames)]
        )
        order = np.argsort(pairs[:, 0], kind="stable")
        row_ids, hypotheses = pairs[order].T
        if not is_design:
            return cls(row_ids, hypotheses)
        chances = np.concatenate([np.empty(0), *(_probabilities(*frame) for frame in frames)])[order]
        mask = cls(row_ids, hypotheses, chances)
        mask._require_whole_rows(path, n_hypotheses)
        return mask

    def _require_whole_rows(self, path: str, n_hypotheses: int) -> None:
        """Refuse a design in which a row has several probabilities, or only some of the hypotheses."""
        assert self.probability is not None
        pairs = pd.DataFrame({"row": self.row_ids, "pair": self.hypotheses, "chance": self.probability})
        by_row = pairs.groupby("row").agg({"pair": "nunique", "chance": "nunique"})
        for column, expected, what in (
            ("chance", 1, "has {} probabilities: a row is drawn with one"),
            ("pair", n_hypotheses, f"names {{}} of {n_hypotheses} hypotheses: a row that was drawn has all"),
        ):
            bad = by_row[by_row[column] != expected]
            if len(bad):
                raise InputError(f"{path}: row_id {bad.index[0]} {what.format(bad[column].iloc[0])}")

    def of(self, row_ids: Ints, n_hypotheses: int) -> Bools:
        """Return which pairs of some rows, ascending, are to be labelled: (len(row_ids), n_hypotheses)."""
        asked = np.zeros((len(row_ids), n_hypotheses), dtype=bool)
        low, high = np.searchsorted(self.row_ids, [row_ids[0], row_ids[-1] + 1]) if len(row_ids) else (0, 0)
        at = np.searchsorted(row_ids, self.row_ids[low:high])
        known = row_ids[np.minimum(at, len(row_ids) - 1)] == self.row_ids[low:high]
        asked[at[known], self.hypotheses[low:high][known]] = True
        return asked


def _probabilities(file: DataFile, frame: pd.DataFrame) -> Floats:
    """Return the probability of each pair (n,) of a frame."""
    values = numbers(frame[PROBABILITY]).values
    bad = ~((values > 0) & (values <= 1))
    if bad.any():
        row = int(np.argmax(bad))
        value = shown(frame[PROBABILITY].iloc[row])
        where = f"{file.path}: row {frame.index[row]}: column {PROBABILITY!r}"
        raise InputError(f"{where}: {value} is no probability above 0")
    return values


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
