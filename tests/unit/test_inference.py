import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.metrics import roc_auc_score

from hypsae_ray.core.design import find_independent
from hypsae_ray.core.inference import evaluate
from hypsae_ray.core.regression import cross_fitted
from hypsae_ray.core.separation import separation


def draw(n: int = 500, h: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, h)) < 0.3).astype(float)
    return labels, labels[:, 0] - 0.5 * labels[:, 1] + rng.normal(size=n)


def binary(labels: np.ndarray, seed: int = 1) -> np.ndarray:
    chance = 1 / (1 + np.exp(0.5 - labels[:, 0] + 0.8 * labels[:, 1]))
    return (np.random.default_rng(seed).random(len(labels)) < chance).astype(float)


def regression(table: pd.DataFrame) -> np.ndarray:
    return table[["regression_coef", "regression_se", "regression_pval"]].to_numpy()


def test_separation_is_scipys_welch_test():
    labels, target = draw()
    target = target * np.where(labels[:, 0] == 1, 3, 1)
    found = separation(labels[:, 0], target)
    yes, no = target[labels[:, 0] == 1], target[labels[:, 0] == 0]
    welch = stats.ttest_ind(yes, no, equal_var=False)
    assert found.score == pytest.approx(yes.mean() - no.mean())
    assert found.pval == pytest.approx(welch.pvalue)
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(welch.confidence_interval(0.95)))
    assert found.se == pytest.approx(found.score / welch.statistic)


def test_separation_interval_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    labels = np.repeat([1.0, 0.0], [15, 200])
    for _ in range(2000):
        found = separation(labels, rng.normal(labels, np.where(labels == 1, 3, 1)))
        hits += found.ci_low <= 1 <= found.ci_high
    # Binomial(2000, 0.95) has a standard deviation of 0.5 percent.
    assert 0.93 < hits / 2000 < 0.97


@pytest.mark.parametrize(
    ("labels", "target", "score", "note"),
    [
        ([1, 1, 1], [1, 2, 3], math.nan, "every labelled text"),
        ([0, 0, 0], [1, 2, 3], math.nan, "no labelled text"),
        ([], [], math.nan, "no text has a usable label"),
        ([1, 0, 0], [5, 2, 4], 2, "only one text"),
        ([1, 1, 0, 0], [1, 1, 0, 0], 1, "does not vary"),
    ],
)
def test_a_separation_without_a_test_says_why(labels, target, score, note):
    found = separation(np.array(labels, dtype=float), np.array(target, dtype=float))
    assert found.score == pytest.approx(score, nan_ok=True)
    assert math.isnan(found.pval)
    assert note in found.note


def test_ols_by_hand_on_one_hypothesis():
    labels = np.array([[1], [1], [0], [0], [0]], dtype=float)
    target = np.array([3.0, 5, 1, 2, 3])
    found = evaluate(labels, target, task="regression").table.iloc[0]
    # Means 4 and 2; residuals -1, 1, -1, 0, 1: variance 4 / 3, se = sqrt(4 / 3 * (1 / 2 + 1 / 3)).
    se = math.sqrt(4 / 3 * (1 / 2 + 1 / 3))
    assert found.regression_coef == pytest.approx(2)
    assert found.regression_se == pytest.approx(se)
    assert found.regression_pval == pytest.approx(2 * stats.t.sf(2 / se, 3))
    assert found.regression_ci_high == pytest.approx(2 + stats.t.ppf(0.975, 3) * se)
    assert found.feature_prevalence == pytest.approx(0.4)


def test_logit_by_hand_on_one_hypothesis():
    labels = np.repeat([1.0, 0.0], [40, 60])[:, None]
    target = np.concatenate([np.repeat([1.0, 0.0], [30, 10]), np.repeat([1.0, 0.0], [20, 40])])
    found = evaluate(labels, target, task="classification").table.iloc[0]
    se = math.sqrt(1 / 30 + 1 / 10 + 1 / 20 + 1 / 40)
    assert found.regression_coef == pytest.approx(math.log(30 * 40 / (10 * 20)))
    assert found.regression_se == pytest.approx(se)
    assert found.regression_pval == pytest.approx(2 * stats.norm.sf(found.regression_coef / se))


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_one_row_per_hypothesis_in_order_whatever_is_wrong_with_it(task):
    labels, target = draw(h=7)
    labels[:, 1], labels[:, 2], labels[:, 4] = 1, labels[:, 0], np.nan
    labels[:, 5] = 1 - labels[:, 3]
    target = binary(labels) if task == "classification" else target
    found = evaluate(labels, target, task=task)
    assert found.table["hypothesis_id"].tolist() == list(range(7))
    model = sm.OLS if task == "regression" else sm.Logit
    X = sm.add_constant(labels[:, [0, 3, 6]])
    expected = model(target, X).fit() if task == "regression" else model(target, X).fit(disp=0)
    np.testing.assert_allclose(found.table["regression_coef"].to_numpy()[[0, 3, 6]], expected.params[1:])
    np.testing.assert_allclose(found.table["regression_pval"].to_numpy()[[0, 3, 6]], expected.pvalues[1:])
    assert found.table["regression_coef"].isna().tolist() == [False, True, True, False, True, True, False]
    notes = found.table["note"].tolist()
    assert notes[0] == notes[3] == notes[6] == ""
    assert "is 1 on every row" in notes[1]
    assert "the same on these rows as #0" in notes[2]
    assert "no text has a usable label" in notes[4]
    assert "the opposite of #3" in notes[5]
    assert "no coefficient for #4: it has no usable label" in found.notes


