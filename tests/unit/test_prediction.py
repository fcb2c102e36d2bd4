import math

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.metrics import average_precision_score, log_loss, mean_squared_error, r2_score, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from hypsae_ray.stats.prediction.cross_fit import Judge, cross_fit_glm, cross_fit_linear, deal_folds
from hypsae_ray.stats.prediction.features import (
    LEFT_OUT,
    PENALTIES,
    STRENGTHS,
    cross_fit_features,
    fit_logistic,
    fit_ridge,
)
from hypsae_ray.stats.regression.design import make_design
from hypsae_ray.stats.regression.likelihood import LOGIT, POISSON
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import LabelArray, Sample

FOLDS = 4


def draw(n: int = 300, h: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, target and folds."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, h)) < 0.4).astype(float)
    return labels, labels[:, 0] + 10 + rng.normal(size=n), rng.integers(0, FOLDS, n)


def coin(labels: np.ndarray, seed: int = 1) -> np.ndarray:
    chance = 1 / (1 + np.exp(0.5 - 1.5 * labels[:, 0]))
    return (np.random.default_rng(seed).random(len(labels)) < chance).astype(float)


def linear(labels: np.ndarray, target: np.ndarray, folds: np.ndarray, **known: np.ndarray) -> np.ndarray:
    sample = Sample(LabelArray(labels), target, **known)
    design = make_design(sample, np.arange(labels.shape[1]), centred=True)
    return cross_fit_linear(design, folds, sum_moments(design, folds, FOLDS))


def glm(labels: np.ndarray, target: np.ndarray, folds: np.ndarray, family) -> np.ndarray:
    design = make_design(Sample(LabelArray(labels), target), np.arange(labels.shape[1]), centred=False)
    return cross_fit_glm(design, family, folds, FOLDS)


def test_a_linear_prediction_is_that_of_scikit_learn_on_the_same_folds():
    labels, target, folds = draw()
    expected = cross_val_predict(LinearRegression(), labels, target, cv=PredefinedSplit(folds))
    np.testing.assert_allclose(linear(labels, target, folds), expected)


def test_a_linear_prediction_with_weights_covariates_and_missing_labels():
    labels, target, folds = draw()
    rng = np.random.default_rng(2)
    labels[::9, 1] = np.nan
    age, w = rng.normal(50, 9, (300, 1)), rng.uniform(0.5, 2, 300)
    found = linear(labels, target, folds, weights=w, covariates=age, covariate_names=("age",))
    there = ~np.isnan(labels).any(axis=1)
    X = np.column_stack([age, labels])
    for fold in range(FOLDS):
        train, test = there & (folds != fold), there & (folds == fold)
        model = LinearRegression().fit(X[train], target[train], w[train])
        np.testing.assert_allclose(found[test], model.predict(X[test]))
    assert np.isnan(found[~there]).all()


def test_a_column_that_the_other_folds_do_not_have_is_no_harm():
    labels, target, folds = draw()
    labels[:, 2] = (folds == 1) & (labels[:, 2] == 1)
    expected = cross_val_predict(LinearRegression(), labels[:, :2], target, cv=PredefinedSplit(folds))
    own = folds == 1
    np.testing.assert_allclose(linear(labels, target, folds)[own], expected[own])


def test_a_logistic_prediction_is_that_of_scikit_learn_with_the_same_ridge():
    labels, _, folds = draw()
    target = coin(labels)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    expected = cross_val_predict(model, labels, target, cv=PredefinedSplit(folds), method="decision_function")
    np.testing.assert_allclose(glm(labels, target, folds, LOGIT), expected, atol=1e-5)


def test_a_prediction_of_counts_is_that_of_scikit_learn_with_the_same_ridge():
    labels, _, folds = draw()
    target = np.random.default_rng(3).poisson(np.exp(1 + labels[:, 0])).astype(float)
    found = np.exp(glm(labels, target, folds, POISSON))
    for fold in range(FOLDS):
        train = folds != fold
        # Its loss is the mean of the rows, ours the sum.
        model = PoissonRegressor(alpha=1 / train.sum(), solver="newton-cholesky", tol=1e-10)
        expected = model.fit(labels[train], target[train]).predict(labels[~train])
        np.testing.assert_allclose(found[~train], expected, rtol=1e-5)


@pytest.mark.parametrize("family", [LOGIT, POISSON])
def test_other_folds_of_one_outcome_predict_a_constant(family):
    labels, _, folds = draw()
    target = np.where(folds == 2, coin(labels), 0)
    found = glm(labels, target, folds, family)
    assert np.isfinite(found).all()
    assert np.ptp(found[folds == 2]) == 0
    assert np.exp(found[folds == 2][0]) < 1e-9
    assert np.ptp(found[folds == 1]) > 0


def test_a_separated_outcome_is_predicted_with_finite_log_odds():
    labels, _, folds = draw()
    found = glm(labels, labels[:, 0], folds, LOGIT)
    assert np.abs(found).max() < 20
    assert roc_auc_score(labels[:, 0], found) == 1


@pytest.mark.parametrize("kind", ["linear", "logit", "count", "ridge", "logistic"])
def test_no_target_of_a_fold_leaks_into_its_prediction(kind):
    labels, target, folds = draw(120)
    target = {"logit": coin(labels), "logistic": coin(labels), "count": np.round(target)}.get(kind, target)
    other = np.where(folds == 0, 1 - target if kind[:3] == "log" else 2 * target, target)
    predict = {
        "linear": lambda y: linear(labels, y, folds),
        "logit": lambda y: glm(labels, y, folds, LOGIT),
        "count": lambda y: glm(labels, y, folds, POISSON),
        "ridge": lambda y: cross_fit_features(labels, y, folds, classes=False),
        "logistic": lambda y: cross_fit_features(labels, y, folds, classes=True),
    }[kind]
    before, after = predict(target), predict(other)
    np.testing.assert_allclose(before[folds == 0], after[folds == 0], rtol=1e-6, atol=1e-8)
    assert not np.allclose(before[folds == 1], after[folds == 1], rtol=1e-3)


def test_wide_features_predict_what_they_hold_and_nothing_else():
    rng = np.random.default_rng(0)
    n, d = 600, 200
    features, noise = rng.normal(size=(n, d)), rng.normal(size=n)
    truth = features[:, :10].sum(axis=1) / math.sqrt(10)
    folds = deal_folds(noise, None, FOLDS, rng)
    found = cross_fit_features(features, truth + noise, folds, classes=False)
    # Least squares on 200 columns gives 1 - 1 / 2 x (1 + 200 / 249) = 0.1 of the 0.5 that there is.
    plain = cross_val_predict(LinearRegression(), features, truth + noise, cv=PredefinedSplit(folds))
    assert r2_score(truth + noise, found) > r2_score(truth + noise, plain) + 0.05
    assert abs(r2_score(noise, cross_fit_features(features, noise, folds, classes=False))) < 0.05
    classes = (truth + noise > 0).astype(float)
    odds = cross_fit_features(features, classes, folds, classes=True)
    assert roc_auc_score(classes, odds) > 0.7
    chance = (noise > 0).astype(float)
    odds = cross_fit_features(features, chance, folds, classes=True)
    # An AUC of 600 rows has a standard deviation of 0.024.
    assert np.mean(
        [roc_auc_score(chance[folds == f], odds[folds == f]) for f in range(FOLDS)]
    ) == pytest.approx(0.5, abs=0.075)


def test_features_of_any_scale_and_place_are_fitted_alike():
    X, y, w = wide(np.random.default_rng(1).integers(0, 30, 400))
    w, folds = w / w.mean(), np.arange(400) % 5
    scale, shift = np.random.default_rng(2).uniform(0.01, 100, 40), np.linspace(-2, 2, 40)
    for fit, target in ((fit_ridge, y), (fit_logistic, (y > 0).astype(float))):
        before, after = fit(X, target, w, folds), fit((X + shift) * scale, target, w, folds)
        np.testing.assert_allclose(after.coefficients * scale, before.coefficients, rtol=1e-4, atol=1e-6)
        assert after.constant + after.coefficients @ (shift * scale) == pytest.approx(
            before.constant, rel=1e-4
        )


def test_rows_that_are_not_used_are_as_if_they_were_not_there():
    X, y, w = wide(np.random.default_rng(1).integers(0, 30, 400))
    w, folds = w / w[100:].mean(), np.arange(400) % 5
    folds[:100] = LEFT_OUT
    for fit, target in ((fit_ridge, y), (fit_logistic, (y > 0).astype(float))):
        found, alone = fit(X, target, w, folds), fit(X[100:], target[100:], w[100:], folds[100:])
        np.testing.assert_allclose(found.coefficients, alone.coefficients)
        assert (found.penalty, found.constant) == (alone.penalty, pytest.approx(alone.constant))


def test_sparse_features_predict_as_dense_ones():
    rng = np.random.default_rng(0)
    features = rng.exponential(size=(200, 30)) * (rng.random((200, 30)) < 0.2)
    target, folds = features[:, 0] + rng.normal(size=200), np.arange(200) % FOLDS
    dense = cross_fit_features(features, target, folds, classes=False)
    sparse = cross_fit_features(sp.csr_matrix(features), target, folds, classes=False)
    np.testing.assert_allclose(sparse, dense, rtol=1e-3)


def wide(groups: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that tell groups apart, a target of groups that they say nothing more of, and weights.

    Features have weighted variance 1, in which penalties are measured.
    """
    rng = np.random.default_rng(seed)
    n_groups = groups.max() + 1
    features = 2 * rng.normal(size=(n_groups, 40))[groups] + rng.normal(size=(len(groups), 40))
    target = rng.normal(size=n_groups)[groups] + 0.3 * features[:, 0] + 0.5 * rng.normal(size=len(groups))
    weights = rng.uniform(0.2, 3, len(groups))
    means = np.average(features, axis=0, weights=weights)
    features /= np.sqrt(np.average((features - means) ** 2, axis=0, weights=weights))
    return features, target, weights


@pytest.mark.parametrize("sparse", [False, True])
def test_the_penalty_of_a_ridge_is_that_of_the_least_weighted_error_of_what_is_left_out(sparse: bool):
    groups = np.random.default_rng(1).integers(0, 30, 400)
    X, y, w = wide(groups)
    w, folds = w / w.mean(), groups % 5
    errors = []
    for penalty in PENALTIES:
        guess = np.zeros(400)
        for fold in range(5):
            model = Ridge(penalty).fit(X[folds != fold], y[folds != fold], w[folds != fold])
            guess[folds == fold] = model.predict(X[folds == fold])
        errors.append(mean_squared_error(y, guess, sample_weight=w))
    best = PENALTIES[np.argmin(errors)]
    assert best not in (PENALTIES[0], PENALTIES[-1])
    found = fit_ridge(sp.csr_matrix(X) if sparse else X, y, w, folds)
    model = Ridge(best).fit(X, y, w)
    assert found.penalty == best
    np.testing.assert_allclose(found.coefficients, model.coef_, rtol=1e-6)
    assert found.constant == pytest.approx(model.intercept_)


def test_the_penalty_of_a_logistic_model_is_that_of_the_least_weighted_loss_of_what_is_left_out():
    groups = np.random.default_rng(1).integers(0, 30, 400)
    X, y, w = wide(groups)
    y, w, folds = (y > 0).astype(float), w / w.mean(), groups % 3
    losses = []
    for strength in STRENGTHS:
        guess = np.zeros(400)
        for fold in range(3):
            model = LogisticRegression(C=strength, max_iter=1000, tol=1e-8)
            model.fit(X[folds != fold], y[folds != fold], w[folds != fold])
            guess[folds == fold] = model.predict_proba(X[folds == fold])[:, 1]
        losses.append(log_loss(y, guess, sample_weight=w))
    best = STRENGTHS[np.argmin(losses)]
    found = fit_logistic(X, y, w, folds)
    assert found.penalty == best
    model = LogisticRegression(C=best, max_iter=1000, tol=1e-8).fit(X, y, w)
    np.testing.assert_allclose(found.coefficients, model.coef_[0], atol=1e-2 * np.abs(model.coef_).max())


@pytest.mark.parametrize("classes", [False, True])
def test_features_that_only_know_the_groups_again_predict_nothing_of_other_groups(classes: bool):
    whole, by_rows = [], []
    for seed in range(3 if classes else 8):
        groups = np.random.default_rng(seed).integers(0, 25, 300)
        X, _, _ = wide(groups, seed)
        X, y = X[:, 1:], np.random.default_rng(seed + 100).normal(size=25)[groups]
        y = (y > 0).astype(float) if classes else y + 0.3 * np.random.default_rng(seed).normal(size=300)
        folds = deal_folds(y, groups, FOLDS, np.random.default_rng(seed))
        for known, scores in ((groups, whole), (None, by_rows)):
            found = cross_fit_features(X, y, folds, classes=classes, groups=known)
            scores.append(-log_loss(y, 1 / (1 + np.exp(-found))) if classes else r2_score(y, found))
    nothing = -log_loss([0, 1], [0.5, 0.5]) if classes else 0
    assert np.mean(whole) > nothing - 0.25
    assert np.mean(by_rows) < np.mean(whole) - 0.1


def test_a_row_of_weight_three_is_three_rows_whatever_the_unit_of_weights():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 20))
    y, folds, w = (
        X[:, 0] + rng.normal(size=200),
        np.arange(200) % FOLDS,
        rng.integers(1, 4, 200).astype(float),
    )
    rows = np.repeat(np.arange(200), w.astype(int))
    for target, classes, fit in ((y, False, fit_ridge), ((y > 0).astype(float), True, fit_logistic)):
        once = fit(X, target, w, folds)
        many = fit(X[rows], target[rows], np.ones(len(rows)), folds[rows])
        assert once.penalty == many.penalty
        np.testing.assert_allclose(once.coefficients, many.coefficients, atol=1e-3)
        by_weight, by_other, plain = (
            cross_fit_features(X, target, folds, classes=classes, weights=one) for one in (w, 50 * w, None)
        )
        np.testing.assert_allclose(by_weight, by_other, rtol=1e-6)
        assert not np.allclose(by_weight, plain, rtol=1e-2)


def test_an_outcome_that_other_folds_or_other_groups_do_not_have_ends_no_prediction():
    X, _, _ = wide(np.arange(60) // 6)
    target, groups, folds = np.zeros(60), np.arange(60) // 6, np.arange(60) // 15
    target[:4] = 1
    found = cross_fit_features(X, target, folds, classes=True, groups=groups)
    assert np.isfinite(found).all()
    assert (found[:15] == 0).all()  # the other folds have no 1
    one_group = cross_fit_features(X, target, folds, classes=False, groups=np.zeros(60, int))
    assert np.isfinite(one_group).all()
    assert np.isfinite(cross_fit_features(X[:2], np.array([0.0, 1]), np.array([0, 1]), classes=False)).all()


def test_folds_are_even_and_two_outcomes_evenly_dealt():
    rng = np.random.default_rng(0)
    number = deal_folds(rng.normal(size=103), None, 5, rng)
    assert sorted(np.bincount(number)) == [20, 20, 21, 21, 21]
    rare = np.zeros(100)
    rare[:10] = 1
    dealt = deal_folds(rare, None, 5, rng)
    assert np.bincount(dealt[:10]).tolist() == [2] * 5
    assert np.bincount(dealt).tolist() == [20] * 5
    assert len(deal_folds(np.zeros(0), None, 5, rng)) == 0


def test_folds_keep_groups_whole_and_are_seeded():
    groups = np.random.default_rng(0).integers(0, 40, 300)
    first, again, other = (
        deal_folds(np.zeros(300), groups, 5, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert all(len(np.unique(first[groups == group])) == 1 for group in range(40))
    assert sorted(np.bincount([first[groups == group][0] for group in range(40)])) == [8] * 5
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def judge_of(target: np.ndarray, folds: np.ndarray, **other) -> Judge:
    known = {"groups": None, "weights": np.ones(len(target)), "classes": False}
    known |= {"n_bootstrap": 200, "random_state": 0}
    return Judge(target, folds, **(known | other))


def test_r2_compares_with_the_mean_of_the_other_folds():
    target, folds = np.array([1.0, 2, 6, 8]), np.array([0, 0, 1, 1])
    weights = np.array([1.0, 1, 1, 3])
    judge = judge_of(target, folds, weights=weights)
    np.testing.assert_allclose(judge.expected(), [7.5, 7.5, 1.5, 1.5])
    predicted = np.array([1.0, 3, 6, 7])
    # Squared errors 0, 1, 0, 3 x 1; without a prediction 6.5^2, 5.5^2, 4.5^2, 3 x 6.5^2.
    r2 = 1 - 4 / (6.5**2 + 5.5**2 + 4.5**2 + 3 * 6.5**2)
    assert judge.judge(predicted)["r2"].value == pytest.approx(r2)


def test_ranks_are_means_over_folds_as_scikit_learn_has_them():
    labels, _, folds = draw()
    target, score = coin(labels), np.random.default_rng(5).normal(labels[:, 0])
    w = np.random.default_rng(6).uniform(0.5, 2, 300)
    score += 100 * folds  # scores of different folds are never compared
    found = judge_of(target, folds, weights=w, classes=True).judge(score)
    for name, measure in (("auc", roc_auc_score), ("auprc", average_precision_score)):
        parts = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
        expected = np.mean([measure(target[p], score[p], sample_weight=w[p]) for p in parts])
        assert found[name].value == pytest.approx(expected)
        assert found[name].low < expected < found[name].high


@pytest.mark.parametrize("classes", [False, True])
def test_rows_that_stand_ten_times_in_one_group_count_once(classes):
    labels, target, folds = draw(100)
    target = coin(labels) if classes else target
    score = target + np.random.default_rng(7).normal(size=100)
    once = judge_of(target, folds, classes=classes).judge(score)
    rows = np.repeat(np.arange(100), 10)
    many = judge_of(target[rows], folds[rows], groups=rows * 3, weights=np.ones(1000), classes=classes)
    for name, one in many.judge(score[rows]).items():
        assert (one.value, one.low, one.high) == pytest.approx(
            (once[name].value, once[name].low, once[name].high)
        )
    alone = judge_of(target[rows], folds[rows], weights=np.ones(1000), classes=classes).judge(score[rows])
    assert all(one.high - one.low < (once[n].high - once[n].low) / 2 for n, one in alone.items())


def test_no_bootstrap_leaves_the_value_alone():
    _, target, folds = draw()
    found = judge_of(target, folds, n_bootstrap=0).judge(target)["r2"]
    assert found.value == 1
    assert math.isnan(found.low) and math.isnan(found.high)


def test_the_interval_of_r2_covers_the_performance_of_the_fitted_models():
    n, h, p, hits = 200, 5, 0.4, 0
    effects = np.array([1.0, 0.5, 0, 0, 0])
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = (rng.random((n, h)) < p).astype(float)
        target, folds = labels @ effects + rng.normal(size=n), np.arange(n) % FOLDS
        found = judge_of(target, folds, random_state=seed).judge(linear(labels, target, folds))["r2"]
        error, nothing = 0.0, 0.0
        for fold in range(FOLDS):
            train = folds != fold
            model = LinearRegression().fit(labels[train], target[train])
            off = model.coef_ - effects
            # Expected squared error over the population: noise, bias, and what wrong coefficients add.
            error += 1 + (model.intercept_ + p * off.sum()) ** 2 + p * (1 - p) * (off**2).sum()
            spread = p * (1 - p) * (effects**2).sum()
            nothing += 1 + (target[train].mean() - p * effects.sum()) ** 2 + spread
        hits += found.low <= 1 - error / nothing <= found.high
    # Binomial(200, 0.95) has a standard deviation of 1.5 percent; percentiles run a little short.
    assert 0.88 < hits / 200 <= 0.99
