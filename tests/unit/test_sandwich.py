"""Robust errors where few texts or groups, or one alone, decide a coefficient."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.stats import binom

from hypsae_ray.config import Evaluate
from hypsae_ray.stats.analysis import Task
from hypsae_ray.stats.evaluate import Evaluation, evaluate
from hypsae_ray.stats.regression.design import make_design
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import LabelArray, Sample

OPTIONS = Evaluate(n_bootstrap=0, n_permutations=0, folds=0, correction="none")
ERRORS = ["regression_se", "regression_pval", "regression_ci_low", "regression_ci_high"]
HC3 = {"cov_type": "HC3", "use_t": True}


def joint(labels: np.ndarray, target: np.ndarray, task: Task = "regression", **known) -> Evaluation:
    return evaluate(Sample(LabelArray(labels.astype(float)), target, **known), task, OPTIONS)


def draw(n: int = 40, h: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.random((n, h)) < 0.5).astype(float), rng.normal(size=n)


def assert_unsure(found: Evaluation, who: list[int], said: str) -> None:
    """Check that these hypotheses have a coefficient, no error, and a note that says why; the others all."""
    inside = found.table["hypothesis_id"].isin(who).to_numpy()
    assert found.table["regression_coef"].notna().all()
    assert found.table.loc[inside, ERRORS].isna().all(axis=None)
    assert found.table.loc[~inside, ERRORS].notna().all(axis=None)
    assert not found.table.loc[inside, "significant"].any()
    assert (found.table["note"].str.contains(said) == inside).all()
    names = ", ".join(f"#{j}" for j in who)
    assert any(note.startswith(f"no standard error for {names}: {said}") for note in found.notes)


@pytest.mark.parametrize("seed", range(5))
def test_a_text_that_alone_lacks_a_property_leaves_it_no_error_and_the_others_theirs(seed):
    labels, target = draw(seed=seed)
    labels[:, 0] = np.arange(40) != 7
    found = joint(labels, target)
    assert_unsure(found, [0], "one text alone decides it, so that HC3 is not defined")
    assert found.table["separation_test"][0] == "permutation"
    assert np.isfinite(found.table["separation_pval"][0])
    # The text fits itself, so that all else is as without it.
    rest = np.arange(40) != 7
    without = sm.OLS(target[rest], sm.add_constant(labels[rest, 1:])).fit(**HC3)
    np.testing.assert_allclose(found.table["regression_coef"][1:], without.params[1:], rtol=1e-9)
    np.testing.assert_allclose(found.table["regression_se"][1:], without.bse[1:], rtol=1e-9)
    np.testing.assert_allclose(found.table["regression_pval"][1:], without.pvalues[1:], rtol=1e-9)


@pytest.mark.parametrize("n", [40, 50_000])
def test_two_hypotheses_that_differ_in_one_text_have_no_errors(n):
    labels, target = draw(n)
    labels[:, 1] = labels[:, 0]
    labels[7, 1] = 1 - labels[7, 0]
    found = joint(labels, target)
    assert_unsure(found, [0, 1], "one text alone decides it")
    rest = np.arange(n) != 7
    without = sm.OLS(target[rest], sm.add_constant(labels[rest][:, [0, 2]])).fit(**HC3)
    assert found.table["regression_se"][2] == pytest.approx(without.bse[2], rel=1e-7)


@pytest.mark.parametrize(("far", "leverage"), [(40, 0.97), (4_000, 0.9999)])
def test_leverage_close_to_1_is_that_of_statsmodels(far, leverage):
    labels, target = draw()
    age = np.random.default_rng(3).normal(size=40)
    age[7] = far
    known = {"covariates": age[:, None], "covariate_names": ("age",)}
    found = joint(labels, target, **known)
    model = sm.OLS(target, sm.add_constant(np.column_stack([age, labels]))).fit(**HC3)
    assert model.get_influence().hat_matrix_diag[7] > leverage
    np.testing.assert_allclose(found.table["regression_se"], model.bse[2:], rtol=1e-6)
    np.testing.assert_allclose(found.details["covariates"]["se"], model.bse[1:2], rtol=1e-6)


def test_counts_that_one_text_decides_have_no_error_and_the_others_theirs():
    labels, _ = draw(200)
    labels[:, 0] = np.arange(200) != 7
    target = np.random.default_rng(4).poisson(3, 200).astype(float)
    target[7] = 2  # not 0, which would separate
    found = joint(labels, target, "count")
    assert_unsure(found, [0], "one text alone decides it")
    assert found.table[["average_effect_se", "average_effect_pval"]].isna().all(axis=1).tolist() == [
        True, False, False,
    ]  # fmt: skip
    rest = np.arange(200) != 7
    X = sm.add_constant(labels[rest, 1:])
    without = sm.GLM(target[rest], X, sm.families.Poisson()).fit()
    mu = without.fittedvalues
    bread = np.linalg.inv((X * mu[:, None]).T @ X)
    leverage = ((X @ bread) * X).sum(axis=1) * mu
    scores = X * ((target[rest] - mu) / (1 - leverage))[:, None]
    by_hand = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    np.testing.assert_allclose(found.table["regression_se"][1:], by_hand[1:], rtol=1e-6)


@pytest.mark.parametrize("n_groups", [20, 60])
def test_a_group_that_alone_lacks_a_property_leaves_it_no_error_and_the_others_theirs(n_groups):
    groups = np.repeat(np.arange(n_groups), 4)
    labels, target = draw(len(groups))
    target += np.random.default_rng(5).normal(size=n_groups)[groups]
    labels[:, 0] = groups != 3
    found = joint(labels, target, groups=groups)
    assert_unsure(found, [0], "one group alone decides it, so that cluster-robust errors are not defined")
    cluster = {"cov_type": "cluster", "cov_kwds": {"groups": groups}, "use_t": True}
    model = sm.OLS(target, sm.add_constant(labels)).fit(**cluster)
    np.testing.assert_allclose(found.table["regression_se"][1:], model.bse[2:], rtol=1e-9)
    labels[groups == 5, 0] = 0
    again = joint(labels, target, groups=groups)
    assert again.table["regression_se"].notna().all()


def test_few_texts_with_a_property_count_in_place_of_all_texts():
    labels, target = draw(200, 1)
    labels[:, 0] = np.arange(200) < 6
    found = joint(labels, target)
    model = sm.OLS(target, sm.add_constant(labels)).fit(**HC3)
    # A text's share of the information is the square of its label less the mean, 0.03.
    shares = np.repeat([0.97**2, 0.03**2], [6, 194])
    effective = shares.sum() ** 2 / (shares**2).sum()
    assert found.table["regression_se"][0] == pytest.approx(model.bse[1], rel=1e-9)
    pval = 2 * stats.t.sf(abs(model.tvalues[1]), effective - 1)
    assert found.table["regression_pval"][0] == pytest.approx(pval, rel=1e-9)
    said = "#0: few texts hold it, or do not (as few as 6 effective ones)"
    assert any(note.startswith(said) for note in found.notes)


@pytest.mark.parametrize("n_yes", [2, 5, 10])
def test_a_true_null_is_not_rejected_more_often_than_it_should_be(n_yes):
    """With n - k degrees of freedom HC3 rejects 21, 8.5 and 6.3 % of these."""
    rng, rejected, n_tests = np.random.default_rng(0), 0, 400
    labels = LabelArray((np.arange(200) < n_yes).astype(float)[:, None])
    for _ in range(n_tests):
        design = make_design(Sample(labels, rng.normal(size=200)), np.array([0]), centred=True)
        (moments,) = sum_moments(design)
        rejected += int(fit_joint(design, moments, "HC3").estimates.pval[1] < 0.05)
    assert rejected <= binom.ppf(0.999, n_tests, 0.05)
