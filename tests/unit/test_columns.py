"""One value has one meaning, whatever type, dtype or file format it came in."""

import datetime
import io
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hypsae_ray.data import columns
from hypsae_ray.data.columns import MISSING


def column(*values: Any) -> pd.Series:
    return pd.Series(list(values), dtype=object)


def name(value: Any) -> Any:
    return columns.names(column(value)).values[0]


BLANKS = [
    None,
    float("nan"),
    np.float32("nan"),
    pd.NA,
    pd.NaT,
    np.datetime64("NaT"),
    Decimal("NaN"),
    "",
    " \t\r\n",
    "\u00a0\u3000",  # no-break and ideographic space
    "\u200b\u200d\ufeff",  # zero-width space and joiner, byte order mark
    "\u3164",  # Hangul filler
    "\u2800",  # Braille blank
    "\u202a\u202c",  # direction marks
    "\ufe0f",  # a variation selector with nothing to vary
    "\U000e0001\U000e0020",  # tags
]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_what_shows_nothing_is_missing_for_every_kind_of_column(blank: Any):
    assert columns.is_missing(blank)
    for read in (columns.names, columns.numbers, columns.texts):
        typed = read(column("1", blank))
        assert typed.reasons.tolist() == ["", MISSING]
        assert (typed.missing.tolist(), typed.bad.tolist()) == ([False, True], [False, False])
        assert pd.isna(typed.values[1])


@pytest.mark.parametrize(
    "value", ["NA", "nan", "null", ".", "-", "é", "\U0001f600", "0", 0, 0.0, False, [], b""]
)
def test_what_shows_something_is_not_missing(value: Any):
    assert not columns.is_missing(value)


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        ("5", [5, 5.0, "5", "5.0", " 5\n", np.int8(5), np.float32(5), Decimal("5"), Decimal("5.00")]),
        ("-3", [-3, -3.0, "-3", "-3.0", np.int64(-3)]),
        ("0", [0, 0.0, -0.0, "0", "0.0", "-0.0"]),
        ("100000", [100_000, 1e5, "1e+05", "100000.0", Decimal("1E+5")]),  # R writes 1e+05
        ("2.5", [2.5, "2.5", np.float64(2.5), Decimal("2.50")]),
        ("9007199254740993", [2**53 + 1, "9007199254740993", np.int64(2**53 + 1), Decimal(2**53 + 1)]),
        ("007", ["007", "007 ", "\ufeff007"]),
        ("True", [True, "True", "true", "TRUE", np.bool_(True)]),
        ("caf\u00e9", ["caf\u00e9", "cafe\u0301"]),
        ("a  b", ["a  b", "\u200ba  b\u200b"]),
        ("2024-05-01", [pd.Timestamp("2024-05-01"), datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1),
                        np.datetime64("2024-05-01", "ns"), "2024-05-01", "2024-05-01 00:00:00",
                        "2024-05-01T00:00:00.000"]),
        ("2024-05-01 10:30:00+00:00", [pd.Timestamp("2024-05-01 10:30", tz="UTC"), "2024-05-01T10:30:00Z"]),
        ("x1", ["x1", b"x1"]),
    ],
)  # fmt: skip
def test_equal_values_have_one_name(expected: str, values: list):
    assert [name(value) for value in values] == [expected] * len(values)


def test_different_values_have_different_names():
    values = [
        "5",
        "05",
        "5a",
        "a5",
        "A5",
        "5.5",
        "5,0",
        "1.10",
        "1.1",
        "e+05",
        "1e05",
        "no",
        "No",
        "2024-05-02",
    ]
    assert columns.names(column(*values)).values.tolist() == values


def test_a_name_is_text_that_can_be_stored():
    assert name("a\ud800") == "a\\ud800"


@pytest.mark.parametrize(
    "value", [2.0**53, -(2.0**60), "1.152921504606847e+18", "9007199254740992.0", np.float32(2**24), 1e300]
)
def test_large_ids_that_were_floats_are_refused(value: Any):
    (reason,) = columns.names(column(value)).reasons
    assert "was stored as a float, which no longer tells such large ids apart: use texts" in reason


def test_float32_tells_fewer_ids_apart_whatever_the_container():
    """16,777,217 is the first whole number that a float of 4 bytes does not hold."""
    stored = pd.Series([16_777_215, 16_777_217], dtype="float32")
    for dtype in ("float32", "Float32"):
        typed = columns.names(stored.astype(dtype))
        assert (typed.values.tolist(), typed.bad.tolist()) == (["16777215", None], [False, True])


