import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from hypsae_ray.config import Evaluate
from hypsae_ray.stats.analysis import Task
from hypsae_ray.stats.evaluate import Evaluation, evaluate
from hypsae_ray.stats.sample import LabelArray, Sample


def tried(labels, target, task: Task = "regression", **fields) -> Evaluation:
    """Evaluate, with options of `Evaluate` and parts of `Sample` by name."""
    parts = {name: fields.pop(name) for name in list(fields) if name in Sample.__dataclass_fields__}
    sample = Sample(LabelArray(labels), np.asarray(target, dtype=float), **parts)
    return evaluate(sample, task, Evaluate(**{"n_bootstrap": 0, "n_permutations": 0, **fields}))


def draw(n: int = 500, h: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, h)) < 0.3).astype(float)
    return labels, labels[:, 0] - 0.5 * labels[:, 1] + rng.normal(size=n)


def binary(labels: np.ndarray, seed: int = 1) -> np.ndarray:
    chance = 1 / (1 + np.exp(0.5 - labels[:, 0] + 0.8 * labels[:, 1]))
    return (np.random.default_rng(seed).random(len(labels)) < chance).astype(float)


def target_for(task: Task, labels: np.ndarray, value: np.ndarray) -> np.ndarray:
    return {"classification": binary(labels), "count": np.floor(np.exp(value / 2))}.get(task, value)


def regression(table: pd.DataFrame) -> np.ndarray:
    return table[["regression_coef", "regression_se", "regression_pval"]].to_numpy()


ONE_ALONE = np.array([[1], [1], [0], [0], [0]], dtype=float)


@pytest.mark.parametrize(
    ("cov_type", "variance"),
    [
        # Means 4 and 2; residuals -1, 1, -1, 0, 1: a variance of 4 / 3.
        ("nonrobust", 4 / 3 * (1 / 2 + 1 / 3)),
        # Leverages 1 / 2 and 1 / 3: squares of -2, 2 over 2^2, and of -1.5, 0, 1.5 over 3^2.
        ("auto", 8 / 4 + 4.5 / 9),
    ],
)
def test_least_squares_by_hand_on_one_hypothesis(cov_type, variance):
    found = tried(ONE_ALONE, [3.0, 5, 1, 2, 3], cov_type=cov_type).table.iloc[0]
    se = math.sqrt(variance)
    assert found.regression_coef == pytest.approx(2)
    assert found.regression_se == pytest.approx(se)
    assert found.regression_pval == pytest.approx(2 * stats.t.sf(2 / se, 3))
    assert found.regression_ci_high == pytest.approx(2 + stats.t.ppf(0.975, 3) * se)
    assert found.feature_prevalence == pytest.approx(0.4)
    # The target has a variance of 8.8 / 5, the label one of 0.24.
    assert found.separation_std == pytest.approx(2 / math.sqrt(8.8 / 5))
    standardised = 2 * math.sqrt(0.24 / (8.8 / 5))
    assert (found.regression_std, found.unique_r2) == pytest.approx((standardised, standardised**2))


def test_logit_by_hand_on_one_hypothesis():
    labels = np.repeat([1.0, 0.0], [40, 60])[:, None]
    target = np.concatenate([np.repeat([1.0, 0.0], [30, 10]), np.repeat([1.0, 0.0], [20, 40])])
    result = tried(labels, target, "classification")
    found, se = result.table.iloc[0], math.sqrt(1 / 30 + 1 / 10 + 1 / 20 + 1 / 40)
    assert found.regression_coef == pytest.approx(math.log(30 * 40 / (10 * 20)))
    assert found.regression_se == pytest.approx(se)
    assert found.regression_pval == pytest.approx(2 * stats.norm.sf(found.regression_coef / se))
    # The shares are 3 / 4 and 1 / 3; their errors are those of two proportions.
    effect, se = 3 / 4 - 1 / 3, math.sqrt(3 / 4 / 4 / 40 + 1 / 3 * 2 / 3 / 60)
    assert (found.average_effect, found.separation_score) == pytest.approx((effect, effect))
    assert found.average_effect_se == pytest.approx(se)
    # Of 50 x 50 pairs, 30 x 40 are in order, and 30 x 10 + 20 x 40 are ties.
    assert result.metrics["auc"] == pytest.approx((1200 + 1100 / 2) / 2500)


