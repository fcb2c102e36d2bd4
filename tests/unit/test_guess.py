import pandas as pd
import pytest

from hypsae_ray.data.guess import guess
from hypsae_ray.errors import InputError

TEXTS = [f"we waited {i} minutes for soup and the bread was {'good' if i % 2 else 'cold'}" for i in range(60)]


def frame(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"row": range(60), "title": ["A short visit"] * 60, "seen": TEXTS, **columns})


def test_the_longest_texts_and_the_number_with_a_telling_name_are_found():
    found = guess(frame(age=[20 + i % 7 for i in range(60)], stars=[1 + i % 5 for i in range(60)]))
    assert (found.text, found.target, found.other_targets) == ("seen", "stars", ("age",))
    assert found.words == 11


def test_a_column_that_numbers_the_rows_is_no_target():
    assert guess(frame(value=[i % 3 for i in range(60)])).target == "value"


def test_the_group_repeats_and_is_called_one():
    columns = {"city": [f"c{i % 25}" for i in range(60)], "authorName": [f"a{i % 20}" for i in range(60)]}
    found = guess(frame(y=[i % 2 for i in range(60)], **columns))
    assert (found.group, found.other_groups) == ("authorName", ("city",))
    assert guess(frame(y=[i % 2 for i in range(60)], city=columns["city"])).group is None


def test_an_id_that_repeats_is_a_group_and_a_date_is_none():
    days = [f"2026-03-{1 + i % 28:02d} 12:00" for i in range(60)]
    found = guess(frame(y=[i % 2 for i in range(60)], stay_id=[i % 25 for i in range(60)], created=days))
    assert (found.group, found.other_groups) == ("stay_id", ())


@pytest.mark.parametrize(
    ("name", "values", "counts"),
    [
        ("likes", [0, 3, 1], True),
        ("n_replies", [0, 3, 1], True),
        ("likes", [0, 1, 1], False),  # yes or no
        ("likes", [0, 3, 1.5], False),
        ("likes", [0, 3, -1], False),
        ("stars", [0, 3, 1], False),
    ],
)
def test_whole_numbers_are_counts_if_their_name_says_so(name: str, values: list, counts: bool):
    found = guess(frame(**{name: values * 20}))
    assert (found.target, found.counts) == (name, counts)


def test_ids_are_unique_names():
    found = guess(frame(y=[i % 2 for i in range(60)], review_id=[f"r{i}" for i in range(60)]))
    assert (found.id, found.group) == ("review_id", None)


@pytest.mark.parametrize(
    ("written", "decimal"),
    [("1.5", None), ("1,5", ","), ("1,500", "."), ("yes", None)],
)
def test_the_decimal_mark_is_told_where_the_default_does_not_read_all(written: str, decimal: str | None):
    found = guess(frame(y=["0" if i % 2 else written for i in range(60)]))
    assert (found.target, found.decimal) == ("y", decimal)


def test_rows_without_a_text_or_a_target_are_counted():
    rows = frame(y=[i % 2 for i in range(60)])
    rows.loc[[3, 4], "seen"] = None
    rows.loc[[4, 9, 11], "y"] = None
    assert guess(rows).bad_rows == 4


def test_what_cannot_be_found_is_asked_for():
    with pytest.raises(InputError, match=r"no column of texts among row, y; --text COLUMN names it"):
        guess(pd.DataFrame({"row": range(60), "y": [1, 2] * 30}))
    with pytest.raises(
        InputError, match=r"the other columns \(row, title, kind\) hold no numbers that differ"
    ):
        guess(frame(kind=["a"] * 60).assign(row="x"))
    with pytest.raises(InputError, match=r"column 'title' holds no numbers that differ"):
        guess(frame(y=[i % 2 for i in range(60)]), target="title")