def test_ids_that_a_spreadsheet_has_rounded_are_refused():
    """Excel shows 1234567890123 and 1234567890999 as 1.23457E+12, and exports what it shows."""
    typed = columns.names(column("1.23457E+12", "1234567890123"))
    assert typed.reasons.tolist() == [
        "1.23457E+12 was rounded by a spreadsheet, which no longer tells ids apart: use texts", ""
    ]  # fmt: skip


@pytest.mark.parametrize("value", [[1, 2], (1,), {"id": 1}, {1}, np.array([1, 2])], ids=str)
def test_a_list_is_not_one_name(value: Any):
    typed = columns.names(column("a", value))
    assert typed.bad.tolist() == [False, True]
    assert typed.reasons[1].endswith("is not one name")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1),
        (" 1.50 ", 1.5),
        ("-.5", -0.5),
        ("1e3", 1000),
        ("−2", -2),  # a true minus sign
        ("1,234", 1234),
        ("1,234,567.5", 1_234_567.5),
        ("12,34,567", 1_234_567),  # as in India
        ("1'234.5", 1234.5),
        ("1\u202f234", 1234),
        ("9" * 30, 1e30),
        (np.int8(3), 3),
        (np.float32(0.5), 0.5),
        (Decimal("0.1"), 0.1),
    ],
)
def test_what_reads_as_a_number_for_sure_is_one(value: Any, expected: float):
    typed = columns.numbers(column(value))
    assert (typed.values.tolist(), typed.reasons.tolist()) == ([expected], [""])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("4,5", "'4,5' is not a number (is the comma a decimal mark?)"),
        ("0,123", "'0,123' is not a number (is the comma a decimal mark?)"),
        ("1.234,5", "'1.234,5' is not a number (is the comma a decimal mark?)"),
        ("1,23,4", "'1,23,4' is not a number"),
        ("1_000", "'1_000' is not a number"),
        ("0x10", "'0x10' is not a number"),
        ("€ 3", "'€ 3' is not a number"),
        ("45 %", "'45 %' is not a number"),
        ("nan", "'nan' is not a number"),
        ("inf", "'inf' is not a number"),
        ("1e400", "'1e400' is not a finite number"),
        (float("-inf"), "-inf is not a finite number"),
        (10**400, f"{'1' + '0' * 38}… is not a finite number"),
        (Decimal("Infinity"), "Infinity is not a finite number"),
        ([1], "[1] is not a number"),
        (pd.Timestamp("2024-05-01"), "2024-05-01 00:00:00 is not a number"),
        (np.datetime64("2024-05-01", "ns"), "2024-05-01 00:00:00 is not a number"),
        (1j, "1j is not a number"),
    ],
)
def test_what_is_no_number_is_shown(value: Any, reason: str):
    typed = columns.numbers(column(value))
    assert typed.reasons.tolist() == [reason]
    assert np.isnan(typed.values).all() and typed.bad.all()


def test_a_decimal_comma_that_was_named():
    typed = columns.numbers(column("4,5", "1.234,5", "1.234", "7", "-0,5", "4.5", 4.5), decimal=",")
    np.testing.assert_array_equal(typed.values, [4.5, 1234.5, 1234, 7, -0.5, np.nan, 4.5])
    assert typed.reasons[5] == "'4.5' is not a number with a decimal comma"


@pytest.mark.parametrize("decimal", [None, "."])
def test_a_comma_that_may_be_either_is_refused_where_it_is_in_doubt(decimal: Any):
    """Alone, 1,234 is in doubt by the file; beside 4,5 it is so in every file."""
    typed = columns.numbers(column("1,234", "4,5", "1,234,567", "1,234.5"), decimal=decimal)
    np.testing.assert_array_equal(typed.values, [np.nan, np.nan, 1_234_567, 1234.5])
    assert typed.reasons[0] == "'1,234' is 1234 or 1.234 (is the comma a decimal mark?)"


@pytest.mark.parametrize(
    "values",
    [
        ["yes", "No", " YES ", None, "no"],
        [True, False, True, None, False],
        ["TRUE", "False", "true", "", "FALSE"],
        ["y", "n", "Y", "\u200b", "N"],
        [np.True_, np.False_, 1, None, 0],
        ["T", "F", "1", None, "0.0"],
    ],
)
def test_truth_values_are_1_and_0(values: list):
    np.testing.assert_array_equal(columns.numbers(column(*values)).values, [1, 0, 1, np.nan, 0])


