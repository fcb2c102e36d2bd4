"""Which (text, question) pairs are still to be asked, cut into shards."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pairs = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """Pairs of one shard.

    Attributes:
        start: first row of the part that they are about.
        columns: the questions that are asked about any of the rows.
        asked: (rows, len(columns)) the pairs.
    """

    start: int
    columns: tuple[int, ...]
    asked: Pairs

    @property
    def whole(self) -> bool:
        """Whether every row is asked every one of the questions."""
        return bool(self.asked.all())


def blocks(todo: Pairs, rows: int) -> Iterator[Block]:
    """Cut the pairs of a part (n, H) into blocks of up to `rows` rows; blocks without a pair are left out.

    >>> [(b.start, b.columns, b.whole) for b in blocks(np.array([[1, 0], [1, 0], [0, 0], [1, 1]], bool), 2)]
    [(0, (0,), True), (2, (0, 1), False)]
    """
    for start in range(0, len(todo), rows):
        part = todo[start : start + rows]
        columns = np.flatnonzero(part.any(axis=0))
        if len(columns):
            yield Block(start, tuple(columns.tolist()), part[:, columns])
