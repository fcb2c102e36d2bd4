"""What `report.texts` lets a page hold of single texts."""

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.data.chunks import chunk_ids
from hypsae_ray.report.policy import beginning, shown

TEXTS = pd.Series(["it rained all day", "word " * 60], index=[3, 8])
IDS = pd.Series(["a7", None], index=[3, 8])


def test_texts_stay_as_they_are_or_become_beginnings_ids_or_nothing():
    assert shown(TEXTS, IDS, "all") == TEXTS.tolist()
    assert shown(TEXTS, IDS, "cut") == ["it rained all day", "word " * 39 + "word …"]
    assert shown(TEXTS, IDS, "ids") == ["a7", "8"]
    assert shown(TEXTS, IDS, "none") is None


def test_a_part_of_a_row_has_the_number_of_its_row():
    parts = pd.Series([None, None, "b"], index=chunk_ids(np.array([7, 0, 1]), np.array([2, 0, 1])))
    assert shown(parts, parts, "ids", in_parts=True) == ["7", "0", "b"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("x" * 200, "x" * 200),
        ("x" * 200 + " \n", "x" * 200),
        ("x" * 201, "x" * 200 + " …"),  # one word: there is no better place
        ("a " + "x" * 300, "a " + "x" * 198 + " …"),
        ("x" * 180 + " " + "y" * 19 + " z", "x" * 180 + " " + "y" * 19 + " …"),  # y ends at 200
        ("x" * 180 + " " + "y" * 20 + " z", "x" * 180 + " …"),  # and here at 201
        ("x" * 180 + "\n" + "y" * 20, "x" * 180 + " …"),
        ("x" * 195 + "     yyy", "x" * 195 + " …"),
        ("雨" * 250, "雨" * 200 + " …"),
        ("", ""),
    ],
)
def test_a_long_text_is_cut_at_a_word(text: str, cut: str):
    assert beginning(text) == cut
