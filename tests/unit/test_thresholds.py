import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import f1_score

from hypsae_ray.neurons.thresholds import place_threshold

RARE = 0.1


def draw(rng, n_firing: int, n_silent: int, low: float, high: float, spread: float):
    """Firing, and P(yes) whose log odds are normal around one mean for silent texts, another for firing."""
    fires = np.arange(n_firing + n_silent) < n_firing
    return fires, expit(np.where(fires, high, low) + spread * rng.normal(size=len(fires)))


def test_the_cut_is_where_the_chance_of_firing_is_half_of_the_best_f1():
    """What Lipton et al. (2014) prove, with the chance from scikit-learn's discriminant analysis."""
    fires, p_yes = draw(np.random.default_rng(0), 400, 400, -4.0, 1.0, 1.5)
    odds = np.log(p_yes / (1 - p_yes))[:, None]
    model = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 - RARE, RARE]).fit(odds, fires)
    found = place_threshold(fires, p_yes, RARE)
    assert found is not None
    cut = math.log(found / (1 - found))
    spread = math.sqrt(model.covariance_[0, 0])
    low, high = model.means_[:, 0]
    recall, alarms = norm.sf(cut, high, spread), norm.sf(cut, low, spread)
    best = 2 * RARE * recall / (RARE * (1 + recall) + (1 - RARE) * alarms)
    assert model.predict_proba([[cut]])[0, 1] == pytest.approx(best / 2, abs=0.02)


@pytest.mark.parametrize(
    ("low", "high", "spread", "gain"),
    [(-8, -3, 2, 0.3), (-1.5, -0.8, 0.6, 0.1), (1, 3, 1, 0.1), (-6, 6, 3, 0), (-4, 1, 2, -0.03)],
    ids=["says no to nearly all", "hardly tells", "says yes to nearly all", "good", "0.5 is the best cut"],
)
def test_labels_of_other_texts_are_better_than_at_a_half_and_little_worse_where_that_is_best(
    low, high, spread, gain
):
    rng = np.random.default_rng(1)
    placed, half = [], []
    for _ in range(60):
        found = place_threshold(*draw(rng, 10, 10, low, high, spread), RARE)
        truth, p_yes = draw(rng, 400, 3600, low, high, spread)
        placed.append(f1_score(truth, p_yes >= (0.5 if found is None else found)))
        half.append(f1_score(truth, p_yes >= 0.5))
    assert np.mean(placed) >= np.mean(half) + gain


@pytest.mark.parametrize(
    ("fires", "p_yes"),
    [
        ([True, True, False], [0.9, 0.8, 0.1]),
        ([True, False, False], [0.9, 0.1, 0.2]),
        ([True, True, False, False], [0.9, math.nan, 0.1, 0.2]),
        ([True, True, False, False], [0.3, 0.3, 0.3, 0.3]),
        ([True, True, False, False], [0.1, 0.2, 0.8, 0.9]),
        ([True, True, False, False], [1.0, 0.0, 0.0, 0.0]),
        ([], []),
    ],
    ids=["one silent", "one firing", "one labelled", "all equal", "reversed", "certain", "none"],
)
def test_no_threshold_where_texts_cannot_tell(fires, p_yes):
    assert place_threshold(np.array(fires, dtype=bool), np.array(p_yes, dtype=float), 0.1) is None


def test_a_threshold_is_between_the_two_kinds_whatever_the_prevalence():
    fires, p_yes = np.array([True] * 4 + [False] * 4), np.repeat([0.9, 0.2], 4).astype(np.float32)
    for prevalence in (1e-6, 0.01, 0.5, 0.99, 1.0):
        found = place_threshold(fires, p_yes, prevalence)
        assert found is not None
        assert 0.2 < found < 0.9
        assert ((p_yes >= found) == fires).all()


def test_answers_that_leave_no_probability_do_not_break_it():
    found = place_threshold(np.array([True, True, False, False]), np.array([1.0, 0.6, 0.0, 0.4]), 0.2)
    assert found is not None
    assert 0 < found < 1
