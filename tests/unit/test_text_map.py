"""Places of texts: close vectors are close, whatever the number of threads, and few rows have places too."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from hypsae_ray.config import Chunk, Data
from hypsae_ray.data.chunks import CHUNKS
from hypsae_ray.models.protocols import Embedded
from hypsae_ray.report import text_map
from hypsae_ray.report.text_map import place
from hypsae_ray.stages.embed import to_table
from hypsae_ray.stages.holdout import read_vectors
from hypsae_ray.store.artifacts import Folder


def clusters(n: int, d: int = 60, k: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, d) float32 around k centres, and the centre of each, (n,)."""
    rng = np.random.default_rng(3)
    of = rng.integers(k, size=n)
    centres = rng.normal(size=(k, d))
    return (centres[of] + 0.5 * rng.normal(size=(n, d))).astype(np.float32), of


def purity(places: np.ndarray, of: np.ndarray) -> float:
    """Share of the five nearest neighbours on the map that are of the same centre."""
    near = NearestNeighbors(n_neighbors=6).fit(places).kneighbors(places, return_distance=False)[:, 1:]
    return float((of[near] == of[:, None]).mean())


def test_neighbours_on_the_map_are_of_one_centre():
    vectors, of = clusters(250)
    places = place(vectors, 0)
    assert places.shape == (250, 2) and places.dtype == np.float32 and np.isfinite(places).all()
    assert purity(places, of) > 0.99


def test_rows_beyond_the_sample_lie_among_their_neighbours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_map, "PLACED_BY_TSNE", 150)
    vectors, of = clusters(400)
    places = place(vectors, 0)
    assert len(np.unique(places, axis=0)) > 350 and purity(places, of) > 0.95


def test_one_thread_or_two_and_twice_is_the_same_map():
    vectors, _ = clusters(120)
    maps = []
    for threads in (1, 2, 2):
        with threadpool_limits(threads):
            maps.append(place(vectors, 5))
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[1], maps[2])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 20])
def test_few_rows_have_places_of_their_own(n: int):
    vectors, _ = clusters(n)
    places = place(vectors, 0)
    assert places.shape == (n, 2) and np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == n


@pytest.mark.parametrize("n", [1, 3, 50])
def test_equal_vectors_lie_at_one_place(n: int):
    np.testing.assert_array_equal(place(np.full((n, 7), 0.3, np.float32), 0), np.zeros((n, 2)))


def test_vectors_on_a_line_of_one_dimension():
    places = place(np.linspace(0, 1, 40, dtype=np.float32)[:, None], 0)
    assert places.shape == (40, 2) and np.isfinite(places).all()


def embedded(tmp_path: Path, **tables: dict[int, list[float]]) -> Folder:
    """A folder with tables of embeddings, each of row ids and vectors."""
    folder = Folder.at(tmp_path)
    for name, rows in tables.items():
        vectors = np.array(list(rows.values()), dtype=np.float32)
        table = to_table(np.array(list(rows)), Embedded(vectors, np.zeros(len(rows), np.int32)), "float32")
        assert isinstance(table, pa.Table)
        folder.write_table(f"{name.replace('_of_', '-')}.parquet", table)
    return folder


def test_vectors_of_rows_come_in_the_order_that_is_asked_for(tmp_path: Path):
    folder = embedded(tmp_path, holdout_of_0={4: [1, 2], 7: [3, 4]}, holdout_of_1={9: [5, 6]})
    found = read_vectors(folder, Data(train="t", holdout="h", target="y"), np.array([9, 4]))
    assert found.dtype == np.float32 and found.tolist() == [[5, 6], [1, 2]]
    lacking = read_vectors(folder, Data(train="t", holdout="h", target="y"), np.array([9, 77]))
    assert np.isfinite(lacking[0]).all() and np.isnan(lacking[1]).all()


def test_a_document_has_the_mean_of_its_chunks_wherever_these_are_stored(tmp_path: Path):
    first = {CHUNKS * 2: [1, 1], CHUNKS * 3: [9, 9]}
    folder = embedded(tmp_path, holdout_of_0={CHUNKS * 2 + 1: [3, 7]}, holdout_of_1=first)
    data = Data(train="t", holdout="h", target="y", chunk=Chunk())
    assert read_vectors(folder, data, np.array([2, 3])).tolist() == [[2, 4], [9, 9]]


def test_a_pair_has_the_first_less_the_second(tmp_path: Path):
    texts = {CHUNKS: [1, 1], CHUNKS + 1: [4, 0], CHUNKS * 5: [2, 2], CHUNKS * 5 + 1: [2, 2]}
    data = Data(train="t", holdout="h", target="y", text_a="a", text_b="b")
    found = read_vectors(embedded(tmp_path, holdout_of_0=texts), data, np.array([1, 5]))
    assert found.tolist() == [[-3, 1], [0, 0]]