def test_bonferroni_counts_hypotheses_that_failed():
    labels, target = draw(h=2)
    few = evaluate(labels, target, task="regression", alpha=0.05)
    pval = few.table["regression_pval"].max()
    width = math.ceil(0.05 / pval) + 1
    many = evaluate(
        np.column_stack([labels, np.full((500, width - 2), np.nan)]), target, task="regression", alpha=0.05
    )
    assert few.metrics["n_significant"] == 2
    assert many.metrics["alpha_per_test"] == pytest.approx(0.05 / width)
    assert many.metrics["n_significant"] == 1
    np.testing.assert_allclose(regression(many.table)[:2], regression(few.table))


def test_rows_with_a_missing_label_leave_the_joint_model_only():
    labels, target = draw()
    labels[:20, 2] = np.nan
    found = evaluate(labels, target, task="regression")
    complete = evaluate(labels[20:], target[20:], task="regression")
    np.testing.assert_allclose(regression(found.table), regression(complete.table))
    assert found.table["n"].tolist() == [500, 500, 480, 500]
    assert found.metrics["n"] == 500
    assert found.metrics["n_regression"] == 480
    assert "20 rows with a missing label are left out of the regression" in found.notes
    assert found.table["separation_score"][0] == pytest.approx(separation(labels[:, 0], target).score)


def test_a_hypothesis_with_few_labels_costs_the_others_no_row():
    labels, target = draw()
    few = labels.copy()
    few[10:, 1] = np.nan
    found = evaluate(few, target, task="regression")
    model = sm.OLS(target, sm.add_constant(labels[:, [0, 2, 3]])).fit()
    np.testing.assert_allclose(found.table["regression_coef"][[0, 2, 3]], model.params[1:])
    assert found.metrics["n_regression"] == 500
    assert "no coefficient for #1: it has a label on 10 of 500 rows, fewer than half" in found.notes
    assert found.table["n"][1] == 10
    assert math.isfinite(found.table["separation_pval"][1])


def test_a_separated_hypothesis_has_no_coefficient_and_the_rest_is_the_limit():
    labels, _ = draw()
    target = binary(labels)
    labels[:, 2] = 0
    labels[np.flatnonzero(target)[:9], 2] = 1
    found = evaluate(labels, target, task="classification")
    rest = labels[:, 2] == 0
    limit = sm.Logit(target[rest], sm.add_constant(labels[rest][:, [0, 1, 3]])).fit(disp=0)
    np.testing.assert_allclose(found.table["regression_coef"][[0, 1, 3]], limit.params[1:])
    np.testing.assert_allclose(found.table["regression_pval"][[0, 1, 3]], limit.pvalues[1:])
    assert math.isnan(found.table["regression_pval"][2])
    assert not found.table["significant"][2]
    assert "perfect separation" in found.table["note"][2]
    assert any("perfect separation of the outcomes in the logit by #2" in note for note in found.notes)


def test_two_hypotheses_that_separate_only_together_are_both_named():
    labels = np.array([[0, 0, 1]] * 8 + [[1, 0, 0]] * 8 + [[0, 1, 1]] * 8 + [[1, 1, 0]] * 8, dtype=float)
    labels[::3, 2] = 1
    target = np.array(([0, 1] * 4) + [0] * 8 + [1] * 8 + ([1, 0] * 4), dtype=float)
    found = evaluate(labels, target, task="classification")
    assert found.table["regression_coef"].isna().tolist()[:2] == [True, True]
    assert any("#0, #1" in note for note in found.notes)


def test_complete_separation_leaves_no_coefficient_and_no_exception():
    labels, _ = draw()
    found = evaluate(labels, labels[:, 1], task="classification")
    assert found.table["regression_coef"].isna().all()
    assert found.metrics["n_significant"] == 0
    assert found.metrics["auc"] == 1


