"""Joint models as `evaluate` reports them, against statsmodels or by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit

from hypsae_ray.config import Evaluate
from hypsae_ray.stats.analysis import Task
from hypsae_ray.stats.evaluate import Evaluation, evaluate
from hypsae_ray.stats.sample import LabelArray, Sample

ESTIMATE = ["regression_coef", "regression_se", "regression_pval", "regression_ci_low", "regression_ci_high"]
AVERAGE = [
    "average_effect", "average_effect_se", "average_effect_pval", "average_effect_ci_low",
    "average_effect_ci_high",
]  # fmt: skip


def joint(labels, target, task: Task = "regression", cov_type="auto", **known) -> Evaluation:
    if "covariates" in known:
        known["covariate_names"] = tuple(f"x{j}" for j in range(known["covariates"].shape[1]))
    options = Evaluate(n_bootstrap=0, n_permutations=0, cov_type=cov_type)
    return evaluate(Sample(LabelArray(labels), np.asarray(target, float), **known), task, options)


def separating(found: Evaluation) -> list[str]:
    """The columns that a note says separate the outcomes."""
    (note,) = [note for note in found.notes if note.startswith("the outcomes are separated by ")]
    names, _, rest = note.removeprefix("the outcomes are separated by ").partition(", so ")
    assert rest.startswith("maximum likelihood has no finite estimate")
    return names.split(", ")


def estimates_of(result, first: int, last: int | None = None) -> np.ndarray:
    """The columns of ESTIMATE of some coefficients, as statsmodels has them."""
    part = slice(first, last)
    parts = (result.params[part], result.bse[part], result.pvalues[part], result.conf_int(0.05)[part])
    return np.column_stack(parts)


def coins(n: int = 600, h: int = 3, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, h)) < 0.35).astype(float)


def draw(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, covariates far from 1 and around far from 0, groups, weights, and what moves the target."""
    rng = np.random.default_rng([seed, 1])
    labels, groups = coins(n, seed=seed), rng.integers(0, 50, n)
    covariates = rng.normal((300, 0.01), (50, 0.001), (n, 2)) + labels[:, :1] * (20, 0)
    moved = labels @ (0.8, -0.5, 0) + (covariates - (300, 0.01)) @ (0.005, 200)
    return labels, covariates, groups, rng.uniform(0.5, 2, n), moved + 0.5 * rng.normal(size=50)[groups]


def chance(moved: np.ndarray, seed: int = 5) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(moved)) < expit(moved - 0.4)).astype(float)


def cluster(groups: np.ndarray) -> dict:
    return {"cov_type": "cluster", "cov_kwds": {"groups": groups}, "use_t": True}


@pytest.mark.parametrize("cov_type", ["HC3", "cluster", "nonrobust"])
def test_least_squares_with_covariates_and_weights_is_statsmodels(cov_type):
    labels, covariates, groups, weights, moved = draw()
    target = moved + np.random.default_rng(2).normal(size=600) * (1 + labels[:, 1])
    found = joint(labels, target, cov_type=cov_type, groups=groups, weights=weights, covariates=covariates)
    model = sm.WLS(target, sm.add_constant(np.column_stack([covariates, labels])), weights)
    kinds = {"HC3": {"cov_type": "HC3", "use_t": True}, "cluster": cluster(groups), "nonrobust": {}}
    expected = model.fit(**kinds[cov_type])
    np.testing.assert_allclose(found.table[ESTIMATE], estimates_of(expected, 3), rtol=1e-7)
    controls = found.details["covariates"][["coef", "se", "pval", "ci_low", "ci_high"]]
    np.testing.assert_allclose(controls, estimates_of(expected, 1, 3), rtol=1e-7)
    assert found.metrics["r2"] == pytest.approx(expected.rsquared, rel=1e-9)
    words = {"HC3": "HC3", "cluster": "cluster-robust", "nonrobust": "classical"}
    assert (found.metrics["model"], found.metrics["errors"]) == ("OLS", words[cov_type])


