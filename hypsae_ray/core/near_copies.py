"""Find texts that are nearly copies of others: MinHash of word 3-shingles.

1. A text is the set of its runs of three words in lower case, its shingles, each one hashed to 31 bits.
2. Its signature is the least value of that set under each of 128 random hash functions. The share of entries
   in which two signatures agree estimates the Jaccard similarity of the two sets: Broder, "On the resemblance
   and containment of documents", 1997. Its standard error at 0.8 is 0.035.
3. Signatures are cut into bands of a few entries. Only texts that agree on a whole band are compared (Indyk
   and Motwani, "Approximate nearest neighbors", 1998).

A text of fewer than 8 words has fewer than 6 shingles. That is too little to go by: one changed word in the
middle takes away three of them, and what short texts do share is often a set phrase. So such texts are near
copies of nothing. This holds, too, for languages that put no spaces between words.
"""

# scikit-learn has no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

Signatures = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

N_HASHES = 128
MIN_SHINGLES = 6
MISSED = 1e-3  # share of copies at the threshold itself that may agree on no band
_TEXTS = 1_000  # hashed at a time
_PAIRS = 1 << 16  # compared at a time: 32 MiB of signatures on each side
_NONE = np.empty((0, N_HASHES), dtype=np.uint32)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads the bits of a band over its key


@dataclass(frozen=True)
class MinHash:
    """Random hash functions x -> (multiplier x + shift mod 2^64) >> 32, each in place of a permutation.

    The family is 2-independent: Dietzfelbinger, "Universal hashing and k-wise independent random variables
    via integer arithmetic without primes", 1996.

    Attributes:
        multipliers: (N_HASHES,) uint64.
        shifts: (N_HASHES,) uint64.
    """

    multipliers: Keys
    shifts: Keys

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "MinHash":
        """Draw the functions."""
        multipliers, shifts = rng.integers(0, 2**64, size=(2, N_HASHES), dtype=np.uint64)
        return cls(multipliers, shifts)

    def sign(self, texts: Sequence[str]) -> tuple[Bools, Signatures]:
        """Return which texts have enough shingles, (n,), and the signatures of these, (m, N_HASHES)."""
        enough, signatures = [np.empty(0, dtype=bool)], [_NONE]
        for start in range(0, len(texts), _TEXTS):
            sets = shingles(texts[start : start + _TEXTS])
            enough.append(np.diff(sets.indptr) >= MIN_SHINGLES)
            signatures.append(self._sign(sets[enough[-1]]))
        return np.concatenate(enough), np.concatenate(signatures)

    def _sign(self, sets: sp.csr_matrix) -> Signatures:
        values, starts = sets.indices.astype(np.uint64), sets.indptr[:-1]
        signatures = np.empty((len(starts), N_HASHES), dtype=np.uint32)
        if len(starts):
            for i, (multiplier, shift) in enumerate(zip(self.multipliers, self.shifts, strict=True)):
                hashed = (values * multiplier + shift) >> np.uint64(32)
                signatures[:, i] = np.minimum.reduceat(hashed, starts)
        return signatures


def shingles(texts: Sequence[str]) -> sp.csr_matrix:
    """Return the sets of word 3-shingles as a binary matrix, (n, 2^31 - 1) sparse."""
    vectorizer = cast(Any, HashingVectorizer)(
        ngram_range=(3, 3),
        token_pattern=r"\w+",
        lowercase=True,
        binary=True,
        norm=None,
        alternate_sign=False,
        n_features=2**31 - 1,
        dtype=np.float32,
    )
    return vectorizer.transform(texts)


@dataclass(frozen=True)
class _Band:
    """The keys of one band of all signatures, ascending, and the signature of each."""

    keys: Keys
    owners: npt.NDArray[np.int32]


class CopyIndex:
    """Texts, and which others are near copies of one of them; 0.8 kB per text at a threshold of 0.8.

    Args:
        threshold: estimated Jaccard similarity from which two texts count as near copies, in 0 to 1.
        rng: draws the hash functions.
    """

    def __init__(self, threshold: float, rng: np.random.Generator) -> None:
        self._threshold = threshold
        self._hashes = MinHash.draw(rng)
        self._width = band_width(threshold)
        self._parts: list[Signatures] = []
        self._bands: list[_Band] = []

    def add(self, texts: Sequence[str]) -> None:
        """Add texts; equal ones are best added once."""
        self._parts.append(self._hashes.sign(texts)[1])
        self._bands = []

    def find(self, texts: Sequence[str]) -> Bools:
        """Return which texts are near copies of one that was added, (n,); texts too short to tell are not."""
        enough, signatures = self._hashes.sign(texts)
        found = np.zeros(len(texts), dtype=bool)
        found[enough] = self._find(signatures)
        return found

    def _find(self, signatures: Signatures) -> Bools:
        known, found = self._build(), np.zeros(len(signatures), dtype=bool)
        for band, keys in zip(self._bands, _band_keys(signatures, self._width), strict=True):
            open_rows = np.flatnonzero(~found)
            left, right = (np.searchsorted(band.keys, keys[open_rows], side) for side in ("left", "right"))
            for query, place in _pairs(left, right):
                rows = open_rows[query]
                alike = (known[band.owners[place]] == signatures[rows]).mean(axis=1)
                found[rows[alike >= self._threshold]] = True
        return found

    def _build(self) -> Signatures:
        """Return all signatures; their bands are sorted once, when the first question comes."""
        if not self._bands:
            self._parts = [np.concatenate([_NONE, *self._parts])]
            for keys in _band_keys(self._parts[0], self._width):
                owners = np.argsort(keys).astype(np.int32)
                self._bands.append(_Band(keys[owners], owners))
        return self._parts[0]


def band_width(threshold: float) -> int:
    """Return how many entries make a band: as many as find all but MISSED of the pairs at the threshold.

    Two texts of similarity s agree on a band of width w with s^w, and on none of N_HASHES / w bands with
    (1 - s^w)^(N_HASHES / w).

    >>> band_width(0.8), band_width(0.5)
    (5, 2)
    """
    widths = range(2, N_HASHES // 8 + 1)
    return max((w for w in widths if (1 - threshold**w) ** (N_HASHES // w) <= MISSED), default=1)


def _band_keys(signatures: Signatures, width: int) -> Iterator[Keys]:
    """Yield one key per signature and band, (n,); equal bands have equal keys."""
    for start in range(0, N_HASHES - width + 1, width):
        keys = np.zeros(len(signatures), dtype=np.uint64)
        for column in signatures[:, start : start + width].T:
            keys = (keys + column) * _ODD
        yield keys


def _pairs(left: Ints, right: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield each query with each place from its `left` up to its `right`, at most _PAIRS pairs at a time."""
    ends = np.cumsum(right - left)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _PAIRS):
        pair = np.arange(start, min(start + _PAIRS, total))
        query = np.searchsorted(ends, pair, side="right")
        yield query, right[query] - (ends[query] - pair)
