"""Which hypotheses of two runs match: worked out by hand, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from hypsae_ray.report.comparison import _apart
from hypsae_ray.stats.matching import Match, match, phi

NAN = np.nan


def test_phi_is_the_matthews_coefficient_of_texts_with_both_labels():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(2, size=(60, k)).astype(float) for k in (3, 2))
    first[:10, 1], second[50:, 0] = NAN, NAN
    found = phi(first, second)
    for i in range(3):
        for j in range(2):
            both = ~np.isnan(first[:, i]) & ~np.isnan(second[:, j])
            expected = matthews_corrcoef(first[both, i], second[both, j])
            assert found[i, j] == pytest.approx(expected)


def test_there_is_no_phi_without_texts_or_of_one_value():
    assert np.isnan(phi(np.zeros((0, 2)), np.zeros((0, 1)))).all()
    assert np.isnan(phi(np.ones((4, 1)), np.array([[1.0], [0], [1], [0]]))).all()


def test_equal_sentences_match_whatever_their_labels():
    found = match(["is warm", "is cold"], ["is cold", "is loud"], np.array([[0.9, 0.1], [-0.2, 0.0]]))
    assert found == [Match(1, 0, -0.2, True)]


def test_others_match_where_each_is_the_others_best_and_phi_is_half_or_more():
    phis = np.array(
        [
            [0.8, 0.7, 0.1],  # best: 0, whose best is this one
            [0.7, 0.6, 0.2],  # best: 0, which is taken, so none, though 1 is above a half
            [0.1, 0.3, 0.5],  # best: 2, just enough
            [NAN, NAN, NAN],
        ]
    )
    found = match(["a", "b", "c", None], ["d", "e", "f"], phis)
    assert found == [Match(0, 0, 0.8, False), Match(2, 2, 0.5, False)]


def test_hypotheses_without_a_sentence_are_not_equal():
    assert match([None], [None], np.array([[NAN]])) == []
    assert match([], ["a"], np.zeros((0, 1))) == []


def test_a_sentence_that_stands_twice_matches_once_each():
    found = match(["a", "a"], ["a"], np.array([[0.1], [0.2]]))
    assert found == [Match(0, 0, 0.1, True)]


def test_paths_show_what_tells_them_apart_and_no_more():
    assert _apart("/home/ann/one/a.jsonl", "/home/ann/two/a.jsonl") == ("one/a.jsonl", "two/a.jsonl")
    assert _apart("/home/ann/a.jsonl", "/home/ann/a.jsonl") == ("a.jsonl", "a.jsonl")