def test_a_logit_with_covariates_is_statsmodels():
    labels, covariates, _, _, moved = draw()
    target = chance(moved)
    found = joint(labels, target, "classification", covariates=covariates)
    scale = covariates.std(axis=0)
    wide = sm.add_constant(np.column_stack([(covariates - covariates.mean(axis=0)) / scale, labels]))
    expected = sm.Logit(target, wide).fit(disp=0, tol=1e-12)
    np.testing.assert_allclose(found.table[ESTIMATE], estimates_of(expected, 3), rtol=1e-7)
    coefficients = found.details["covariates"][["coef", "se"]].to_numpy() * scale[:, None]
    np.testing.assert_allclose(coefficients, estimates_of(expected, 1, 3)[:, :2], rtol=1e-7)
    assert found.metrics["pseudo_r2"] == pytest.approx(expected.prsquared, rel=1e-9)
    assert found.metrics["model"] == "logit, maximum likelihood"
    assert found.metrics["errors"] == "maximum likelihood"


@pytest.mark.parametrize("grouped", [False, True])
def test_average_effects_are_marginal_effects_of_statsmodels(grouped):
    labels, covariates, groups, _, moved = draw()
    target = chance(moved)
    known = {"groups": groups} if grouped else {}
    found = joint(labels, target, "classification", covariates=covariates / (100, 1e-3), **known)
    wide = sm.add_constant(np.column_stack([covariates / (100, 1e-3), labels]))
    kind = cluster(groups) if grouped else {}
    expected = sm.Logit(target, wide).fit(disp=0, tol=1e-12, **kind)
    np.testing.assert_allclose(found.table[ESTIMATE], estimates_of(expected, 3), rtol=1e-6)
    effects = expected.get_margeff(dummy=True)
    values = [effects.margeff[2:], effects.margeff_se[2:]]
    np.testing.assert_allclose(found.table[AVERAGE[:2]], np.transpose(values), rtol=1e-6)
    freedom = 49 if grouped else math.inf
    pval = 2 * stats.t.sf(np.abs(values[0] / values[1]), freedom)
    np.testing.assert_allclose(found.table["average_effect_pval"], pval, rtol=1e-5)
    margin = stats.t.ppf(0.975, freedom) * values[1]
    np.testing.assert_allclose(found.table["average_effect_ci_low"], values[0] - margin, rtol=1e-5)


def test_a_weighted_logit_is_that_of_repeated_rows_with_robust_errors():
    labels, _, _, _, moved = draw()
    target, weights = chance(moved), np.random.default_rng(3).integers(1, 5, 600)
    found = joint(labels, target, "classification", weights=weights.astype(float))
    X = sm.add_constant(labels)
    repeated = sm.Logit(np.repeat(target, weights), np.repeat(X, weights, axis=0)).fit(disp=0, tol=1e-12)
    np.testing.assert_allclose(found.table["regression_coef"], repeated.params[1:], rtol=1e-7)
    # HC3 by hand, a row with its weight being one observation.
    mu = repeated.predict(X)
    curvature = weights * mu * (1 - mu)
    bread = np.linalg.inv((X * curvature[:, None]).T @ X)
    leverage = ((X @ bread) * X).sum(axis=1) * curvature
    scores = X * (weights * (target - mu) / (1 - leverage))[:, None]
    np.testing.assert_allclose(
        found.table["regression_se"], np.sqrt(np.diag(bread @ scores.T @ scores @ bread))[1:], rtol=1e-7
    )
    assert found.metrics["errors"] == "HC3"


def test_the_average_effect_of_pairs_is_half_of_the_change_from_second_to_first():
    rng = np.random.default_rng(0)
    labels = rng.choice([-1.0, 0, 1], (800, 2))
    target = (rng.random(800) < expit(0.4 + labels @ (0.9, 0))).astype(float)
    found = joint(labels, target, "pairwise")
    expected = sm.Logit(target, sm.add_constant(labels)).fit(disp=0, tol=1e-12)
    np.testing.assert_allclose(found.table[ESTIMATE], estimates_of(expected, 1), rtol=1e-7)

    def change(beta: np.ndarray) -> float:
        rest = beta[0] + labels[:, 1] * beta[2]
        return float((expit(rest + beta[1]) - expit(rest - beta[1])).mean() / 2)

    steps = 1e-6 * np.eye(3)
    slope = [(change(expected.params + step) - change(expected.params - step)) / 2e-6 for step in steps]
    row = found.table.iloc[0]
    assert row["average_effect"] == pytest.approx(change(expected.params), rel=1e-8)
    assert row["average_effect_se"] == pytest.approx(
        math.sqrt(slope @ expected.cov_params() @ slope), rel=1e-6
    )
    assert row["average_effect"] == pytest.approx(row["separation_score"], abs=0.02)