def test_counts_by_hand_on_one_hypothesis():
    labels = np.repeat([1.0, 0.0], [20, 30])[:, None]
    target = np.concatenate([np.tile([1.0, 5], 10), np.tile([0.0, 1, 2], 10)])
    found = tried(labels, target, "count", cov_type="nonrobust").table.iloc[0]
    # Means 3 and 1, sums 60 and 30.
    assert found.regression_coef == pytest.approx(math.log(3))
    assert found.regression_se == pytest.approx(math.sqrt(1 / 60 + 1 / 30))
    assert found.average_effect == pytest.approx(2)
    assert found.average_effect_se == pytest.approx(math.sqrt(3 / 20 + 1 / 30))


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_one_row_per_hypothesis_in_order_whatever_is_wrong_with_it(task):
    labels, target = draw(h=7)
    labels[:, 1], labels[:, 2], labels[:, 4] = 1, labels[:, 0], np.nan
    labels[:, 5] = 1 - labels[:, 3]
    target = target_for(task, labels, target)
    found = tried(labels, target, task, cov_type="nonrobust")
    assert found.table["hypothesis_id"].tolist() == list(range(7))
    X = sm.add_constant(labels[:, [0, 3, 6]])
    expected = sm.OLS(target, X).fit() if task == "regression" else sm.Logit(target, X).fit(disp=0)
    kept = found.table.loc[[0, 3, 6]]
    np.testing.assert_allclose(kept["regression_coef"], expected.params[1:])
    np.testing.assert_allclose(kept["regression_pval"], expected.pvalues[1:])
    assert found.table["regression_coef"].isna().tolist() == [False, True, True, False, True, True, False]
    notes = found.table["note"].tolist()
    assert notes[0] == notes[3] == notes[6] == ""
    assert notes[1].startswith("every labelled text has it")
    assert "is 1 on every row" in notes[1]
    assert "the same on these rows as #0" in notes[2]
    assert "no text has a usable label" in notes[4]
    assert "the opposite of #3" in notes[5]
    assert found.table["redundancy_group"].fillna(0).tolist() == [1, 0, 1, 2, 0, 2, 0]
    pairs = found.details["redundancy"][["first", "second", "phi"]].to_numpy()
    np.testing.assert_allclose(pairs, [[0, 2, 1], [3, 5, -1]])


@pytest.mark.parametrize("task", ["regression", "classification", "count", "pairwise", "multiclass"])
def test_every_task_has_the_columns_and_numbers_of_the_contract(task):
    labels, value = draw()
    target = np.floor(np.abs(value) % 3) if task == "multiclass" else target_for(task, labels, value)
    found = tried(labels, target, task, n_bootstrap=20, n_permutations=99)
    effect = ["average_effect", *(f"average_effect_{part}" for part in ("se", "ci_low", "ci_high", "pval"))]
    linear = task in ("regression", "pairwise")
    expected = [
        "hypothesis_id",
        *(["target_class"] if task == "multiclass" else []),
        *("n", "n_yes", "feature_prevalence", "prevalence_ci_low", "prevalence_ci_high"),
        *(f"separation_{part}" for part in ("score", "se", "ci_low", "ci_high", "pval", "test")),
        *("separation_pval_adj", "separation_std"),
        *(f"regression_{part}" for part in ("coef", "se", "ci_low", "ci_high", "pval", "pval_adj")),
        *("regression_adj_ci_low", "regression_adj_ci_high", "regression_std"),
        *([] if linear else effect),
        *("unique_r2", "redundancy_group", "significant", "note"),
    ]
    assert found.table.columns.tolist() == expected
    classes = 3 if task == "multiclass" else 1
    assert len(found.table) == found.metrics["n_tests"] == 4 * classes
    assert (found.metrics["task"], found.metrics["n_hypotheses"]) == (task, 4)
    link, model = {
        "regression": ("identity", "OLS"),
        "pairwise": ("identity", "OLS"),
        "count": ("log", "Poisson, maximum likelihood"),
    }.get(task, ("logit", "logit, maximum likelihood"))
    assert (found.metrics["link"], found.metrics["model"]) == (link, model)
    measure = "auc" if link == "logit" else "r2"
    assert measure in found.metrics and f"{measure}_cross_fitted" in found.metrics
    assert 0 < found.metrics["signal_pval"] <= 1


