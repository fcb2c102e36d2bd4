import numpy as np
import pandas as pd
import pytest

from hypsae_ray.core.controls import encode


def test_numbers_stay_and_categories_become_columns_but_for_the_most_frequent_level():
    frame = pd.DataFrame(
        {"age": [3, 5, 7, 9], "city": ["b", "a", "b", "c"], "vip": [True, False, False, False]}
    )
    found = encode(frame)
    assert found.names == ("age", "city=a", "city=c", "vip=True")
    assert found.references == {"city": "b", "vip": "False"}
    expected = [[3, 0, 0, 1], [5, 1, 0, 0], [7, 0, 0, 0], [9, 0, 1, 0]]
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
    [pd.Categorical([1, 2, 1]), pd.Series([1, "2", 1], dtype=object), pd.Categorical([1, 2, 1], [3, 2, 1])],
)
def test_numbers_that_name_categories(values):
    found = encode(pd.DataFrame({"x": values}))
    assert found.names == ("x=2",)
    assert found.values.ravel().tolist() == [0, 1, 0]


def test_one_level_has_no_column():
    found = encode(pd.DataFrame({"x": ["a", "a"]}))
    assert found.values.shape == (2, 0)
    assert found.references == {"x": "a"}


def test_no_covariate():
    found = encode(pd.DataFrame(index=range(3)))
    assert (found.values.shape, found.names, found.references) == ((3, 0), (), {})


@pytest.mark.parametrize("values", [[1.0, 2, np.nan], ["a", "b", None], pd.array([1, 2, None], "Int64")])
def test_a_missing_value_is_named(values):
    with pytest.raises(ValueError, match=r"covariate 'x' has missing values, the first at row 2"):
        encode(pd.DataFrame({"x": values}))
