import numpy as np
import pytest

from hypsae_ray.labels.pairs import blocks


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("rows", [1, 3, 16, 1000])
def test_every_pair_is_in_one_block(density, rows):
    rng = np.random.default_rng(rows)
    todo = rng.random((50, 7)) < density
    counted = np.zeros(todo.shape, dtype=int)
    for block in blocks(todo, rows):
        assert len(block.asked) <= rows
        for row, column in np.argwhere(block.asked):
            counted[block.start + row, block.columns[column]] += 1
    np.testing.assert_array_equal(counted, todo.astype(int))


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_no_block_lies_across_the_grid_or_asks_for_nothing(rows):
    todo = np.random.default_rng(0).random((30, 6)) < 0.1
    cut = list(blocks(todo, rows))
    assert [block.start for block in cut] == sorted({block.start for block in cut})
    for block in cut:
        assert block.start % rows == 0
        assert block.asked.shape == (min(rows, 30 - block.start), len(block.columns))
        assert block.asked.any(axis=0).all()  # no column for nothing
        assert list(block.columns) == sorted(set(block.columns))


def test_whole_means_that_each_row_is_asked_each_question():
    todo = np.array(
        [
            [1, 0, 1],  # block of rows 0 and 1: both are asked questions 0 and 2
            [1, 0, 1],
            [0, 1, 0],  # row 3 is asked nothing, row 2 one question
            [0, 0, 0],
            [0, 0, 0],  # nothing at all
            [0, 0, 0],
            [0, 0, 1],  # a last block of one row
        ],
        dtype=bool,
    )
    found = [(block.start, block.columns, block.whole) for block in blocks(todo, 2)]
    assert found == [(0, (0, 2), True), (2, (1,), False), (6, (2,), True)]


def test_nothing_to_do_gives_no_block():
    assert not list(blocks(np.zeros((0, 4), dtype=bool), 8))
    assert not list(blocks(np.zeros((4, 0), dtype=bool), 8))
