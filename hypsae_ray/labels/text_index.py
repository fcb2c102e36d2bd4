"""Where each text is, by its hash: 24 bytes a text, so that ten million of them take 240 MB.

The hashes (16 bytes) lie in sorted runs. A new run is merged with the older ones that are not longer, so
adding n texts costs n log n in all, and finding one looks into a few runs.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.void]
Places = npt.NDArray[np.int64]
UNKNOWN = -1
_ROW = np.dtype([("first", np.uint64), ("second", np.uint64), ("place", np.int64)])


class TextIndex:
    """A map from text ids (16 bytes each) to places (any int64 from 0 up)."""

    def __init__(self) -> None:
        self._runs: list[Table] = []  # each one sorted by `first`

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def find(self, ids: Sequence[bytes]) -> Places:
        """Return the place of each id, UNKNOWN where it has none."""
        wanted = _table(ids)
        places = np.full(len(wanted), UNKNOWN, dtype=np.int64)
        for run in self._runs:
            # Of two ids with one first half (one chance in 10^5 among ten million) only one is found; the
            # other counts as new, and is asked about once more.
            at = np.minimum(np.searchsorted(run["first"], wanted["first"]), len(run) - 1)
            hit = (run["first"][at] == wanted["first"]) & (run["second"][at] == wanted["second"])
            places[hit] = run["place"][at[hit]]
        return places

    def add(self, ids: Sequence[bytes], places: Places) -> None:
        """Add distinct ids that are not there yet, with their places."""
        run = _table(ids)
        if not len(run):
            return
        run["place"] = places
        run = run[np.argsort(run["first"], kind="stable")]
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.concatenate([self._runs.pop(), run])
            run = run[np.argsort(run["first"], kind="stable")]
        self._runs.append(run)


def _table(ids: Sequence[bytes]) -> Table:
    halves = np.frombuffer(b"".join(ids), dtype=np.uint64).reshape(-1, 2)
    table = np.zeros(len(halves), dtype=_ROW)
    table["first"], table["second"] = halves[:, 0], halves[:, 1]
    return table
