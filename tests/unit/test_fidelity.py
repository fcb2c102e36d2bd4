import math

import numpy as np
import pytest
from scipy.stats import pointbiserialr
from sklearn.metrics import f1_score, precision_score, recall_score

from hypsae_ray.core.fidelity import Fidelity, best_candidate, score_fidelity


def fidelity(f1: float) -> Fidelity:
    return Fidelity(f1, 0.5, 0.5, 0.0, 10)


def test_equals_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    fires, p_yes = rng.random(200) < 0.4, rng.random(200)
    found = score_fidelity(fires, p_yes, 0.6)
    said = p_yes >= 0.6
    assert found.f1 == pytest.approx(f1_score(fires, said))
    assert found.precision == pytest.approx(precision_score(fires, said))
    assert found.recall == pytest.approx(recall_score(fires, said))
    assert found.correlation == pytest.approx(pointbiserialr(fires, p_yes)[0])
    assert found.n == 200


def test_texts_without_a_label_are_left_out():
    fires = np.array([True, True, False, False, True])
    p_yes = np.array([0.9, 0.2, 0.1, 0.8, np.nan])
    assert score_fidelity(fires, p_yes, 0.5) == score_fidelity(fires[:4], p_yes[:4], 0.5)
    assert score_fidelity(fires, p_yes, 0.5).n == 4
    assert score_fidelity(fires, p_yes, 0.5).f1 == pytest.approx(0.5)


def test_the_threshold_itself_counts_as_yes():
    assert score_fidelity(np.array([True, False]), np.array([0.5, 0.4]), 0.5).recall == 1


def test_a_sentence_that_is_never_true_scores_zero():
    found = score_fidelity(np.array([True, False]), np.array([0.0, 0.0]), 0.5)
    assert (found.f1, found.precision, found.recall) == (0, 0, 0)
    assert math.isnan(found.correlation)


@pytest.mark.parametrize("p_yes", [[], [np.nan, np.nan]])
def test_without_labels_nothing_is_defined(p_yes):
    found = score_fidelity(np.ones(len(p_yes), dtype=bool), np.array(p_yes), 0.5)
    assert found.n == 0
    assert math.isnan(found.f1)


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.2, 0.8, 0.8], 1), ([math.nan, 0.0], 1), ([0.5, math.nan], 0), ([math.nan], None), ([], None)],
)
def test_best_candidate(scores, best):
    assert best_candidate([fidelity(f1) for f1 in scores]) == best


def test_of_equal_f1_the_one_that_leans_the_right_way_is_best():
    scores = [Fidelity(0.0, 0.0, 0.0, correlation, 10) for correlation in (float("nan"), -0.2, 0.3, 0.1)]
    assert best_candidate(scores) == 2
