import numpy as np
import pandas as pd
import pytest

from hypsae_ray.core import rows

COLUMNS = rows.Columns("t", "y", id="i", covariates=("c",), weight="w")
GOOD = {"t": "fine", "y": 1, "i": "a", "c": 2, "w": 0.5}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"t": None}, "column 't': the text is null"),
        ({"t": float("nan")}, "column 't': the text is null"),
        ({"t": " \n"}, "column 't': the text is empty"),
        ({"t": 7}, "column 't': the value is not a text"),
        ({"t": "\ud800"}, "column 't': the text holds a lone surrogate, which is not Unicode text"),
        ({"y": None}, "column 'y': the target is missing"),
        ({"y": "many"}, "column 'y': not a finite number"),
        ({"y": float("inf")}, "column 'y': not a finite number"),
        ({"i": None}, "column 'i': the id is missing"),
        ({"c": "x"}, "column 'c': not a finite number"),
        ({"w": 0}, "column 'w': not a weight above 0"),
        ({"w": None}, "column 'w': not a weight above 0"),
        ({"w": float("inf")}, "column 'w': not a weight above 0"),
        ({"t": "", "y": None}, "column 't': the text is empty"),
    ],
)
def test_one_reason_per_bad_row(change: dict, reason: str):
    frame = pd.DataFrame([GOOD, {**GOOD, **change}], index=[1, 2], dtype=object)
    assert rows.find_bad_rows(frame, COLUMNS, task="auto").to_dict() == {2: reason}


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
    found = rows.find_bad_rows(frame, rows.Columns("t", "y"), task=task)
    assert found.to_dict() == dict.fromkeys(bad, f"column 'y': {reason}")


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
