"""Find texts that are nearly copies of others, in time that is linear in their number.

1. A text is the set of its runs of three words in lower case, its shingles. In scripts that put no spaces
   between words (Chinese, Japanese, Thai), each character counts as a word.
2. An odd sketch of 1,024 bits keeps whether the number of shingles that hash to each bit is odd. The number
   of bits in which two sketches differ, and the sizes of the sets, give a Jaccard similarity (Mitzenmacher,
   Pagh and Pham, "Efficient estimation for high similarities using odd sketches", 2014). Where d shingles are
   not shared it is exact, but for d^2 pairs in 2,048, which seem more alike; at a similarity of 0.8 its
   standard error is 0.02 at most, of long texts too.
3. A forest decides which texts are compared: Bawa, Condie and Ganesan, "LSH forest: self-tuning indexes for
   similarity search", 2005. A signature holds a byte of the least hash of a set under each of 128 random
   functions (Broder 1997; a byte of each: Li and Koenig 2010). In each entry two texts agree with their
   Jaccard similarity as probability. A tree is the order of all signatures from one entry on; a text is
   compared with its neighbours in each order, which agree with it on the longest run of entries.

So a text takes the same time whatever the others are like, and what brought a pair together does not affect
its similarity. Copies that no tree brings near are missed. Those that agree on three entries in some tree are
found among millions of unrelated texts: of copies at a similarity of 0.8 all but 1e-10 do, at 0.5 all but
1.4 %. Among 20,000 texts of one template, all just below the threshold, a text that has one or two copies is
missed in 2 cases of 100, and 8 of 100 texts without any, the nearest at 0.73 to 0.76, are taken for copies
(`jobs/bench_near_copies.py`).

A text of fewer than 8 words has fewer than 6 shingles, which is too little evidence: one changed word in the
middle removes three of them, and what short texts share is often a set phrase. Such texts are near copies of
nothing.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

from hypsae_ray.data.arrays import Bools, Floats, Ints
from hypsae_ray.data.words import UNSPACED

Keys = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Orders = npt.NDArray[np.int32]
Texts = npt.NDArray[np.void]

MIN_SHINGLES = 6
N_HASHES = 128
_TREES = 32
_DEPTH = 8  # entries that a tree goes by: those of one 64-bit number
_NEIGHBOURS = 16  # texts that a tree brings near
_BITS = 1_024
_LARGEST = 1_024  # shingles of a set that is sketched whole
_TEXTS = 1_000  # hashed at a time
_QUERIES = 4_096  # compared at a time: 8 MiB of sketches on each side
_WORD = rf"[{UNSPACED}]|[^\W{UNSPACED}]+"
# What is kept of a text, 264 bytes; with its position in each tree, 392.
_TEXT = np.dtype(
    [
        ("signature", np.uint8, N_HASHES),
        ("sketch", np.uint64, _BITS // 64),
        ("size", np.int32),
        ("level", np.uint8),
    ],
    align=True,
)


class Hashes:
    """Random hash functions x -> (multiplier x + shift mod 2^64) >> 32; the last one is that of sketches.

    The family is 2-independent: Dietzfelbinger, "Universal hashing and k-wise independent random variables
    via integer arithmetic without primes", 1996.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._multipliers, self._shifts = rng.integers(0, 2**64, size=(2, N_HASHES + 1), dtype=np.uint64)

    def sign(self, sets: sp.csr_matrix) -> Bytes:
        """Return the signatures of n sets, none of them empty: (n, N_HASHES)."""
        signatures = np.empty((sets.shape[0], N_HASHES), dtype=np.uint8)
        if len(signatures):
            for i in range(N_HASHES):
                least = np.minimum.reduceat(self._hash(sets, i), sets.indptr[:-1])
                signatures[:, i] = least & np.uint64(255)
        return signatures

    def sketch(self, sets: sp.csr_matrix, levels: Ints) -> tuple[Keys, Ints]:
        """Return the odd sketches of n sets, (n, 16), and how many shingles each one counts, (n,).

        At level l, (n,), a share of 2^-l of all shingles is counted, the same ones in every text.
        """
        n, hashed = sets.shape[0], self._hash(sets, N_HASHES)
        owners = np.repeat(np.arange(n), np.diff(sets.indptr))
        counted = hashed >> (32 - levels[owners]).astype(np.uint64) == 0
        owners, bits = owners[counted], (hashed[counted] % _BITS).astype(np.int64)
        odd = np.bincount(owners * _BITS + bits, minlength=n * _BITS).reshape(n, _BITS) % 2
        return np.packbits(odd == 1, axis=1).view(np.uint64), np.bincount(owners, minlength=n)

    def _hash(self, sets: sp.csr_matrix, which: int) -> Keys:
        values = sets.indices.astype(np.uint64)
        return (values * self._multipliers[which] + self._shifts[which]) >> np.uint64(32)