def test_labels_of_pairs_are_counted_by_whether_they_differ():
    rng = np.random.default_rng(0)
    labels = rng.choice([-1.0, 0, 1, np.nan], (300, 2))
    found = tried(labels, rng.random(300) < 0.5, "pairwise").table
    assert found["n"].tolist() == (~np.isnan(labels)).sum(axis=0).tolist()
    assert found["n_yes"].tolist() == (np.abs(labels) == 1).sum(axis=0).tolist()
    np.testing.assert_allclose(found["feature_prevalence"], found["n_yes"] / found["n"])


def test_bonferroni_counts_hypotheses_that_failed():
    labels, target = draw(h=2)
    few = tried(labels, target, alpha=0.05)
    width = math.ceil(0.05 / few.table["regression_pval"].max()) + 1
    many = tried(np.column_stack([labels, np.full((500, width - 2), np.nan)]), target, alpha=0.05)
    assert few.metrics["n_significant"] == 2
    assert many.metrics["alpha_per_test"] == pytest.approx(0.05 / width)
    assert many.metrics["n_significant"] == 1
    np.testing.assert_allclose(regression(many.table)[:2], regression(few.table))
    np.testing.assert_allclose(
        many.table["regression_pval_adj"][:2], np.minimum(1, width * few.table["regression_pval"])
    )


@pytest.mark.parametrize("correction", ["bonferroni", "holm", "fdr_bh", "fdr_by", "none"])
def test_corrected_p_values_are_those_of_statsmodels_and_decide(correction):
    labels, target = draw(300, 12)
    target = target + 0.25 * labels[:, 2:6].sum(axis=1)
    found = tried(labels, target, correction=correction, alpha=0.05)
    for column in ("regression_pval", "separation_pval"):
        raw = found.table[column].to_numpy()
        adjusted = raw if correction == "none" else multipletests(raw, 0.05, correction)[1]
        np.testing.assert_allclose(found.table[f"{column}_adj"], adjusted)
    assert found.table["significant"].tolist() == (found.table["regression_pval_adj"] < 0.05).tolist()
    assert found.metrics["n_significant"] == found.table["significant"].sum() > 0
    assert ("alpha_per_test" in found.metrics) is (correction == "bonferroni")


@pytest.mark.parametrize(("correction", "level"), [("bonferroni", 1 - 0.05 / 12), ("none", 0.95)])
@pytest.mark.parametrize("task", ["regression", "classification", "count"])
def test_adjusted_intervals_leave_out_zero_where_the_test_rejects(task, correction, level):
    labels, value = draw(300, 12)
    found = tried(labels, target_for(task, labels, value), task, correction=correction, alpha=0.05)
    assert found.metrics["adjusted_level"] == pytest.approx(level)
    low, high = found.table["regression_adj_ci_low"], found.table["regression_adj_ci_high"]
    assert ((low > 0) | (high < 0)).tolist() == found.table["significant"].tolist()
    assert found.table["significant"].any() and not found.table["significant"].all()
    freedom = 300 - 13 if task == "regression" else math.inf
    wider = stats.t.ppf((1 + level) / 2, freedom) / stats.t.ppf(0.975, freedom)
    usual = found.table["regression_ci_high"] - found.table["regression_ci_low"]
    np.testing.assert_allclose(high - low, wider * usual)


