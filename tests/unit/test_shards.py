import numpy as np
import pytest

from hypsae_ray.labels.shards import Shard, cut
from hypsae_ray.labels.texts import TextFile

FILE = TextFile(number=3, rows=6, digest="0123abcd")
QUESTIONS = ("mentions dogs", "mentions cats", "is angry", "asks for more", "e", "f", "g")


def shards(todo, rows):
    return list(cut(FILE, todo, QUESTIONS[: todo.shape[1]], rows))


def columns(shard):
    return [QUESTIONS.index(question) for question in shard.questions]


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("rows", [1, 3, 16, 1000])
def test_every_pair_is_in_one_shard(density, rows):
    rng = np.random.default_rng(rows)
    todo = rng.random((50, 7)) < density
    counted = np.zeros(todo.shape, dtype=int)
    for shard in shards(todo, rows):
        assert shard.rows == len(shard.pairs) <= rows
        for row, column in np.argwhere(shard.pairs):
            counted[shard.start + row, columns(shard)[column]] += 1
    np.testing.assert_array_equal(counted, todo.astype(int))


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_no_shard_lies_across_the_grid_or_asks_for_nothing(rows):
    found = shards(np.random.default_rng(0).random((30, 6)) < 0.1, rows)
    assert [shard.start for shard in found] == sorted({shard.start for shard in found})
    for shard in found:
        assert shard.start % rows == 0
        assert shard.pairs.shape == (min(rows, 30 - shard.start), len(shard.questions))
        assert shard.pairs.any(axis=0).all()  # no question for nothing
        assert columns(shard) == sorted(set(columns(shard)))


def test_pairs_are_told_only_where_a_row_is_not_asked_every_question():
    todo = np.array(
        [
            [1, 0, 1],  # shard of rows 0 and 1: both are asked questions 0 and 2
            [1, 0, 1],
            [0, 1, 0],  # row 3 is asked nothing, row 2 one question
            [0, 0, 0],
            [0, 0, 0],  # nothing at all
            [0, 0, 0],
            [0, 0, 1],  # a last shard of one row
        ],
        dtype=bool,
    )
    found = [(shard.start, columns(shard), shard.packed is None) for shard in shards(todo, 2)]
    assert found == [(0, [0, 2], True), (2, [1], False), (6, [2], True)]


def test_nothing_to_do_gives_no_shard():
    assert not shards(np.zeros((0, 4), dtype=bool), 8)
    assert not shards(np.zeros((4, 0), dtype=bool), 8)


@pytest.mark.parametrize("shape", [(1, 3), (5, 7), (3, 8)])
def test_pairs_survive_the_packing(shape):
    asked = np.random.default_rng(0).random(shape) < 0.5
    shard = Shard(FILE, 0, shape[0], QUESTIONS[: shape[1]] if shape[1] < 8 else tuple("abcdefgh"))
    assert shard.pairs.all()
    np.testing.assert_array_equal(shard.only(asked).pairs, asked)
    assert shard.only(asked).only(shard.pairs) == shard


def test_names_of_shards_tell_them_apart():
    holes = [np.array(pairs, dtype=bool) for pairs in ([[1, 0], [1, 1]], [[0, 1], [1, 1]])]
    two = QUESTIONS[:2]
    found = [
        Shard(FILE, 0, 2, two),
        Shard(FILE, 2, 2, two),
        Shard(FILE, 0, 3, two),
        Shard(FILE, 0, 2, QUESTIONS[:3:2]),
        Shard(FILE, 0, 2, two[::-1]),
        *(Shard(FILE, 0, 2, two).only(pairs) for pairs in holes),
        Shard(TextFile(4, 6, FILE.digest), 0, 2, two),
        Shard(TextFile(3, 6, "ffffffff"), 0, 2, two),
    ]
    assert len({shard.name for shard in found}) == len(found)


def test_names_are_those_of_version_0_1_so_that_older_folders_go_on():
    shard = Shard(FILE, 64, 2, QUESTIONS[:2])
    assert FILE.name == "texts-00003-6-0123abcd.parquet"
    assert shard.name == "shard-00003-0123abcd-000064-2-a530201c.parquet"
    assert (
        shard.only(np.array([[1, 0], [1, 1]], dtype=bool)).name
        == "shard-00003-0123abcd-000064-2-a530201c-f4f97c88.parquet"
    )
