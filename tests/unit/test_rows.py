from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.config import Data
from hypsae_ray.data import rows

PLAIN = {"train": "a.csv", "holdout": "b.csv", "text": "t", "target": "y"}
OPTIONS = Data.model_validate(PLAIN | {"id": "i", "group": "g", "covariates": ["c"], "weight": "w"})
GOOD = {"t": "fine", "y": 1, "i": "a", "g": "x", "c": 2, "w": 0.5}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"t": None}, "column 't': the text is missing"),
        ({"t": float("nan")}, "column 't': the text is missing"),
        ({"t": " \n"}, "column 't': the text is missing (' \\n')"),
        ({"t": "\ufeff\u200b"}, "column 't': the text is missing ('\\ufeff\\u200b')"),
        ({"t": 7}, "column 't': 7 is not a text"),
        ({"t": "\ud800"}, "column 't': the text holds a lone surrogate, which is not Unicode text"),
        ({"y": None}, "column 'y': the target is missing"),
        ({"y": "many"}, "column 'y': 'many' is not a number"),
        ({"y": float("inf")}, "column 'y': inf is not a finite number"),
        ({"y": "1e400"}, "column 'y': '1e400' is not a finite number"),
        ({"y": "4,5"}, "column 'y': '4,5' is not a number (is the comma a decimal mark?)"),
        ({"i": None}, "column 'i': the id is missing"),
        ({"i": " "}, "column 'i': the id is missing (' ')"),
        (
            {"i": 2.0**60},
            "column 'i': 1.152921504606847e+18 was stored as a float, which no longer tells such "
            "large ids apart: use texts",
        ),
        ({"g": ["a", "b"]}, "column 'g': ['a', 'b'] is not one name"),
        ({"c": "x"}, "column 'c': 'x' is not a number"),
        ({"c": ""}, "column 'c': the covariate is missing"),
        ({"w": 0}, "column 'w': 0 is not a weight above 0"),
        ({"w": None}, "column 'w': the weight is missing"),
        ({"w": float("inf")}, "column 'w': inf is not a finite number"),
        ({"t": "", "y": None}, "column 't': the text is missing"),
    ],
)
def test_one_reason_per_bad_row(change: dict, reason: str):
    frame = pd.DataFrame([GOOD, {**GOOD, **change}], index=[1, 2], dtype=object)
    assert rows.read_rows(frame, OPTIONS).bad.to_dict() == {2: reason}


@pytest.mark.parametrize(
    ("task", "bad", "reason"),
    [
        ("auto", [], ""),
        ("regression", [], ""),
        ("classification", [2, 3, 4], "not 0 or 1"),
        ("count", [3, 4], "not a whole number of 0 or more"),
    ],
)
def test_a_task_wants_its_own_targets(task: str, bad: list[int], reason: str):
    frame = pd.DataFrame({"t": list("abcde"), "y": [0, "1", 2, 0.5, -1]}, dtype=object)
    found = rows.read_rows(frame, Data.model_validate(PLAIN | {"task": task})).bad
    shown = frame["y"].astype(str)
    assert found.to_dict() == {row: f"column 'y': {shown[row]} is {reason}" for row in bad}


def test_rows_come_out_as_they_are_stored():
    frame = pd.DataFrame(
        {"t": [" fine\n"], "y": ["1,234.5"], "i": [5.0], "g": ["\u200b"], "c": [True], "w": [Decimal("0.5")]},
        index=[7],
        dtype=object,
    )
    read = rows.read_rows(frame, OPTIONS)
    assert read.bad.empty
    assert read.values.loc[7].to_dict() == {
        "text": " fine\n", "target": 1234.5, "source_id": "5", "group": None, "covariate_c": 1, "weight": 0.5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("n_rows", "distinct", "few"),
    [
        (300, 7, True),
        (20, 20, False),
        (1_000, 499, True),
        (1_000, 501, False),
        (40, 29, True),
        (40, 30, False),
    ],
)
def test_few_texts_are_below_half_or_below_30(n_rows: int, distinct: int, few: bool):
    assert rows.few_texts(n_rows, distinct) is few


def test_task_looks_at_every_value():
    values = np.zeros(100_000)
    assert rows.guess_task(values) == "classification"
    values[-1] = 0.5  # a sample of 1,000, as the reference draws, misses it 99 times in 100
    assert rows.guess_task(values) == "regression"


def test_equal_texts_fall_on_one_side_and_shares_are_kept():
    texts = pd.Series([f"text {i % 5000}" for i in range(10_000)])
    ids = rows.text_ids(texts)
    side = rows.in_validation(ids, 0.2)
    assert (side[:5000] == side[5000:]).all()
    assert abs(side.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 5000)  # four standard errors


def test_holdout_and_validation_are_independent_of_each_other():
    ids = rows.text_ids(pd.Series([f"text {i}" for i in range(10_000)]))
    held_out, in_val = rows.in_holdout(ids, 0.3), rows.in_validation(ids, 0.2)
    assert abs(held_out.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 10_000)
    assert abs(in_val[~held_out].mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 7_000)


def test_the_middle_of_a_long_text_counts():
    one, other = "a" * 10_000 + "b" + "c" * 10_000, "a" * 10_000 + "x" + "c" * 10_000
    assert len(set(rows.text_ids(pd.Series([one, other])))) == 2
