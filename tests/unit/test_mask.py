import re

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.data.mask import Mask
from hypsae_ray.errors import InputError
from hypsae_ray.labels.draw import DrawnRows

PAIRS = {(9, 0), (2, 1), (2, 3), (40, 2), (0, 3), (41, 0)}


def write(path, rows, columns=("row_id", "hypothesis_id")):
    frame = pd.DataFrame(rows, columns=list(columns))
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return str(path)


def dense(pairs, row_ids, n_hypotheses):
    return np.array([[(row, h) in pairs for h in range(n_hypotheses)] for row in row_ids], dtype=bool)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_pairs_are_read_in_order_of_row(tmp_path, ending):
    mask = Mask.read(write(tmp_path / f"pairs.{ending}", sorted(PAIRS, reverse=True)), 4)
    assert mask.row_ids.tolist() == [0, 2, 2, 9, 40, 41]
    assert set(zip(mask.row_ids.tolist(), mask.hypotheses.tolist(), strict=True)) == PAIRS


def test_all_files_of_a_folder_are_one_mask_and_more_columns_do_no_harm(tmp_path):
    columns = ("why", "hypothesis_id", "row_id")
    write(tmp_path / "a.csv", [("x", 0, 9), ("y", 1, 2), ("x", 0, 9)], columns)
    write(tmp_path / "b.parquet", [("x", 3, 2)], columns)
    mask = Mask.read(str(tmp_path), 4)
    np.testing.assert_array_equal(mask.of(np.arange(12), 4), dense({(9, 0), (2, 1), (2, 3)}, range(12), 4))


@pytest.mark.parametrize(
    "row_ids",
    [
        [0, 1, 2, 9, 40, 41],
        [1, 2, 3, 8, 10, 39, 40, 50],  # rows of the mask in the gaps, and before and behind
        [3, 4, 5],  # none of them in the mask
        [100, 101],
        [41],
        [],
    ],
)
def test_a_mask_of_rows_with_gaps(tmp_path, row_ids):
    mask = Mask.read(write(tmp_path / "pairs.csv", list(PAIRS)), 4)
    asked = mask.of(np.array(row_ids, dtype=np.int64), 4)
    assert asked.dtype == bool
    np.testing.assert_array_equal(asked, dense(PAIRS, row_ids, 4).reshape(len(row_ids), 4))


def test_a_mask_of_many_random_pairs_in_shards(tmp_path):
    rng = np.random.default_rng(0)
    pairs = {(int(row), int(h)) for row, h in rng.integers(0, [500, 11], size=(900, 2))}
    mask = Mask.read(write(tmp_path / "pairs.parquet", list(pairs)), 11)
    kept = np.flatnonzero(rng.random(500) < 0.7)
    shards = [mask.of(kept[i : i + 60], 11) for i in range(0, len(kept), 60)]
    np.testing.assert_array_equal(np.concatenate(shards), dense(pairs, kept.tolist(), 11))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("bad", "column", "shown"),
    [
        ((5, 4), "hypothesis_id", "4"),  # four hypotheses: 0 to 3
        ((5, -1), "hypothesis_id", "-1"),
        ((5, 1.5), "hypothesis_id", r"1\.5"),
        ((-1, 1), "row_id", "-1"),
        ((2.5, 1), "row_id", r"2\.5"),
        ((5, float("nan")), "hypothesis_id", "null"),
        ((float("inf"), 1), "row_id", "inf"),
    ],
)
def test_a_value_that_is_no_row_or_hypothesis_is_named(tmp_path, ending, bad, column, shown):
    path = tmp_path / f"pairs.{ending}"
    write(path, [(0, 0), (1, 3), bad, (7, 9)])
    with pytest.raises(InputError) as caught:
        Mask.read(str(path), 4)
    message = str(caught.value)
    assert message.startswith(f"{path}: row 3: column '{column}': ")
    assert re.search(rf": '?{shown}(\.0)?'? is none of", message)


def test_words_are_no_numbers(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("row_id,hypothesis_id\n0,0\nsecond,1\n")
    with pytest.raises(InputError, match=r"pairs\.csv: row 2: column 'row_id': 'second'"):
        Mask.read(str(path), 4)


def test_a_file_without_the_columns_is_refused(tmp_path):
    path = write(tmp_path / "pairs.csv", [(0, 1)], ("row_id", "hypothesis"))
    with pytest.raises(InputError, match="no column 'hypothesis_id'"):
        Mask.read(path, 4)


DESIGN = ("row_id", "hypothesis_id", "probability")


def test_a_mask_with_probabilities_is_a_design(tmp_path):
    rows = [(7, 0, 0.5), (7, 1, 0.5), (3, 1, 0.2), (3, 0, 0.2)]
    mask = Mask.read(write(tmp_path / "pairs.csv", rows, DESIGN), 2)
    drawn = DrawnRows.of(mask.row_ids, mask.probability)
    assert drawn.row_ids.tolist() == [3, 7]
    assert drawn.probability.tolist() == [0.2, 0.5]
    assert not drawn.uniform.any()
    there, at = drawn.positions(np.array([0, 3, 7, 9]))
    assert there.tolist() == [False, True, True, False]
    assert at.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(7, 0, 0.5), (7, 1, 0)], "row 2: column 'probability': .* is no probability above 0"),
        ([(7, 0, 0.5), (7, 1, None)], "row 2: column 'probability': null is no probability above 0"),
        ([(7, 0, 1.5), (7, 1, 1.5)], "row 1: column 'probability': '1.5' is no probability"),
        ([(7, 0, 0.5), (7, 1, 0.4)], "row_id 7 has 2 probabilities: a row is drawn with one"),
        (
            [(7, 0, 0.5), (7, 1, 0.5), (8, 1, 0.5)],
            "row_id 8 names 1 of 2 hypotheses: a row that was drawn has all",
        ),
    ],
)
def test_a_design_that_is_none_is_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        Mask.read(write(tmp_path / "pairs.csv", rows, DESIGN), 2)
