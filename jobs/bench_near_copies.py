"""What it costs to look for near copies of templated texts among as many others, and what is found.

    python jobs/bench_near_copies.py [--texts 20000] [--words 60] [--values 1000000]

The texts have one template and three slots, each filled with one of --values words. By default the template
alone makes two texts similar by 0.72, below the threshold of 0.8, and two that share a slot are similar by
0.81; with --words 100 all are near copies. Which these are is known from all pairs, for --checked texts.
Prints one JSON line:

- seconds: to add all texts, and to look for as many others;
- seconds_half: of half as many, and the ratio of both: 2 is linear, 4 quadratic;
- bytes_per_text: what the index takes, by its own arrays;
- near, recall: share of the checked texts that have a near copy, and of those the share found;
- too_many: share of the others that are found, with the highest similarity that one of the others has.
"""

import argparse
import json
import time
import tracemalloc

import numpy as np
import scipy.sparse as sp

from hypsae_ray.data.near_copies import CopyIndex, shingles

THRESHOLD = 0.8
AT_ONCE = 500


def main() -> None:
    """Compare texts, and print the figures."""
    options = _options()
    rng = np.random.default_rng(options.seed)
    known, wanted = (_filled_in(rng, options.texts, options.words, options.values) for _ in range(2))
    half, _, _ = _timed(known[: len(known) // 2], wanted[: len(wanted) // 2])
    seconds, found, size = _timed(known, wanted)
    best, found = _most_alike(known, wanted[: options.checked]), found[: options.checked]
    near = best >= THRESHOLD
    figures = {
        "texts": len(known),
        "seconds": round(seconds, 2),
        "seconds_half": round(half, 2),
        "ratio": round(seconds / half, 2),
        "bytes_per_text": round(size / len(known)),
        "near": round(float(near.mean()), 4),
        "recall": round(float(found[near].mean()), 4) if near.any() else None,
        "too_many": round(float(found[~near].mean()), 4) if not near.all() else None,
        "highest_below": round(float(best[~near].max()), 3) if not near.all() else None,
    }
    print(json.dumps(figures))


def _filled_in(rng: np.random.Generator, n: int, words: int, values: int) -> list[str]:
    template = [f"word{i}" for i in range(words)]
    slots = np.linspace(3, words - 4, 3).astype(int)
    texts: list[str] = []
    for fill in rng.integers(0, values, (n, 3)):
        for slot, value in zip(slots, fill, strict=True):
            template[slot] = f"value{value}"
        texts.append(" ".join(template))
    return texts


def _timed(known: list[str], wanted: list[str]) -> tuple[float, np.ndarray, int]:
    """Return seconds, which of the wanted are near copies, and the bytes that the index holds."""
    started = time.perf_counter()
    index = CopyIndex(THRESHOLD, np.random.default_rng(0))
    index.add(known)
    found = index.find(wanted)
    seconds = time.perf_counter() - started
    tracemalloc.start()
    again = CopyIndex(THRESHOLD, np.random.default_rng(0))
    again.add(known)
    again.find(wanted[:1])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, found, size


def _most_alike(known: list[str], wanted: list[str]) -> np.ndarray:
    """The largest Jaccard similarity of each wanted text and a known one, (n,), from all pairs."""
    a, b = shingles(known), shingles(wanted)
    both = np.intersect1d(a.indices, b.indices)
    one, other = _narrowed(a, both).T.tocsr(), _narrowed(b, both)
    sizes, best = np.diff(a.indptr), np.zeros(len(wanted))
    for start in range(0, len(wanted), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        shared = (other[part] @ one).toarray()
        best[part] = (shared / (sizes + np.diff(b.indptr)[part, None] - shared)).max(axis=1)
    return best


def _narrowed(sets: sp.csr_matrix, columns: np.ndarray) -> sp.csr_matrix:
    """Keep some columns; indexing would make an array for all 2^31."""
    inside = np.isin(sets.indices, columns)
    rows = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))[inside]
    places = np.searchsorted(columns, sets.indices[inside])
    return sp.csr_matrix((sets.data[inside], (rows, places)), shape=(sets.shape[0], len(columns)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--checked", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
