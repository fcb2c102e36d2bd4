import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from scipy import stats

from hypsae_ray.stats.dose import dose_response


def draw(n: int = 300, slope: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Activations of one neuron that fires on two texts of three, and a target that goes with their rank."""
    rng = np.random.default_rng(seed)
    fired = np.where(np.arange(n) % 3 == 0, 0, rng.exponential(size=n))
    return fired, slope * stats.rankdata(fired) / n + rng.normal(size=n)


def describe(fired: np.ndarray, target: np.ndarray, groups: np.ndarray | None = None):
    columns = fired[:, None] if fired.ndim == 1 else fired
    return dose_response(sp.csc_matrix(columns), target, groups)


def test_bins_are_the_silent_texts_and_fifths_of_the_firing_ones():
    fired, target = draw()
    bins, _ = describe(fired, target)
    assert bins["bin"].tolist() == [0, 1, 2, 3, 4, 5]
    assert bins["n"].tolist() == [100, 40, 40, 40, 40, 40]
    order = np.argsort(fired, kind="stable")
    for row, part in zip(bins.itertuples(), np.split(order, [100, 140, 180, 220, 260]), strict=True):
        expected = sm.OLS(target[part], np.ones(len(part))).fit()
        assert (row.low, row.high) == (fired[part].min(), fired[part].max())
        assert row.mean == pytest.approx(target[part].mean())
        assert (row.ci_low, row.ci_high) == pytest.approx(tuple(expected.conf_int()[0]))


def test_with_groups_means_have_cluster_robust_intervals():
    fired, target = draw()
    groups = np.arange(300) // 6
    bins, _ = describe(fired, target + groups / 5, groups)
    part = fired == 0
    expected = sm.OLS((target + groups / 5)[part], np.ones(100)).fit(
        cov_type="cluster", cov_kwds={"groups": groups[part]}, use_t=True
    )
    assert (bins["ci_low"][0], bins["ci_high"][0]) == pytest.approx(tuple(expected.conf_int()[0]))


def test_the_trend_is_least_squares_on_ranks_with_robust_errors():
    fired, target = draw(slope=2.0)
    _, trends = describe(fired, target)
    firing = fired > 0
    ranks = (stats.rankdata(fired[firing]) - 1) / 199
    expected = sm.OLS(target[firing], sm.add_constant(ranks)).fit(cov_type="HC3", use_t=True)
    found = trends.iloc[0]
    assert found.slope == pytest.approx(expected.params[1])
    assert found.slope_se == pytest.approx(expected.bse[1])
    assert found.slope_pval == pytest.approx(expected.pvalues[1])
    assert (found.slope_ci_low, found.slope_ci_high) == pytest.approx(tuple(expected.conf_int()[1]))
    assert found.verdict == "rises"


def test_with_groups_the_trend_has_cluster_robust_errors():
    fired, target = draw(slope=2.0)
    groups = np.arange(300) % 60
    target = target + np.random.default_rng(1).normal(size=60)[groups]
    _, trends = describe(fired, target, groups)
    firing = fired > 0
    ranks = (stats.rankdata(fired[firing]) - 1) / 199
    expected = sm.OLS(target[firing], sm.add_constant(ranks)).fit(
        cov_type="cluster", cov_kwds={"groups": groups[firing]}
    )
    assert trends["slope_se"][0] == pytest.approx(expected.bse[1])


def test_only_the_order_of_activations_counts():
    fired, target = draw(slope=1.0)
    _, trends = describe(fired, target)
    _, stretched = describe(fired**3 * 100, target)
    pd.testing.assert_frame_equal(trends, stretched)


def test_each_verdict():
    rng = np.random.default_rng(0)
    rise, silent = np.linspace(0.1, 1, 100), np.zeros(100)
    few = np.where(np.arange(100) < 14, rise, 0)
    columns = np.column_stack([rise, rise[::-1], rng.permutation(rise), few, silent, np.ones(100)])
    target = np.arange(100) / 100 + rng.normal(0, 0.1, 100)
    bins, trends = describe(columns, target)
    assert trends["verdict"].tolist() == [
        "rises", "falls", "no trend seen", "too few firing texts", "too few firing texts", "nothing varies",
    ]  # fmt: skip
    assert trends["hypothesis_id"].tolist() == list(range(6))
    assert trends["slope"].isna().tolist() == [False, False, False, True, True, True]
    assert bins[bins["hypothesis_id"] == 4]["n"].tolist() == [100]
    assert bins[bins["hypothesis_id"] == 5]["n"].sum() == 100


def test_firing_texts_of_few_groups_are_too_few():
    fired, target = draw()
    assert describe(fired, target, np.arange(300) // 100)[1]["verdict"][0] == "too few firing texts"


def test_one_text_in_a_bin_has_no_interval():
    fired = np.array([0, 0, 0, 0.5, 0, 0])
    bins, _ = describe(fired, np.arange(6.0))
    assert bins["n"].tolist() == [5, 1]
    assert bins["mean"].tolist() == [(15 - 3) / 5, 3]
    assert math.isnan(bins["ci_low"][1])


def test_a_trend_is_seen_by_chance_as_rarely_as_it_should_be():
    rng = np.random.default_rng(0)
    target = rng.exponential(size=80)
    fired = np.array([rng.permutation(80) for _ in range(300)]).T + 1.0
    groups = np.arange(80) // 2
    alone = describe(fired, target)[1]["verdict"].ne("no trend seen").mean()
    # Targets and activations that are the same throughout a group, each row twice.
    twice = describe(np.repeat(fired[:40], 2, axis=0), np.repeat(target[:40], 2), groups)[1]
    # Binomial(300, 0.05) has a standard deviation of 1.3 percent.
    assert 0.015 < alone < 0.09
    assert 0.015 < twice["verdict"].ne("no trend seen").mean() < 0.09


def test_no_hypothesis():
    bins, trends = dose_response(sp.csc_matrix((5, 0)), np.arange(5.0), None)
    assert (len(bins), len(trends)) == (0, 0)
