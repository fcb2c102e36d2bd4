import math

import numpy as np
import pytest
import statsmodels.api as sm

from hypsae_ray.stats.prediction.signal import Signal, signal_test
from hypsae_ray.stats.regression.design import make_design
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import LabelArray, Sample


def coins(n: int, h: int = 3, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, h)) < 0.4).astype(float)


def signal_of(labels: np.ndarray, target: np.ndarray, draws: int = 99, seed: int = 0, **known) -> Signal:
    if "covariates" in known:
        known["covariate_names"] = tuple(f"x{j}" for j in range(known["covariates"].shape[1]))
    design = make_design(
        Sample(LabelArray(labels), target, **known), np.arange(labels.shape[1]), centred=True
    )
    return signal_test(design, sum_moments(design)[0], draws, np.random.default_rng(seed))


def rejections(p_values: list[float]) -> float:
    return float(np.mean(np.array(p_values) <= 0.1))


def test_the_statistic_is_r2():
    labels = coins(200)
    target = labels[:, 0] + np.random.default_rng(1).normal(size=200)
    found = signal_of(labels, target)
    assert found.r2 == pytest.approx(sm.OLS(target, sm.add_constant(labels)).fit().rsquared)


@pytest.mark.parametrize("n", [200, 70_000])
def test_with_covariates_and_weights_it_is_what_hypotheses_add(n):
    rng = np.random.default_rng(1)
    labels, age, w = coins(n), rng.normal(40, 9, n), rng.uniform(0.5, 2, n)
    target = labels[:, 0] + age / 9 + rng.normal(size=n)
    found = signal_of(labels, target, covariates=age[:, None], weights=w)
    little = sm.WLS(target, sm.add_constant(age), w).fit().ssr
    much = sm.WLS(target, sm.add_constant(np.column_stack([age, labels])), w).fit().ssr
    assert found.r2 == pytest.approx(1 - much / little)
    assert (found.draws, found.pval) == (99, 0.01)


def test_columns_that_depend_on_others_add_nothing():
    labels = coins(200)
    target = labels[:, 0] + np.random.default_rng(1).normal(size=200)
    more = np.column_stack([labels, 1 - labels[:, 0], np.ones(200)])
    assert signal_of(more, target).r2 == pytest.approx(signal_of(labels, target).r2)


def test_all_permutations_of_four_rows():
    # Of 24 permutations of 0, 1, 2, 9, R2 is as large as seen in those that keep 9 alone with 0, 1 or 2
    # together on its side: the label splits 2 and 2, and {2, 9} or {0, 1} is in 8 of 24.
    labels, target = np.array([[1.0], [1], [0], [0]]), np.array([9.0, 2, 1, 0])
    found = signal_of(labels, target, draws=20_000)
    # An estimate of 1 / 3 from 20,000 draws has a standard deviation of 0.0033.
    assert found.pval == pytest.approx(1 / 3, abs=0.0125)


def test_the_level_holds_without_signal_for_a_skewed_target():
    p_values = []
    for seed in range(500):
        rng = np.random.default_rng([seed, 1])
        p_values.append(signal_of(coins(40, seed=seed), rng.exponential(size=40) ** 2, seed=seed).pval)
    # Binomial(500, 0.1) has a standard deviation of 1.3 percent.
    assert 0.06 < rejections(p_values) < 0.14


def test_the_level_holds_where_a_covariate_moves_labels_and_target():
    with_it, without = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        age = rng.normal(size=80)
        labels = (rng.normal(age[:, None], 1, (80, 2)) > 0).astype(float)
        target = age + rng.normal(size=80)
        with_it.append(signal_of(labels, target, covariates=age[:, None], seed=seed).pval)
        without.append(signal_of(labels, target, seed=seed).pval)
    assert 0.05 < rejections(with_it) < 0.16
    assert rejections(without) > 0.9


def test_the_level_holds_for_groups_that_share_labels_and_target():
    in_groups, as_rows = [], []
    groups = np.repeat(np.arange(40), 5)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = (rng.random((40, 2)) < 0.5).astype(float)[groups]
        target = rng.normal(size=40)[groups] + rng.normal(0, 0.3, 200)
        in_groups.append(signal_of(labels, target, groups=groups, seed=seed).pval)
        as_rows.append(signal_of(labels, target, seed=seed).pval)
    # Binomial(300, 0.1) has a standard deviation of 1.7 percent.
    assert 0.05 < rejections(in_groups) < 0.16
    assert rejections(as_rows) > 0.3


def test_signal_is_found_with_and_without_groups():
    labels = coins(300)
    target = labels[:, 0] + np.random.default_rng(1).normal(size=300)
    assert signal_of(labels, target, draws=999).pval == 0.001
    assert signal_of(labels, target, draws=999, groups=np.arange(300) % 60).pval == 0.001


def test_sign_flips_of_few_groups_can_say_little():
    labels = np.repeat([[0.0], [1]], 30, axis=0)
    target = 5 * labels[:, 0] + np.random.default_rng(0).normal(size=60)
    # 6 groups flip in 64 ways, two of which leave the sum as large as it is.
    found = signal_of(labels, target, draws=5_000, groups=np.arange(60) // 10)
    assert found.pval == pytest.approx(2 / 64, abs=0.01)


def test_the_test_is_seeded():
    labels, target = coins(50), np.random.default_rng(1).normal(size=50)
    assert signal_of(labels, target, seed=3) == signal_of(labels, target, seed=3)
    assert signal_of(labels, target, 999, seed=3).pval != signal_of(labels, target, 999, seed=4).pval


@pytest.mark.parametrize(
    ("labels", "target", "draws"),
    [
        (np.zeros((20, 0)), np.arange(20.0), 99),
        (np.zeros((20, 2)), np.arange(20.0), 99),
        (coins(20), np.full(20, 0.1), 99),
        (np.eye(4)[:, :3], np.arange(4.0), 99),
        (coins(20), np.arange(20.0), 0),
        (np.full((20, 1), np.nan), np.arange(20.0), 99),
    ],
)
def test_where_nothing_can_be_tested_there_is_no_p_value(labels, target, draws):
    found = signal_of(labels, target, draws)
    assert math.isnan(found.pval) and math.isnan(found.r2)
    assert found.draws == 0
