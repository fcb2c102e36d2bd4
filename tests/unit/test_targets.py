import numpy as np
import pandas as pd
import pytest

from hypsae_ray.data.targets import read_target
from hypsae_ray.errors import InputError


def test_classes_count_by_value():
    found = read_target([1, 1.0, "1", "b ", "b", 1], "multiclass")
    assert found.classes.tolist() == ["1", "b"]
    assert found.values.tolist() == [0, 0, 0, 1, 1, 0]


def test_classes_of_a_column_of_numbers_are_numbers_in_their_order():
    found = read_target(pd.Series([15.0, 5, 15, 5]), "multiclass")
    assert found.classes.tolist() == [5, 15]
    assert found.values.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, " ", "\u2800"])
def test_a_missing_class_is_refused_with_its_position(value):
    with pytest.raises(InputError, match=r"target: 1 of 5 values .* at position 2: .* is missing"):
        read_target(["a", "b", value, "a", "b"], "multiclass")


def test_numbers_that_hardly_repeat_are_no_classes():
    with pytest.raises(InputError, match=r"target: 3 categories on 5 rows, .* task='regression'"):
        read_target([0.1, 0.2, 0.3, 0.1, 0.2], "multiclass")


@pytest.mark.parametrize("values", [[True, False], ["yes", "no"], pd.array([1, 0], "Int8"), ["1", "0.0"]])
def test_two_classes_are_read_by_value(values):
    assert read_target(values, "classification").values.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            [1, 2, 1],
            "position 1: 2 does not fit; .* 0 or 1 in classification: of '1' and '2', give True for the",
        ),
        (
            ["bad", "good"],
            "position 0: 'bad' is not a number; .*: of 'bad' and 'good', give True for the one",
        ),
        ([0, 1, 2], "position 2: 2 does not fit; expected on each row: 0 or 1 in classification$"),
        ([0, None], "position 1: None is missing"),
    ],
)
def test_other_codes_of_two_classes_are_refused(values, told):
    with pytest.raises(InputError, match=told):
        read_target(values, "classification")


@pytest.mark.parametrize(
    ("values", "told"), [([1, -1], "position 1: -1 does"), ([0.5, 1], "position 0: 0.5 does")]
)
def test_counts_are_whole_numbers(values, told):
    with pytest.raises(InputError, match=told):
        read_target(values, "count")


@pytest.mark.parametrize("values", [[1, 2, 2], ["2", "1"], [-2, -1], [10, 20]])
def test_codes_of_the_chosen_text_are_refused(values):
    with pytest.raises(InputError, match="a code and no difference of two texts: in pairwise give 1 where"):
        read_target(values, "pairwise")


def test_differences_of_pairs_are_told_where_they_look_like_codes():
    assert read_target([0, 1, 1], "pairwise").notes == ()
    assert read_target([-1.5, 0.2, 2], "pairwise").notes == ()
    assert read_target([-1, 1], "pairwise").notes == (
        "the target of pairs is -1 and 1: taken as a difference, by least squares; a choice is 1 and 0",
    )
    assert "have one sign, from 1 to 3" in read_target([1, 2, 3], "pairwise").notes[0]