def test_pairs_with_a_number_for_each_are_a_linear_model():
    rng = np.random.default_rng(0)
    labels = rng.choice([-1.0, 0, 1], (500, 2))
    target = 0.2 + labels @ (1, 0) + rng.normal(size=500)
    found = joint(labels, target, "pairwise")
    expected = sm.OLS(target, sm.add_constant(labels)).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(found.table[ESTIMATE], estimates_of(expected, 1), rtol=1e-7)
    assert (found.metrics["link"], "average_effect" in found.table) == ("identity", False)


@pytest.mark.parametrize("grouped", [False, True])
def test_counts_are_a_poisson_model_with_robust_errors(grouped):
    labels, _, groups, _, moved = draw()
    target = np.random.default_rng(2).poisson(np.exp(moved))
    known = {"groups": groups} if grouped else {}
    found = joint(labels, target, "count", **known)
    X = sm.add_constant(labels)
    kind = cluster(groups) if grouped else {}
    expected = sm.Poisson(target, X).fit(disp=0, tol=1e-12, **kind)
    np.testing.assert_allclose(found.table["regression_coef"], expected.params[1:], rtol=1e-6)
    effects = expected.get_margeff(dummy=True)
    np.testing.assert_allclose(found.table["average_effect"], effects.margeff, rtol=1e-6)
    if grouped:
        np.testing.assert_allclose(found.table[ESTIMATE], estimates_of(expected, 1), rtol=1e-5)
        np.testing.assert_allclose(found.table["average_effect_se"], effects.margeff_se, rtol=1e-5)
        return
    mu = expected.predict()
    bread = np.linalg.inv((X * mu[:, None]).T @ X)
    scores = X * ((target - mu) / (1 - ((X @ bread) * X).sum(axis=1) * mu))[:, None]
    se = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))[1:]
    np.testing.assert_allclose(found.table["regression_se"], se, rtol=1e-6)
    expected_p = 2 * stats.norm.sf(np.abs(expected.params[1:] / se))
    np.testing.assert_allclose(found.table["regression_pval"], expected_p, rtol=1e-5)


