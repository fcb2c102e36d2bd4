"""Shards: some rows of a file of texts and the questions about them, one task and one file of annotations."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hypsae_ray.labels.texts import TextFile

Pairs = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shard:
    """Pairs of text and question that one task asks: about `rows` rows of a file, from `start` on.

    `packed` holds the pairs (rows, questions) as bits, where they are not all; None: all.
    """

    file: TextFile
    start: int
    rows: int
    questions: tuple[str, ...]
    packed: bytes | None = None

    @property
    def name(self) -> str:
        """Its file name, by which finished shards are known."""
        pairs = "" if self.packed is None else f"-{hash8(self.packed)}"
        questions = questions_key(self.questions)
        return f"shard-{self.file.key}-{self.start:06d}-{self.rows}-{questions}{pairs}.parquet"

    @property
    def pairs(self) -> Pairs:
        """The pairs to ask (rows, questions)."""
        shape = (self.rows, len(self.questions))
        if self.packed is None:
            return np.ones(shape, dtype=bool)
        bits = np.unpackbits(
            np.frombuffer(self.packed, dtype=np.uint8), count=self.rows * len(self.questions)
        )
        return bits.astype(bool).reshape(shape)

    def only(self, pairs: Pairs) -> "Shard":
        """Return the shard of these pairs (rows, questions) alone."""
        return replace(self, packed=None if pairs.all() else np.packbits(pairs).tobytes())


def cut(file: TextFile, pairs: Pairs, questions: Sequence[str], rows: int) -> Iterator[Shard]:
    """Cut the pairs to ask of a file (n, H) into shards of up to `rows` rows; one without a pair is left out.

    >>> found = cut(TextFile(0, 4, ""), np.array([[1, 0], [1, 0], [0, 0], [1, 1]], bool), ("a", "b"), 2)
    >>> [(shard.start, shard.questions, shard.packed is None) for shard in found]
    [(0, ('a',), True), (2, ('a', 'b'), False)]
    """
    for start in range(0, len(pairs), rows):
        part = pairs[start : start + rows]
        columns = np.flatnonzero(part.any(axis=0))
        if len(columns):
            shard = Shard(file, start, len(part), tuple(questions[column] for column in columns))
            yield shard.only(part[:, columns])


def questions_key(questions: Sequence[str]) -> str:
    """Return what names of files call questions that are asked together."""
    return hash8(json.dumps(questions).encode())


def hash8(content: bytes) -> str:
    """Return the first 8 hex digits of the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:8]
