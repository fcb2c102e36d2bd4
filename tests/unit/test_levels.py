"""Categories and classes in files: the columns of `controls.encode`, which reads all rows at once."""

import datetime

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.config import Data
from hypsae_ray.data import controls, rows
from hypsae_ray.data.levels import MOST, Levels, SeenNames
from hypsae_ray.errors import InputError

PLAIN = {"train": "a.csv", "holdout": "b.csv", "text": "t", "target": "y"}


def seen(*parts: list) -> SeenNames:
    found = SeenNames("c")
    for part in parts:
        found.add(pd.Series(part, dtype=object), ".")
    return found


def test_categories_are_the_columns_of_encode():
    rng = np.random.default_rng(0)
    city = pd.Series(rng.choice(["Paris", "Rome", "Oslo", "12"], 400, p=[0.2, 0.4, 0.3, 0.1]), dtype=object)
    frame = pd.DataFrame({"age": rng.integers(20, 60, 400), "city": city})
    by_hand = controls.encode(frame)
    found = seen(*np.array_split(city.to_numpy(), 5))
    assert found.are_names
    levels = Levels({"city": found.category()})
    assert levels.covariates(("age", "city")) == by_hand.names
    assert by_hand.notes[0].startswith(levels.notes()[0])
    options = Data.model_validate(PLAIN | {"covariates": ["age", "city"]})
    read = rows.read_rows(frame.assign(t="text", y=1), options, levels=levels)
    assert read.bad.empty
    columns = [f"covariate_{name}" for name in by_hand.names]
    np.testing.assert_array_equal(read.values[columns], by_hand.values)


def test_a_missing_level_is_a_bad_row():
    options = Data.model_validate(PLAIN | {"covariates": ["c"]})
    frame = pd.DataFrame({"t": "text", "y": 1, "c": ["a", None, "b"]}, dtype=object)
    read = rows.read_rows(frame, options, levels=Levels({"c": ("a", "b")}))
    assert read.bad.to_dict() == {1: "column 'c': the covariate is missing"}


@pytest.mark.parametrize(
    ("values", "are_names"),
    [
        ([1, 2, "x"], False),  # a slip in a column of numbers
        (["a", "b", 3], True),
        (["yes", "no", "yes"], False),
        (["a", None, None], True),
        (["4,5", "3,5", "2,5"], False),  # the decimal mark is to be said
        (["1", "2.5", "1,000"], False),
    ],
)
def test_a_category_is_mostly_no_numbers(values: list, are_names: bool):
    assert seen(values).are_names is are_names


def test_the_most_frequent_level_comes_first_and_equals_go_by_name():
    assert seen(["b", "a"], ["c", "c", "b", "a"], ["c"]).category() == ("c", "a", "b")


def test_classes_go_by_number_or_name():
    assert seen([10, 9, "9", 10.0]).classes() == ("9", "10")
    assert seen(["b", "10", "a", "b", "10", "a"]).classes() == ("10", "a", "b")
    codes = Levels(classes=("9", "10")).codes(pd.Series([10, "9", None], dtype=object))
    np.testing.assert_array_equal(codes.values, [1, 0, np.nan])
    assert codes.missing.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"name {i}" for i in range(MOST + 1)], "more than 1,000 categories; join levels"),
        (["a", "b", "c"], "3 categories on 4 rows, most with one row each"),
        ([datetime.date(2020, 1, 1)] * 4, r"2020-01-01 is a date: give numbers"),
    ],
)
def test_what_is_no_category_is_refused(values: list, reason: str):
    with pytest.raises(InputError, match=f"column 'c', a covariate: .*{reason}"):
        seen(values, values[:1]).category()