def with_a_separated_one(n_yes: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Labels and an outcome: the third property is held by `n_yes` texts, all of them ones."""
    labels = coins(500, 4)
    target = chance(labels @ (1, -0.8, 0, 0) + 0.4)
    labels[:, 2] = 0
    labels[np.flatnonzero(target)[:n_yes], 2] = 1
    return labels, target


def test_a_separated_hypothesis_has_a_finite_coefficient_and_a_p_value_near_fishers():
    labels, target = with_a_separated_one()
    found = joint(labels, target, "classification")
    row = found.table.iloc[2]
    held, other = target[labels[:, 2] == 1], target[labels[:, 2] == 0]
    counts = [[held.sum(), len(held) - held.sum()], [other.sum(), len(other) - other.sum()]]
    # Jeffreys' half in each cell: what Firth's penalty is in a table of two by two.
    by_hand = math.log((9.5 / 0.5) / ((other.sum() + 0.5) / (len(other) - other.sum() + 0.5)))
    assert row.regression_coef == pytest.approx(by_hand, rel=0.1)
    assert 0 < row.regression_ci_low < row.regression_coef < row.regression_ci_high
    fisher = stats.fisher_exact(counts).pvalue
    assert fisher / 4 < row.regression_pval < fisher * 4
    assert row.separation_pval == pytest.approx(fisher)
    assert math.isfinite(row.average_effect_se)
    assert found.metrics["model"] == "logit, Firth"
    assert found.metrics["errors"] == "penalised profile likelihood"
    assert separating(found) == ["#2"]


def test_a_table_of_two_by_two_has_half_a_text_added_to_each_cell():
    labels, target = np.repeat([1.0, 0.0], [9, 100])[:, None], np.repeat([1.0, 0.0, 1.0], [9, 60, 40])
    row = joint(labels, target, "classification").table.iloc[0]
    assert row.regression_coef == pytest.approx(math.log(9.5 / 0.5 * 60.5 / 40.5), rel=1e-8)
    # Twice the drop of the penalised log-likelihood (the half texts are the penalty) to both shares alike.
    cells = np.array([[9.5, 0.5], [40.5, 60.5]])
    n = cells.sum(axis=1, keepdims=True)

    def value(shares: np.ndarray) -> float:
        return float((cells * np.log(shares)).sum())

    top = value(cells / n)
    grid = np.linspace(0.3, 0.6, 30_001)
    alike = max(value(np.array([[p, 1 - p], [p, 1 - p]])) for p in grid)
    assert row.regression_pval == pytest.approx(stats.chi2.sf(2 * (top - alike), 1), rel=1e-5)


def test_the_other_coefficients_are_close_to_those_without_the_separated_one():
    labels, target = with_a_separated_one()
    found = joint(labels, target, "classification").table
    rest = labels[:, 2] == 0
    limit = sm.Logit(target[rest], sm.add_constant(labels[rest][:, [0, 1, 3]])).fit(disp=0)
    near = found.loc[[0, 1, 3]]
    np.testing.assert_allclose(near["regression_coef"], limit.params[1:], atol=0.2 * limit.bse[1:].min())
    np.testing.assert_allclose(near["regression_se"], limit.bse[1:], rtol=0.03)
    np.testing.assert_allclose(near["regression_pval"], limit.pvalues[1:], rtol=0.2, atol=0.01)


def test_two_hypotheses_that_separate_only_together_are_both_named():
    labels = np.array([[0, 0, 1]] * 8 + [[1, 0, 0]] * 8 + [[0, 1, 1]] * 8 + [[1, 1, 0]] * 8, dtype=float)
    labels[::3, 2] = 1
    target = np.array(([0, 1] * 4) + [0] * 8 + [1] * 8 + ([1, 0] * 4), dtype=float)
    found = joint(labels, target, "classification")
    assert separating(found) == ["#0", "#1"]
    assert np.isfinite(found.table[ESTIMATE]).all(axis=None)
    one, other = found.table["regression_coef"][:2]
    assert one < 0 < other


@pytest.mark.parametrize("task", ["classification", "pairwise"])
def test_complete_separation_gives_finite_estimates(task):
    labels = coins(500, 4)
    found = joint(labels, labels[:, 1], task)
    assert np.isfinite(found.table[ESTIMATE if task == "classification" else ESTIMATE[:3]]).all(axis=None)
    assert found.table["significant"].tolist() == [False, True, False, False]
    assert found.metrics["auc"] == 1
    assert found.metrics["pseudo_r2"] > 0.9
    assert "#1" in separating(found)


def test_a_covariate_that_separates_is_named_too():
    labels, age = coins(300, 2), np.random.default_rng(1).normal(40, 9, (300, 1))
    found = joint(labels, age[:, 0] > 40, "classification", covariates=age)
    assert "x0" in separating(found)
    assert np.isfinite(found.table["regression_coef"]).all()


def test_a_strong_but_regular_logit_is_not_taken_for_separated():
    labels, target = np.repeat([[1.0], [0.0]], 20_000, axis=0), np.repeat([1.0, 0.0], 20_000)
    target[[0, -1]] = 0, 1
    found = joint(labels, target, "classification")
    assert found.table["regression_coef"][0] == pytest.approx(2 * math.log(19_999), rel=1e-6)
    assert found.metrics["model"] == "logit, maximum likelihood"


def test_texts_that_all_count_0_have_a_finite_rate():
    labels = coins()
    target = np.random.default_rng(2).poisson(np.exp(labels @ (0.5, 0, 0))).astype(float)
    labels[:, 2] = np.arange(600) < 12
    target[:12] = 0
    found = joint(labels, target, "count", cov_type="nonrobust")
    row = found.table.iloc[2]
    assert found.metrics["model"] == "Poisson, Firth"
    assert separating(found) == ["#2"]
    # Without other hypotheses half a count would be added to either side.
    mean = target[12:].mean()
    assert row.regression_coef == pytest.approx(math.log(0.5 / 12 / mean), abs=0.2)
    assert -math.inf < row.regression_ci_low < row.regression_ci_high < 0
    # Twice the drop of the log-likelihood is about 2 x 12 x the mean; an exact test says exp(-12 x mean).
    assert math.exp(-12 * mean) / 50 < row.regression_pval < math.exp(-12 * mean) * 5
    rest = sm.Poisson(target[12:], sm.add_constant(labels[12:, :2])).fit(disp=0)
    np.testing.assert_allclose(found.table["regression_coef"][:2], rest.params[1:], atol=0.01)


def test_with_groups_the_drop_of_the_likelihood_is_divided_by_the_design_effect():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 8)
    labels = (rng.random((60, 2)) < 0.4).astype(float)[groups]
    target = (rng.random(480) < expit(2 * rng.normal(size=60)[groups] + labels[:, 0])).astype(float)
    separated = (target == 1) & (np.cumsum(target) <= 12)
    labels = np.column_stack([labels, separated])
    alone = joint(labels, target, "classification")
    grouped = joint(labels, target, "classification", groups=groups)
    assert grouped.metrics["errors"] == "penalised profile likelihood, cluster-robust"
    np.testing.assert_allclose(grouped.table["regression_coef"], alone.table["regression_coef"])
    # By hand, at these coefficients: cluster-robust over model variance, at least 1.
    X = sm.add_constant(labels)
    beta = alone.table["regression_coef"].to_numpy()
    offset = labels @ beta
    constant = np.linspace(-4, 4, 80_001)
    mean = np.array([expit(c + offset).mean() for c in constant[::80]])
    start = float(np.interp(target.mean(), mean, constant[::80]))
    mu = expit(X @ np.append(start, beta))
    bread = np.linalg.inv((X * (mu * (1 - mu))[:, None]).T @ X)
    scores = pd.DataFrame(X * (target - mu)[:, None]).groupby(groups).sum().to_numpy()
    robust = 60 / 59 * 479 / 476 * bread @ scores.T @ scores @ bread
    effect = np.maximum(np.diag(robust) / np.diag(bread), 1)[1:]
    assert effect[:2].min() > 2
    drops = [stats.chi2.isf(found.table["regression_pval"], 1) for found in (alone, grouped)]
    # The constant above is that of maximum likelihood, a little off Firth's.
    np.testing.assert_allclose(drops[0] / drops[1], effect, rtol=0.02)
    np.testing.assert_allclose(
        (grouped.table["regression_se"] / alone.table["regression_se"]) ** 2, effect, rtol=0.02
    )
    assert (grouped.table["regression_pval"][:2] > alone.table["regression_pval"][:2]).all()


@pytest.mark.parametrize(("holding", "task"), [(6, "regression"), (12, "regression"), (6, "classification")])
def test_few_groups_that_hold_a_property_count_in_place_of_all_groups(holding, task):
    # 100 equal groups, of which the first few hold the property on all their texts.
    groups = np.repeat(np.arange(100), 5)
    labels = (groups < holding).astype(float)[:, None]
    rng = np.random.default_rng(0)
    target = rng.normal(size=100)[groups] + rng.normal(size=500) + labels[:, 0]
    target = target if task == "regression" else (target > 0).astype(float)
    row = joint(labels, target, task, groups=groups).table.iloc[0]
    X = sm.add_constant(labels)
    model = sm.OLS(target, X) if task == "regression" else sm.Logit(target, X)
    expected = model.fit(**cluster(groups), **({} if task == "regression" else {"disp": 0, "tol": 1e-12}))
    # A group's share of the information: its residual of the label on the constant, squared, times curvature.
    mu = expected.predict(X)
    curvature = np.ones(500) if task == "regression" else mu * (1 - mu)
    residual = labels[:, 0] - np.average(labels[:, 0], weights=curvature)
    held, other = (curvature * residual**2)[[0, -1]]
    effective = (holding * held + (100 - holding) * other) ** 2 / (
        holding * held**2 + (100 - holding) * other**2
    )
    assert effective < 30
    se = expected.bse[1] * np.sqrt(effective / (effective - 1) / (100 / 99))
    assert row.regression_se == pytest.approx(se, rel=1e-6)
    margin = stats.t.ppf(0.975, effective - 1) * se
    assert row.regression_ci_high - row.regression_coef == pytest.approx(margin, rel=1e-6)
    t = abs(expected.params[1]) / se
    assert row.regression_pval == pytest.approx(2 * stats.t.sf(t, effective - 1), rel=1e-6)


def test_absorbed_levels_are_dummies_in_the_whole_table():
    labels, covariates, groups, weights, moved = draw()
    target = moved + groups / 10 + np.random.default_rng(2).normal(size=600)
    options = {"covariates": covariates, "weights": weights, "effects": groups[:, None]}
    found = joint(labels, target, **options)
    scaled = (covariates - covariates.mean(axis=0)) / covariates.std(axis=0)
    dummies = pd.get_dummies(groups, dtype=float).to_numpy()
    X = np.column_stack([scaled, labels, dummies])
    expected = sm.WLS(target, X, weights).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(found.table[ESTIMATE], estimates_of(expected, 2, 5), rtol=1e-7)
    controls = found.details["covariates"]["coef"] * covariates.std(axis=0)
    np.testing.assert_allclose(controls, expected.params[:2], rtol=1e-7)
    nothing = sm.WLS(target, dummies, weights).fit().ssr
    assert found.metrics["r2"] == pytest.approx(1 - expected.ssr / nothing, rel=1e-9)
    assert found.metrics["errors"] == "HC3"
    without = [sm.WLS(target, np.delete(X, 2 + j, axis=1), weights).fit().ssr for j in range(3)]
    unique = [(ssr - expected.ssr) / nothing for ssr in without]
    np.testing.assert_allclose(found.table["unique_r2"], unique, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_standardised_coefficients_are_those_of_standardised_columns(weighted):
    labels, covariates, _, weights, moved = draw()
    target = 1000 + 50 * (moved + np.random.default_rng(2).normal(size=600))
    w = weights if weighted else np.ones(600)
    known = {"weights": weights} if weighted else {}
    found = joint(labels, target, covariates=covariates, **known)

    def standard(values: np.ndarray) -> np.ndarray:
        around = values - np.average(values, axis=0, weights=w)
        return around / np.sqrt(np.average(around**2, axis=0, weights=w))

    X = np.column_stack([standard(covariates), standard(labels)])
    expected = sm.WLS(standard(target), X, w).fit().params[2:]
    np.testing.assert_allclose(found.table["regression_std"], expected, rtol=1e-8)


@pytest.mark.parametrize("task", ["classification", "count"])
def test_standardised_coefficients_of_other_models_are_per_deviation_of_the_label(task):
    labels, _, _, _, moved = draw()
    target = chance(moved) if task == "classification" else np.random.default_rng(2).poisson(np.exp(moved))
    found = joint(labels, target, task).table
    np.testing.assert_allclose(found["regression_std"], found["regression_coef"] * labels.std(axis=0))


@pytest.mark.parametrize("task", ["regression", "classification", "count"])
def test_what_a_hypothesis_alone_explains_is_of_the_linear_model_in_every_task(task):
    labels, _, _, weights, moved = draw()
    target = {
        "regression": moved,
        "classification": chance(moved),
        "count": np.random.default_rng(2).poisson(np.exp(moved)).astype(float),
    }[task]
    labels = np.column_stack([labels, 1 - labels[:, 1]])
    found = joint(labels, target, task, weights=weights).table["unique_r2"]

    def r2(columns: list[int]) -> float:
        return sm.WLS(target, sm.add_constant(labels[:, columns]), weights).fit().rsquared

    whole = r2([0, 1, 2])
    assert found[0] == pytest.approx(whole - r2([1, 2]), rel=1e-6)
    assert found[2] == pytest.approx(whole - r2([0, 1]), rel=1e-6, abs=1e-12)
    assert found[1] == found[3] == 0  # each says the opposite of the other


def test_each_of_three_levels_explains_nothing_that_the_others_do_not():
    kind = np.random.default_rng(0).integers(0, 3, 600)
    labels = np.column_stack([kind == 0, kind == 1, kind == 2, coins(h=1)[:, 0]]).astype(float)
    target = labels @ (1, 0, -1, 1) + np.random.default_rng(2).normal(size=600)
    found = joint(labels, target)
    assert (found.table["unique_r2"][:3] == 0).all()
    assert found.table["unique_r2"][3] > 0.05
    assert found.table["regression_coef"].isna().tolist() == [False, False, True, False]
    assert "the reference level: each row has exactly one of it and #0, #1" in found.table["note"][2]
