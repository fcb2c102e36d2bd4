"""A map of the holdout: each labelled text at a place in the plane, next to texts whose embedding is close.

It shows what the texts are about, and nothing is tested on it. It is kept in the run folder with what it was
made from, so that a report that is written again does not compute it again.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from hypsae_ray.data.arrays import Ints
from hypsae_ray.labels.draw import uniform_numbers
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.stages.holdout import read_vectors
from hypsae_ray.store.artifacts import Folder

Vectors = npt.NDArray[np.float32]

MAP = "map.parquet"
SEED = 0
FOR_PAGE = 0x510E527FADE682D1
"""A salt: which rows a page shows has nothing to do with which were labelled."""
PCA_DIMENSIONS = 50
PERPLEXITY = 30.0
# Texts at the most; the others are placed among these. So 20,000 vectors of 384 dimensions take 39 s of one
# core. All of them by t-SNE take scikit-learn 288 s, and openTSNE 1.0.4, which has no wheel for Linux on ARM,
# 63 s; 2,000 take them 11 s and 10 s.
PLACED_BY_TSNE = 5_000
NEIGHBOURS = 5
_FACTS = b"hypsae"
_ROWS_OF_MAP = pa.schema([("row_id", pa.int64()), ("x", pa.float32()), ("y", pa.float32())])


def place(vectors: Vectors, random_state: int) -> Vectors:
    """Return a place (n, 2) for each vector (n, d): close ones are close, by PCA and then t-SNE.

    Of more than PLACED_BY_TSNE rows a random sample is placed, and each other row at the mean of its
    NEIGHBOURS nearest ones of the sample. It works in one thread: in two, sums are rounded in another order,
    which moves texts across the map.
    """
    with threadpool_limits(1):
        reduced = _principal(vectors, random_state)
        if len(reduced) <= PLACED_BY_TSNE:
            return _by_tsne(reduced, random_state)
        rng = np.random.default_rng(random_state)
        sample = np.sort(rng.choice(len(reduced), PLACED_BY_TSNE, replace=False))
        placed = np.zeros((len(reduced), 2), dtype=np.float32)
        placed[sample] = _by_tsne(reduced[sample], random_state)
        others = np.setdiff1d(np.arange(len(reduced)), sample)
        nearest: Any = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(reduced[sample])
        near = nearest.kneighbors(reduced[others], return_distance=False)
        placed[others] = placed[sample][near].mean(axis=1)
        return placed


def _principal(vectors: Vectors, random_state: int) -> Vectors:
    """Return the coordinates of vectors (n, d) on their first axes, (n, k), 2 <= k <= PCA_DIMENSIONS."""
    n, d = vectors.shape
    k = min(n, d, PCA_DIMENSIONS)
    found = np.zeros((n, max(k, 2)), dtype=np.float32)
    if n > 1 and np.ptp(vectors, axis=0).any():
        pca: Any = PCA(
            k, svd_solver="auto" if k < PCA_DIMENSIONS else "randomized", random_state=random_state
        )
        found[:, :k] = pca.fit_transform(vectors)
    return found


def _by_tsne(reduced: Vectors, random_state: int) -> Vectors:
    """Place rows (n, k), k of 2 or more; three rows or fewer, and equal ones, by their first axes alone."""
    first = reduced[:, :2]
    if len(reduced) <= 3 or not first.any():
        return first.copy()
    perplexity = min(PERPLEXITY, (len(reduced) - 1) / 3)
    start = first / first[:, 0].std() * 1e-4  # as scikit-learn's own init="pca", which fails on one axis
    tsne: Any = TSNE(perplexity=perplexity, init=start, random_state=random_state)
    return tsne.fit_transform(reduced)


def mapped_rows(row_ids: Ints, most: int) -> Ints:
    """Return which rows (n,) have a place: all, or a sample of `most`, the same every time; ascending."""
    distinct = np.unique(row_ids)
    if len(distinct) <= most:
        return distinct
    numbers = uniform_numbers(distinct, FOR_PAGE)
    return distinct[numbers <= np.partition(numbers, most - 1)[most - 1]]


def read_map(run: RunFolder, row_ids: Ints, say: Callable[[str], None]) -> pd.DataFrame:
    """Return the places of some rows of the holdout: row_id, and x and y as float32.

    Args:
        run: a run with embeddings of its holdout.
        row_ids: (n,) rows, as `stages.holdout.read_rows` has them: of chunks documents, of two texts pairs.
        say: hears that texts are about to be placed; a map of the same rows is read from the run folder.

    A row without an embedding has no place: NaN.
    """
    embedded = run.folders()["embed_holdout"]
    facts = {"embed_holdout": embedded.name, "seed": SEED, "rows": len(row_ids)}
    if (stored := _stored(run.folder, facts)) is not None and np.array_equal(stored["row_id"], row_ids):
        return stored
    say(f"map: placing {len(row_ids):,} texts by t-SNE")
    vectors = read_vectors(embedded, run.config.data, row_ids)
    known = np.isfinite(vectors).all(axis=1)
    places = np.full((len(row_ids), 2), np.nan, dtype=np.float32)
    places[known] = place(vectors[known], SEED)
    found = pd.DataFrame({"row_id": row_ids, "x": places[:, 0], "y": places[:, 1]})
    table = pa.Table.from_pandas(found, schema=_ROWS_OF_MAP, preserve_index=False)
    run.folder.write_table(MAP, table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()}))
    return found


def _stored(folder: Folder, facts: Mapping[str, Any]) -> pd.DataFrame | None:
    """Return the map of a run folder; None if there is none, or it was made from something else."""
    if not folder.has(MAP):
        return None
    with folder.open(MAP) as file:
        known = json.loads((pq.read_schema(file).metadata or {}).get(_FACTS, b"{}"))
    return folder.read_table(MAP).to_pandas() if known == facts else None
