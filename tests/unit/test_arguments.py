"""What functions for notebooks are given: containers, values, and rows that are matched by their index."""

import io
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hypsae_ray.data import arguments
from hypsae_ray.data.arguments import Rows
from hypsae_ray.errors import InputError


def refusal(call, *given) -> str:
    with pytest.raises(InputError) as told:
        call(*given)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b"],
        ("a", "b"),
        pd.Series(["a", "b"]),
        pd.Index(["a", "b"]),
        pd.Categorical(["a", "b"]),
        np.array(["a", "b"]),
        (letter for letter in "ab"),
        {1: "a", 2: "b"}.values(),
    ],
)
def test_any_sequence_or_iterator_is_a_column(values):
    assert arguments.column("texts", values).tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ("hello world", "the text 'hello world'"),
        (pd.DataFrame({"text": ["a"]}), "a DataFrame with the columns ['text']: give one of them"),
        ({"text": "a"}, "a dict ({'text': 'a'})"),
        ({"a"}, "a set ({'a'})"),
        (b"abc", "a bytes"),
        (np.array([["a"]]), "an array of shape (1, 1)"),
        (np.array("a"), "an array of shape ()"),
        (io.StringIO("a"), "an open file: read its lines into a list"),
        (sp.csr_matrix((2, 1)), "a csr_matrix"),
        (5, "5"),
        (np.float64(0.5), "0.5"),
        (None, "null"),
    ],
)
def test_what_is_no_column_is_refused_with_what_it_is(values, seen):
    wanted = "texts: expected a list, a Series or a 1-D array of texts, not "
    assert refusal(arguments.texts, "texts", values) == wanted + seen


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        (["a", None], "position 1: None is missing"),
        (pd.Series(["a", None], index=["r1", "r2"]), "position 1 (index 'r2'): nan is missing"),
        (["a", " \u200b"], "position 1: ' \\u200b' is missing"),
        (["a", "\ud800"], "position 1: the text holds a lone surrogate, which is not Unicode text"),
        (["a", 5], "position 1: 5 is not a text"),
        (["a", ["b"]], "position 1: ['b'] is not a text"),
    ],
)
def test_a_text_that_is_none_is_refused_with_its_position(values, seen):
    told = refusal(arguments.texts, "texts", values)
    assert told.startswith(f"texts: 1 of 2 values cannot be used, the first at {seen}; ")


def test_no_texts_are_refused():
    assert refusal(arguments.texts, "texts", []) == "texts: it is empty"


def test_numbers_count_by_value_whatever_holds_them():
    held = np.ma.masked_array([1.0, 2.0], mask=[False, False])
    for values in (["1", 2], pd.array([1, 2], "Int8"), [Decimal(1), 2.0], np.float16([1, 2]), held):
        assert arguments.numbers("weights", values).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ([1, None], "position 1: None is missing"),
        (pd.array([1, pd.NA], "Int64"), "position 1: <NA> is missing"),
        (np.ma.masked_array([1.0, 2.0], mask=[False, True]), "position 1: None is missing"),
        ([1, np.inf], "position 1: inf is not a finite number"),
        (["1", "few"], "position 1: 'few' is not a number"),
        (pd.Series([1, -2], index=[7, 8]), "position 1 (index 8): -2 does not fit"),
    ],
)
def test_a_number_that_is_none_is_refused_with_its_position(values, seen):
    told = refusal(arguments.numbers, "weights", values, "a number above 0", lambda found: found > 0)
    assert told == (
        f"weights: 1 of 2 values cannot be used, the first at {seen}; expected on each row: a number above 0"
    )


@pytest.mark.parametrize(
    "values",
    [[5, "5", 5.0, None, "a "], pd.Series(["5", "5.0", "5", None, "a"]), pd.Index([5.0, 5, 5, np.nan, 7])],
)
def test_codes_are_of_names_and_each_missing_one_is_its_own(values):
    codes, missing = arguments.codes("groups", values)
    assert codes[:3].tolist() == [0, 0, 0]
    assert len(set(codes.tolist())) == 3
    assert missing == 1


def test_a_group_that_is_a_list_is_refused():
    assert "position 1: [1] is not one name" in refusal(arguments.codes, "groups", ["a", [1]])


@pytest.mark.parametrize(
    "values",
    [
        np.float16([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]]),
        pd.DataFrame([[1, 2], [3, 4]], dtype=object),
        [[1, 2], [3, 4]],
        sp.coo_array([[1.0, 2], [3, 4]]),
    ],
)
def test_any_table_of_numbers_is_vectors(values):
    found = arguments.vectors("embeddings", values)
    assert found.dtype.kind == "f"
    assert found.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ([1.0, 2.0], "expected an array (n, d) of numbers, a row for each text, not values of shape (2,)"),
        (
            [[1], [1, 2]],
            "expected an array (n, d) of numbers, a row for each text, not rows that differ in length",
        ),
        (
            pd.DataFrame({"x": [0, np.nan, np.inf]}, index=["a", "b", "c"]),
            "2 of 3 rows cannot be used, the first at position 1 (index 'b'): it holds NaN or infinite",
        ),
        ([["a"]], "column 0: 1 of 1 values cannot be used, the first at position 0: 'a' is not a number; "),
    ],
)
def test_what_is_no_table_of_finite_numbers_is_refused(values, seen):
    assert seen in refusal(arguments.vectors, "embeddings", values)


def test_rows_are_put_in_order_by_their_labels():
    rows = Rows("annotations", 3, pd.Index(["a", "b", "c"]))
    index = pd.Index(["c", "a", "b"])
    assert rows.take("target", np.array([3, 1, 2]), index).tolist() == [1, 2, 3]
    both = rows.take("covariates", np.array([[3, 30], [1, 10], [2, 20]]), index)
    assert both.tolist() == [[1, 10], [2, 20], [3, 30]]


def test_rows_without_labels_go_by_position():
    values = np.array([3, 1, 2])
    assert Rows("annotations", 3, pd.Index(list("abc"))).take("target", values, None) is values
    assert Rows("annotations", 3).take("target", values, pd.Index(list("cab"))) is values
    assert Rows("annotations", 3, pd.RangeIndex(3)).take("target", values, pd.Index([0.0, 1, 2])) is values


@pytest.mark.parametrize(
    ("its", "index", "why"),
    [
        (list("abc"), list("abd"), "annotations alone has a row 'c'"),
        (list("aab"), list("abb"), "row 'a' stands twice in annotations"),
        (list("abc"), list("abb"), "annotations alone has a row 'c'"),
        (list("ab"), list("abc"), "target: 3 rows, but annotations has 2"),
        ([0, 1, 2], [2, 0, 1], "annotations has only 0 to 2, and the other has these in another order"),
        ([2, 0, 1], [0, 1, 2], "target has only 0 to 2, and the other has these in another order"),
        ([5, 6, 7], [0, 1, 2], "annotations alone has a row 5"),
    ],
)
def test_rows_that_cannot_be_matched_for_sure_are_refused(its, index, why):
    rows = Rows("annotations", len(its), pd.Index(its))
    assert why in refusal(rows.take, "target", np.arange(len(index)), pd.Index(index))