def test_a_strong_but_regular_logit_is_not_taken_for_separated():
    labels = np.repeat([1.0, 0.0], [20_000, 20_000])[:, None]
    target = np.ones(40_000)
    target[0], target[20_000:] = 0, 0
    target[-1] = 1
    found = evaluate(labels, target, task="classification").table.iloc[0]
    assert found.regression_coef == pytest.approx(2 * math.log(19_999), rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "target", "reason"),
    [
        (np.eye(4)[:, :3], np.array([1.0, 2, 3, 5]), "too few"),
        (np.eye(9)[:, :2], np.ones(9), "one value only"),
        (np.full((9, 2), np.nan), np.arange(9.0), "no usable label"),
        (np.zeros((0, 2)), np.zeros(0), "usable label"),
        (np.zeros((9, 2)), np.arange(9.0), "0 on every row"),
    ],
)
def test_what_cannot_be_fitted_is_said(labels, target, reason):
    found = evaluate(labels, target, task="regression")
    assert found.table["regression_coef"].isna().all()
    assert any(reason in note for note in found.notes)
    assert found.metrics["n_significant"] == 0


def test_no_hypothesis_at_all():
    found = evaluate(np.zeros((20, 0)), np.arange(20.0), task="regression")
    assert len(found.table) == 0
    assert found.metrics["n_hypotheses"] == 0


@pytest.mark.parametrize(
    ("labels", "target", "task", "complaint"),
    [
        (np.zeros((3, 1)), np.zeros(4), "regression", "do not fit"),
        (np.zeros((3, 1)), np.array([0, np.nan, 1]), "regression", "not finite"),
        (np.full((3, 1), 0.5), np.arange(3.0), "regression", "threshold"),
        (np.zeros((3, 1)), np.arange(3.0), "classification", "0 or 1"),
    ],
)
def test_bad_arguments_are_refused(labels, target, task, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate(labels, target, task=task)


def test_dependent_columns_are_named_and_the_others_kept():
    rng = np.random.default_rng(0)
    a, b, c = (rng.random((3, 50)) < 0.4).astype(float)
    columns = np.column_stack([a, b, np.zeros(50), a + b, c, b, 1 - c])
    found = find_independent(columns, [f"#{j}" for j in range(7)])
    assert found.kept == (0, 1, 4)
    assert found.dropped == {
        2: "it is 0 on every row",
        3: "it is a combination of #0, #1",
        5: "it is the same on these rows as #1",
        6: "it is the opposite of #4 on these rows",
    }


def test_one_differing_row_in_a_million_keeps_a_column():
    column = (np.arange(1_000_000) % 3 == 0).astype(float)
    other = column.copy()
    other[17] = 1 - other[17]
    assert find_independent(np.column_stack([column, other]), ["#0", "#1"]).kept == (0, 1)


def test_noise_predicts_nothing_when_cross_fitted():
    aucs, r2s, in_sample = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels, coin = (rng.random((500, 20)) < 0.3).astype(float), (rng.random(500) < 0.5).astype(float)
        aucs.append(cross_fitted(labels, coin, "classification", seed)["auc_cross_fitted"])
        r2s.append(cross_fitted(labels, rng.normal(size=500), "regression", seed)["r2_cross_fitted"])
        in_sample.append(evaluate(labels, coin, task="classification").metrics["auc"])
    # An AUC of 500 rows has a standard deviation of 0.026, the mean of twelve one of 0.0075.
    assert 0.47 < np.mean(aucs) < 0.53
    assert np.mean(r2s) < 0
    assert np.mean(in_sample) > 0.58


def test_cross_fitted_measures_approach_the_truth():
    labels, target = draw(20_000)
    share = np.var(labels[:, 0] - 0.5 * labels[:, 1]) / np.var(target)
    assert cross_fitted(labels, target, "regression", 0)["r2_cross_fitted"] == pytest.approx(share, abs=0.01)
    coin = binary(labels)
    best = roc_auc_score(coin, labels[:, 0] - 0.8 * labels[:, 1])
    assert cross_fitted(labels, coin, "classification", 0)["auc_cross_fitted"] == pytest.approx(
        best, abs=0.01
    )


def test_cross_fitting_is_seeded():
    labels, target = draw(60)
    first, again, other = (cross_fitted(labels, target, "regression", seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_planted_effects_are_found_in_order():
    labels, target = draw(4000)
    table = evaluate(labels, target, task="regression").table
    np.testing.assert_allclose(table["regression_coef"], [1, -0.5, 0, 0], atol=0.15)
    assert table["significant"].tolist() == [True, True, False, False]