def test_rows_with_a_missing_label_leave_the_joint_model_only():
    labels, target = draw()
    labels[:20, 2] = np.nan
    found, complete = tried(labels, target), tried(labels[20:], target[20:])
    np.testing.assert_allclose(regression(found.table), regression(complete.table))
    assert found.table["n"].tolist() == [500, 500, 480, 500]
    assert found.table["n_yes"].tolist() == np.nansum(labels, axis=0).tolist()
    assert found.metrics["n"] == 500
    assert found.metrics["n_regression"] == 480
    assert "20 rows with a missing label are left out of the regression" in found.notes
    score = target[labels[:, 0] == 1].mean() - target[labels[:, 0] == 0].mean()
    assert found.table["separation_score"][0] == pytest.approx(score)


def test_a_hypothesis_with_few_labels_costs_the_others_no_row():
    labels, target = draw()
    few = labels.copy()
    few[20:, 1] = np.nan
    found = tried(few, target)
    model = sm.OLS(target, sm.add_constant(labels[:, [0, 2, 3]])).fit()
    np.testing.assert_allclose(found.table["regression_coef"][[0, 2, 3]], model.params[1:])
    assert found.metrics["n_regression"] == 500
    assert "no coefficient for #1: it has a label on 20 of 500 rows, fewer than half" in found.notes
    assert found.table["n"][1] == 20
    assert math.isfinite(found.table["separation_pval"][1])


@pytest.mark.parametrize(
    ("labels", "target", "reason"),
    [
        (np.eye(4)[:, :3], np.array([1.0, 2, 3, 5]), "4 complete rows are too few for 4 coefficients"),
        (np.eye(9)[:, :2], np.ones(9), "one value only"),
        (np.full((9, 2), np.nan), np.arange(9.0), "no usable label"),
        (np.zeros((0, 2)), np.zeros(0), "usable label"),
        (np.zeros((9, 2)), np.arange(9.0), "0 on every row"),
    ],
)
@pytest.mark.parametrize("task", ["regression", "count"])
def test_what_cannot_be_fitted_is_said(labels, target, reason, task):
    found = tried(labels, target, task)
    assert found.table["regression_coef"].isna().all()
    assert any(reason in note for note in found.notes)
    assert found.metrics["n_significant"] == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("task", ["classification", "count"])
def test_outcomes_that_are_all_the_same_leave_no_model_and_no_exception(task, value):
    labels, _ = draw()
    found = tried(labels, np.full(500, value), task, n_permutations=99, n_bootstrap=9)
    assert "no joint regression: the target has one value only" in found.notes
    assert found.table[["separation_pval", "regression_coef", "regression_pval"]].isna().all(axis=None)
    assert not found.table["significant"].any()


@pytest.mark.parametrize("task", ["regression", "classification", "count", "pairwise"])
def test_no_hypothesis_at_all(task):
    found = tried(np.zeros((20, 0)), np.arange(20.0) % 2, task, n_permutations=99)
    assert len(found.table) == 0
    assert found.metrics["n_hypotheses"] == 0
    assert "signal_pval" not in found.metrics


GROUPS = np.arange(4)


@pytest.mark.parametrize(
    ("target", "task", "known", "complaint"),
    [
        ([0, np.nan, 1, 2], "regression", {}, "not finite"),
        ([0, 1, 2, 3], "classification", {}, "must be 0 or 1"),
        ([0, 1, 2, 2.5], "count", {}, "whole numbers of 0 or more"),
        ([0, 1, 2, -1], "count", {}, "whole numbers of 0 or more"),
        ([1, 1, 1, 1], "multiclass", {}, "two classes or more"),
        ([0, 1, 2, 3], "regression", {"weights": np.array([1.0, 1, 0, 1])}, "above 0"),
        ([0, 1, 2, 3], "regression", {"weights": np.array([1.0, 1, np.inf, 1])}, "finite"),
        ([0, 1, 2, 3], "regression", {"covariates": np.full((4, 1), np.nan)}, "covariates hold values"),
        ([0, 1, 2, 3], "regression", {"cov_type": "cluster"}, "need groups"),
        ([0, 1, 0, 1], "classification", {"effects": GROUPS[:, None]}, "in linear models only"),
        ([0, 1, 0, 1], "pairwise", {"effects": GROUPS[:, None]}, "in linear models only"),
        ([0, 1, 2, 3], "count", {"effects": GROUPS[:, None]}, "say task='regression'"),
        ([0, 1, 2, 3], "regresion", {}, "task 'regresion' is none of regression, classification"),
    ],
)
def test_bad_arguments_are_refused(target, task, known, complaint):
    with pytest.raises(ValueError, match=complaint):
        tried(np.array([[1.0], [0], [1], [0]]), target, task, **known)