def similarity(sketches: Keys, sizes: Ints, others: Keys, other_sizes: Ints) -> Floats:
    """Return the estimated Jaccard similarity (...) of sets by their sketches (..., 16) and sizes (...)."""
    apart = np.bitwise_count(sketches ^ others).sum(axis=-1, dtype=np.int64)
    share = np.minimum(2 * apart / _BITS, 1 - 1e-9)
    # Two shingles at one bit hide each other, so that the number sought is `apart` plus an even one.
    differing = apart + 2 * np.rint((-np.log1p(-share) * _BITS / 2 - apart) / 2)
    differing = np.maximum(differing, np.abs(sizes - other_sizes))
    total = sizes + other_sizes
    return (total - differing) / np.maximum(total + differing, 1)


def shingles(texts: Sequence[str]) -> sp.csr_matrix:
    """Return the sets of word 3-shingles as a binary matrix, (n, 2^31 - 1) sparse."""
    vectorizer = cast(Any, HashingVectorizer)(
        ngram_range=(3, 3),
        token_pattern=_WORD,
        lowercase=True,
        binary=True,
        norm=None,
        alternate_sign=False,
        n_features=2**31 - 1,
        dtype=np.float32,
    )
    return vectorizer.transform(texts)


class CopyIndex:
    """Texts, and which others are near copies of one of them; 0.4 kB per text of 8 words or more.

    Two texts count as near copies from an estimated Jaccard similarity of `threshold` on.
    """

    def __init__(self, threshold: float, rng: np.random.Generator) -> None:
        self._threshold = threshold
        self._hashes = Hashes(rng)
        self._known: list[Texts] = [np.empty(0, dtype=_TEXT)]
        self._trees: list[Orders] = []

    def add(self, texts: Sequence[str]) -> None:
        """Add texts; equal ones are best added once."""
        self._known.append(self._read(texts)[1][0])
        self._trees = []

    def find(self, texts: Sequence[str]) -> Bools:
        """Return which texts are near copies of one that was added, (n,); texts too short to tell are not.

        Each call reads all trees: give it thousands of texts, if there are as many.
        """
        found = np.zeros(len(texts), dtype=bool)
        known = self._grow()
        if len(known) and len(texts):
            levels = np.unique(known["level"])
            enough, queries = self._read(texts, levels)
            found[enough] = self._find(queries, levels, known)
        return found

    def _read(self, texts: Sequence[str], levels: Bytes | None = None) -> tuple[Bools, Texts]:
        """Return which texts have enough shingles, (n,), and these m: (1, m), or (L, m) at given levels."""
        n_levels = 1 if levels is None else len(levels)
        enough, read = [np.zeros(0, dtype=bool)], [np.empty((n_levels, 0), dtype=_TEXT)]
        for start in range(0, len(texts), _TEXTS):
            sets = shingles(texts[start : start + _TEXTS])
            enough.append(np.diff(sets.indptr) >= MIN_SHINGLES)
            sets = sets[enough[-1]]
            own_level = np.ceil(np.log2(np.maximum(np.diff(sets.indptr) / _LARGEST, 1)))
            part = np.empty((n_levels, sets.shape[0]), dtype=_TEXT)
            part["signature"] = self._hashes.sign(sets)
            part["level"] = own_level if levels is None else levels[:, None]
            for at_level in part:
                sketches = self._hashes.sketch(sets, at_level["level"].astype(np.int64))
                at_level["sketch"], at_level["size"] = sketches
            read.append(part)
        return np.concatenate(enough), np.concatenate(read, axis=1)

    def _grow(self) -> Texts:
        """Return all texts that were added; the trees are sorted once, when the first question comes."""
        if not self._trees:
            self._known = [np.concatenate(self._known)]
            signatures = self._known[0]["signature"]
            self._trees = [np.argsort(_keys(signatures, tree)).astype(np.int32) for tree in range(_TREES)]
        return self._known[0]

    def _find(self, queries: Texts, levels: Bytes, known: Texts) -> Bools:
        """Return which of m texts, (L, m), are near copies of a known one, (m,)."""
        found = np.zeros(queries.shape[1], dtype=bool)
        for tree, order in enumerate(self._trees):
            rows = np.flatnonzero(~found)
            keys = _keys(queries["signature"][0, rows], tree)
            middle = np.searchsorted(_keys(known["signature"], tree), keys, sorter=order)
            for start in range(0, len(rows), _QUERIES):
                part = slice(start, start + _QUERIES)
                around = middle[part, None] + np.arange(-_NEIGHBOURS // 2, _NEIGHBOURS // 2)
                near = order[np.clip(around, 0, len(order) - 1)]
                at = (np.searchsorted(levels, known["level"][near]), rows[part, None])  # at its own level
                alike = similarity(
                    queries["sketch"][at], queries["size"][at], known["sketch"][near], known["size"][near]
                )
                found[rows[part]] = (alike >= self._threshold).any(axis=1)
        return found


def _keys(signatures: Bytes, tree: int) -> Keys:
    """Return the entries that a tree goes by as numbers, (n,), which have the same order."""
    entries = (tree * N_HASHES // _TREES + np.arange(_DEPTH)) % N_HASHES
    return np.ascontiguousarray(signatures[:, entries]).view(">u8").ravel().astype(np.uint64)
