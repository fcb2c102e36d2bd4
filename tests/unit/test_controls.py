import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.data.controls import encode
from hypsae_ray.errors import InputError


def test_numbers_stay_and_categories_become_columns_but_for_the_most_frequent_level():
    frame = pd.DataFrame({"age": range(6), "city": list("babcba"), "vip": [True, False, False] * 2})
    found = encode(frame)
    assert found.names == ("age", "city=a", "city=c", "vip")
    assert found.notes == ["covariate city: its levels are compared with 'b', the most frequent one"]
    expected = [[0, 0, 0, 1], [1, 1, 0, 0], [2, 0, 0, 0], [3, 0, 1, 1], [4, 0, 0, 0], [5, 1, 0, 0]]
    np.testing.assert_array_equal(found.values, expected)


def test_columns_are_those_of_pandas_dummies():
    rng = np.random.default_rng(0)
    values = pd.Series(rng.choice(["red", "green", "blue"], 200, p=[0.2, 0.5, 0.3]))
    found = encode(pd.DataFrame({"colour": values}))
    dummies = pd.get_dummies(values, prefix="colour", prefix_sep="=", dtype=float)
    np.testing.assert_array_equal(found.values, dummies[list(found.names)])
    assert set(dummies.columns) - set(found.names) == {"colour=green"}


@pytest.mark.parametrize(
    "values",
    [
        np.array([2, 1, 0.5], dtype=object),
        [Decimal("2"), Decimal("1"), Decimal("0.5")],
        ["2", "1.0", " 0.5"],
        [2, "1", Decimal("0.5")],
        pd.array([2, 1, 0.5], "Float64"),
        np.float16([2, 1, 0.5]),
    ],
)
def test_numbers_count_by_value_whatever_the_dtype(values):
    found = encode(pd.DataFrame({"age": values}))
    assert found.names == ("age",)
    assert found.values.ravel().tolist() == [2, 1, 0.5]
    assert not found.notes


@pytest.mark.parametrize(
    "values", [[True, False], ["yes", "no"], ["True", "FALSE"], pd.array([1, 0], "boolean")]
)
def test_truth_is_a_number(values):
    assert encode(pd.DataFrame({"vip": values})).values.ravel().tolist() == [1, 0]


@pytest.mark.parametrize(
    "values", [pd.Categorical([1, 2, 1, 2, 1]), pd.Categorical(list("12121"), ["2", "1"])]
)
def test_a_categorical_of_numbers_stays_a_category(values):
    found = encode(pd.DataFrame({"region": values}))
    assert found.names == ("region=2",)
    assert found.values.ravel().tolist() == [0, 1, 0, 1, 0]


def test_categories_are_compared_by_name():
    found = encode(pd.DataFrame({"x": ["a", "a ", 5, "5.0", "b", "b"]}))
    assert found.names == ("x=5", "x=b")
    assert found.values.tolist() == [[0, 0], [0, 0], [1, 0], [1, 0], [0, 1], [0, 1]]


def test_a_word_among_numbers_is_told():
    found = encode(pd.DataFrame({"age": ["1", "2", "3+"] * 3}))
    assert found.names == ("age=2", "age=3+")
    assert found.notes == [
        "covariate age: its levels are compared with '1', the most frequent one; "
        "it is a category ('3+' is not a number, at position 2)"
    ]


@pytest.mark.parametrize(
    "values", [[f"n{i}" for i in range(9)], [*map(str, range(8)), "n/a"], pd.Categorical(range(9))]
)
def test_as_many_levels_as_rows_are_refused(values):
    with pytest.raises(
        InputError, match=r"covariate 'age': 9 categories on 9 rows, .*; join levels, give numbers"
    ):
        encode(pd.DataFrame({"age": values}))


def test_names_of_columns_may_be_numbers_and_stand_once():
    assert encode(pd.DataFrame({2020: [1, 2], 2021: [3, 4]})).names == ("2020", "2021")
    for names in (["x", "x"], [1, "1"]):
        with pytest.raises(InputError, match="covariates: two columns are called"):
            encode(pd.DataFrame([[1, 2]], columns=names))


def test_one_level_has_no_column():
    found = encode(pd.DataFrame({"x": ["a", "a"]}))
    assert found.values.shape == (2, 0)
    assert found.notes == ["covariate x: its levels are compared with 'a', the most frequent one"]


def test_no_covariate():
    found = encode(pd.DataFrame(index=range(3)))
    assert (found.values.shape, found.names, found.notes) == ((3, 0), (), [])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, 2, np.nan], "position 2 (index 'r2'): nan is missing"),
        (["a", " ", "b"], "position 1 (index 'r1'): ' ' is missing"),
        (pd.array([1, 2, None], "Int64"), "position 2 (index 'r2'): <NA> is missing"),
        ([1, np.inf, 2], "position 1 (index 'r1'): inf is not a finite number"),
        (pd.date_range("2024", periods=3), "position 0 (index 'r0'): it is a date; give numbers"),
        ([datetime.date(2024, 1, 5)] * 3, "position 0 (index 'r0'): it is a date; give numbers"),
        (["a", ["b"], "a"], "position 1 (index 'r1'): ['b'] is not one name"),
    ],
)
def test_a_value_that_is_none_is_refused_with_its_place(values, told):
    with pytest.raises(InputError) as refused:
        encode(pd.DataFrame({"x": values}, index=["r0", "r1", "r2"]))
    assert str(refused.value).startswith("covariate 'x': ")
    assert told in str(refused.value)