@pytest.mark.parametrize("word", ["yes", True, "False"])
def test_truth_values_beside_other_numbers_are_no_numbers(word: Any):
    typed = columns.numbers(column(word, "5", 1, 0))
    assert typed.reasons.tolist() == [f"{word!r} is not a number", "", "", ""]
    np.testing.assert_array_equal(typed.values, [np.nan, 5, 1, 0])


SAME_NUMBERS = {
    "int64": pd.Series([3, 0, 12]),
    "int8": pd.Series([3, 0, 12], dtype="int8"),
    "Int8": pd.Series([3, 0, 12], dtype="Int8"),
    "float32": pd.Series([3, 0, 12], dtype="float32"),
    "Float64": pd.Series([3, 0, 12], dtype="Float64"),
    "string": pd.Series(["3", "0", "12"], dtype="string"),
    "str": pd.Series(["3", "0", "12"], dtype="str"),
    "category": pd.Series([3, 0, 12], dtype="category"),
    "category of str": pd.Series(["3", "0", "12"], dtype="category"),
    "decimal128": pd.Series([3, 0, 12], dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
    "arrow int": pd.Series([3, 0, 12], dtype="int64[pyarrow]"),
    "Sparse": pd.Series([3, 0, 12], dtype="Sparse[int]"),
    "ints": column(3, 0, 12),
    "mixed": column(3, "0", Decimal(12)),
    "mixed floats": column(3, 0.0, np.int16(12)),
}


@pytest.mark.parametrize("kind", SAME_NUMBERS)
def test_numbers_and_names_do_not_depend_on_the_dtype(kind: str):
    values = SAME_NUMBERS[kind].set_axis([4, 2, 9])
    typed = columns.numbers(values)
    assert (typed.values.dtype, typed.values.tolist()) == (np.float64, [3, 0, 12])
    assert typed.reasons.to_dict() == {4: "", 2: "", 9: ""}
    assert columns.names(values).values.tolist() == ["3", "0", "12"]


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean", "float64", "int64[pyarrow]", "object"])
def test_a_null_is_missing_in_every_dtype(dtype: str):
    values = pd.Series([1, None, 0], dtype=dtype)
    for read in (columns.names, columns.numbers):
        assert read(values).missing.tolist() == [False, True, False]
    np.testing.assert_array_equal(columns.numbers(values).values, [1, np.nan, 0])


def test_an_empty_column():
    for dtype in ("object", "float64", "string"):
        empty = pd.Series([], dtype=dtype)
        for read in (columns.names, columns.numbers, columns.texts):
            assert (len(read(empty).values), len(read(empty).reasons)) == (0, 0)


def test_texts_stay_as_they_are():
    values = [" a\n", "caf\u00e9", "\u200bx", "\U0001f600", "5"]
    typed = columns.texts(column(*values))
    assert typed.values.tolist() == values and typed.usable.all()


@pytest.mark.parametrize("value", [5, 5.5, True, b"a", ["a"], pd.Timestamp("2024-05-01")], ids=str)
def test_what_is_no_text_is_shown(value: Any):
    (reason,) = columns.texts(column(value)).reasons
    assert reason == f"{columns.shown(value)} is not a text"


def test_a_lone_surrogate_is_no_text():
    assert columns.texts(column("a\ud800")).bad.all()


def test_a_long_value_is_cut_and_stays_on_one_line():
    assert columns.shown("a" * 100) == f"'{'a' * 38}…"
    assert columns.shown([0] * 100).startswith("[0, 0") and len(columns.shown([0] * 100)) == 40
    assert "\n" not in columns.shown("a\nb") + columns.shown(np.zeros((3, 3)))


def test_values_that_went_through_files_are_the_same():
    """Names, numbers and blanks of one table, written by pandas and read back as JSONL, CSV and Parquet."""
    table = pd.DataFrame(
        {"id": [5, 12, None], "n": [0.1, None, 1e-7], "when": pd.to_datetime(["2024-05-01"] * 3)}
    )
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    jsonl = table.to_json(orient="records", lines=True, date_format="iso")
    read = [
        pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False).astype(object),
        pd.DataFrame([json.loads(line) for line in jsonl.splitlines()], dtype=object),
        pd.DataFrame(pq.read_table(buffer).to_pydict(), dtype=object),
        table,
    ]
    for frame in read:
        assert columns.names(frame["id"]).values.tolist() == ["5", "12", None]
        assert columns.names(frame["when"]).values.tolist() == ["2024-05-01"] * 3
        np.testing.assert_array_equal(columns.numbers(frame["n"]).values, [0.1, np.nan, 1e-7])
