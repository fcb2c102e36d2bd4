import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from hypsae_ray.stats.prediction.measures import Ranking, percentile_interval


def auc(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> float:
    return Ranking(y, score).auc(weights[:, None])[0]


def draw(seed: int, values: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(200) < 0.3).astype(float)
    score = np.round(rng.normal(y, 2) * values)  # few values: many ties
    return y, score, rng.uniform(0.1, 3, (200, 4))


@pytest.mark.parametrize("values", [1, 2, 1000])
def test_ranking_is_that_of_scikit_learn_for_each_weighting_and_with_ties(values):
    y, score, weights = draw(0, values)
    weights[:50, 1] = 0  # as in a bootstrap
    ranking = Ranking(y, score)
    for column, (area, precision) in enumerate(
        zip(ranking.auc(weights), ranking.auprc(weights), strict=True)
    ):
        w = weights[:, column]
        assert area == pytest.approx(roc_auc_score(y, score, sample_weight=w))
        assert precision == pytest.approx(average_precision_score(y, score, sample_weight=w))


def test_whole_weights_are_repeated_rows():
    y, score, _ = draw(1, 2)
    counts = np.random.default_rng(2).integers(0, 4, 200)
    again = Ranking(np.repeat(y, counts), np.repeat(score, counts))
    ones = np.ones((counts.sum(), 1))
    ranking = Ranking(y, score)
    assert ranking.auc(counts[:, None].astype(float)) == pytest.approx(again.auc(ones))
    assert ranking.auprc(counts[:, None].astype(float)) == pytest.approx(again.auprc(ones))


def test_a_constant_score_tells_nothing():
    y = np.array([1.0, 0, 0, 1, 0])
    assert auc(y, np.zeros(5), np.ones(5)) == 0.5
    assert Ranking(y, np.zeros(5)).auprc(np.ones((5, 1)))[0] == pytest.approx(2 / 5)


def test_four_rows_by_hand():
    # Pairs of a 1 and a 0: 3 > 2, 3 > 1, 1 < 2, and 1 = 1 counts half: 2.5 of 4.
    y, score = np.array([1.0, 0, 1, 0]), np.array([3.0, 2, 1, 1])
    assert auc(y, score, np.ones(4)) == 2.5 / 4
    assert auc(y, -score, np.ones(4)) == 1.5 / 4


def test_one_class_has_no_auc():
    assert math.isnan(auc(np.ones(3), np.arange(3.0), np.ones(3)))
    assert math.isnan(auc(np.zeros(3), np.arange(3.0), np.ones(3)))


def test_of_199_values_in_order_the_5th_and_the_195th_are_the_ends():
    assert percentile_interval(np.random.default_rng(0).permutation(199) + 1.0) == pytest.approx((5, 195))


@pytest.mark.parametrize("draws", [39, 200])
def test_few_bootstrap_samples_leave_out_five_percent_all_the_same(draws):
    rng = np.random.default_rng(0)
    ends = np.array([percentile_interval(rng.normal(size=draws)) for _ in range(4000)])
    outside = norm.cdf(ends[:, 0]) + norm.sf(ends[:, 1])
    assert outside.mean() == pytest.approx(0.05, abs=4 * outside.std() / np.sqrt(4000))