@pytest.mark.parametrize(
    ("label", "task", "allowed"),
    [
        (0.5, "regression", "0, 1"),
        (-1, "count", "0, 1"),
        (2, "classification", "0, 1"),
        (2, "multiclass", "0, 1"),
        (0.5, "pairwise", "-1, 0, 1"),
    ],
)
def test_labels_that_cannot_be_are_refused(label, task, allowed):
    labels = np.tile([[1.0], [0]], (10, 1))
    labels[7] = label
    with pytest.raises(ValueError, match=f"labels must be {allowed} or NaN: apply the threshold"):
        tried(labels, np.arange(20) // 10, task)


@pytest.mark.parametrize(
    ("known", "task", "words"),
    [
        ({}, "regression", "HC3"),
        ({}, "count", "HC3"),
        ({}, "classification", "maximum likelihood"),
        ({"groups": np.arange(500) // 5}, "regression", "cluster-robust"),
        ({"groups": np.arange(500) // 5}, "classification", "cluster-robust"),
        ({"groups": np.arange(500) // 5, "cov_type": "HC3"}, "regression", "HC3"),
        ({"weights": np.arange(500) % 3 + 1.0}, "classification", "HC3"),
        ({"cov_type": "nonrobust"}, "count", "maximum likelihood"),
    ],
)
def test_errors_are_those_that_fit_unless_others_are_asked_for(known, task, words):
    labels, value = draw()
    found = tried(labels, target_for(task, labels, value), task, **known)
    assert found.metrics["errors"] == words
    assert found.metrics.get("n_groups") == (100 if "groups" in known else None)


def test_each_class_is_compared_with_the_rest_and_all_count_as_tests():
    labels, value = draw()
    codes = np.digitize(value, (-0.5, 0.7)) * 2.0  # 0, 2, 4
    found = tried(labels, codes, "multiclass", alpha=0.05)
    assert found.table["target_class"].tolist() == np.repeat([0, 2, 4], 4).tolist()
    assert found.table["hypothesis_id"].tolist() == list(range(4)) * 3
    alone = [tried(labels, codes == one, "classification") for one in (0, 2, 4)]
    raw = pd.concat([one.table for one in alone], ignore_index=True)
    same = ["n_yes", "separation_score", "separation_pval", "regression_coef", "regression_pval", "unique_r2"]
    pd.testing.assert_frame_equal(found.table[same], raw[same])
    np.testing.assert_allclose(
        found.table["regression_pval_adj"], np.minimum(1, 12 * found.table["regression_pval"])
    )
    assert found.metrics["n_significant"] == (found.table["regression_pval"] < 0.05 / 12).sum() > 0
    assert (found.metrics["n_classes"], found.metrics["n_tests"]) == (3, 12)
    for name in ("auc", "auc_cross_fitted", "auprc_cross_fitted"):
        assert found.metrics[name] == pytest.approx(np.mean([one.metrics[name] for one in alone]))
    classes = found.details["classes"]
    assert classes["n"].tolist() == [(codes == one).sum() for one in (0, 2, 4)]
    assert classes["auc_cross_fitted"].tolist() == [one.metrics["auc_cross_fitted"] for one in alone]


def test_notes_on_a_class_name_it():
    labels, value = draw()
    labels[:, 3] = 1
    found = tried(labels, value > 0, "multiclass")
    expected = "no coefficient for #3: it is 1 on every row"
    assert found.notes == [f"class 0: {expected}", f"class 1: {expected}"]


def test_what_hypotheses_were_made_from_shows_where_signal_is_lost():
    rng = np.random.default_rng(0)
    labels, _ = draw()
    hidden = labels + rng.normal(0, 0.3, labels.shape)
    target = hidden @ (1, 1, 0, 0) + rng.normal(size=500)
    fired = sp.csc_matrix(np.where(labels == 1, hidden, 0).clip(0))
    features = {"embedding": hidden, "selected neurons": fired.tocsr()}
    found = tried(labels, target, features=features, activations=fired, n_bootstrap=50)
    chain = found.details["chain"].set_index("features")
    assert chain.index.tolist() == ["embedding", "selected neurons", "hypotheses"]
    assert chain["r2"]["embedding"] > chain["r2"]["hypotheses"] > 0.2
    share = chain["r2"]["hypotheses"] / chain["r2"]["embedding"]
    assert found.metrics["share_of_ceiling"] == pytest.approx(share)
    trends = found.details["dose_trend"]
    assert trends["hypothesis_id"].tolist() == [0, 1, 2, 3]
    assert found.details["dose"].groupby("hypothesis_id")["n"].sum().tolist() == [500] * 4
    assert set(tried(labels, target).details) == set()


def test_noise_predicts_nothing_when_cross_fitted():
    aucs, r2s, in_sample = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels, coin = (rng.random((500, 20)) < 0.3).astype(float), rng.random(500) < 0.5
        classified = tried(labels, coin, "classification", random_state=seed).metrics
        aucs.append(classified["auc_cross_fitted"])
        in_sample.append(classified["auc"])
        r2s.append(tried(labels, rng.normal(size=500), random_state=seed).metrics["r2_cross_fitted"])
    # An AUC of 500 rows has a standard deviation of 0.026, the mean of twelve one of 0.0075.
    assert 0.47 < np.mean(aucs) < 0.53
    assert np.mean(r2s) < 0
    assert np.mean(in_sample) > 0.58


def test_cross_fitted_measures_approach_the_truth():
    labels, target = draw(20_000)
    share = np.var(labels[:, 0] - 0.5 * labels[:, 1]) / np.var(target)
    assert tried(labels, target).metrics["r2_cross_fitted"] == pytest.approx(share, abs=0.01)
    coin = binary(labels)
    best = roc_auc_score(coin, labels[:, 0] - 0.8 * labels[:, 1])
    found = tried(labels, coin, "classification").metrics["auc_cross_fitted"]
    assert found == pytest.approx(best, abs=0.01)


def test_all_that_is_random_is_seeded():
    labels, target = draw(60)
    target -= labels @ (0.8, -0.5, 0, 0)
    labels[5:, 3] = 0  # a small cell: permutations
    labels[:5, 3] = 1
    options = {"n_bootstrap": 20, "n_permutations": 99}
    first, again = (tried(labels, target, random_state=3, **options) for _ in range(2))
    other = tried(labels, target, random_state=4, **options)
    pd.testing.assert_frame_equal(first.table, again.table)
    assert first.metrics == again.metrics
    for name in ("r2_cross_fitted", "r2_ci_low", "signal_pval"):
        assert first.metrics[name] != other.metrics[name]
    assert first.table["separation_pval"][3] != other.table["separation_pval"][3]
    np.testing.assert_allclose(regression(first.table), regression(other.table), rtol=1e-10)


def test_planted_effects_are_found_in_order():
    labels, target = draw(4000)
    found = tried(labels, target, n_permutations=99)
    np.testing.assert_allclose(found.table["regression_coef"], [1, -0.5, 0, 0], atol=0.15)
    np.testing.assert_allclose(found.table["separation_score"], [1, -0.5, 0, 0], atol=0.15)
    assert found.table["significant"].tolist() == [True, True, False, False]
    assert found.metrics["signal_pval"] == 0.01


@pytest.mark.parametrize("task", ["regression", "classification", "multiclass"])
def test_without_folds_nothing_is_cross_fitted_and_all_else_stays(task: Task):
    labels, target = draw()
    target = target if task == "regression" else binary(labels)
    usual, without = tried(labels, target, task), tried(labels, target, task, folds=0)
    pd.testing.assert_frame_equal(without.table, usual.table)
    measures = [value for name, value in without.metrics.items() if "cross_fitted" in name]
    assert np.isnan(np.array(measures, dtype=float)).all()
