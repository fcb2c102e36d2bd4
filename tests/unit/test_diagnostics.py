import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import variance_inflation_factor

from hypsae_ray.config import Evaluate
from hypsae_ray.stats.analysis import Analysis, analyse, inflation, method_of, unique_shares
from hypsae_ray.stats.evaluate import Evaluation, evaluate
from hypsae_ray.stats.notes import dependence_notes, notes_of
from hypsae_ray.stats.sample import LabelArray, Sample

OPTIONS = Evaluate(n_bootstrap=0, n_permutations=0)


def coins(n: int = 400, h: int = 3, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, h)) < 0.4).astype(float)


def noise(n: int = 400, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)


def analysis_of(labels: np.ndarray, target: np.ndarray, task="regression", **known) -> Analysis:
    sample = Sample(LabelArray(labels), target, **known)
    return analyse(sample, method_of(task, sample, "auto"), OPTIONS)


def notes(labels: np.ndarray, target: np.ndarray, task="regression", **known) -> list[str]:
    return notes_of(analysis_of(labels, target, task, **known))


def evaluation(sample: Sample, task="regression", **sources) -> Evaluation:
    return evaluate(replace(sample, **sources), task, OPTIONS)


@pytest.mark.parametrize("task", ["regression", "classification", "count"])
def test_nothing_is_said_where_all_is_well(task):
    target = {
        "regression": noise(),
        "classification": (noise() > 0).astype(float),
        "count": np.random.default_rng(1).poisson(3, 400).astype(float),
    }[task]
    assert notes(coins(), target, task) == []
    assert notes(coins(), target, task, groups=np.arange(400)) == []


def test_rows_with_a_missing_label_are_counted():
    labels = coins()
    labels[:20, 1] = np.nan
    assert notes(labels, noise()) == ["20 rows with a missing label are left out of the regression"]
    labels[20, 0] = np.nan
    first, second = notes(labels, noise())
    assert first == "21 rows with a missing label are left out of the regression"
    assert second.startswith("that is 5% of the rows: the results hold if what is missing has nothing to do")


def test_hypotheses_without_a_coefficient_are_named_by_reason():
    labels = coins(h=6)
    labels[:, 1], labels[:, 3], labels[:, 4] = np.nan, 1 - labels[:, 0], np.nan
    labels[:201, 5] = np.nan
    assert notes(labels, noise()) == [
        "no coefficient for #1, #4: it has no usable label",
        "no coefficient for #3: it is the opposite of #0 on these rows",
        "no coefficient for #5: it has a label on 199 of 400 rows, fewer than half",
    ]


@pytest.mark.parametrize(("n_yes", "said"), [(9, True), (10, False)])
def test_small_cells_are_tested_otherwise(n_yes, said):
    labels = coins()
    labels[:, 1] = np.arange(400) < n_yes
    found = notes(labels, noise())
    permuted = "#1: fewer than 10 texts on one side: a permutation test stands in for Welch's"
    assert [note for note in found if "permutation" in note] == ([permuted] if said else [])
    target = np.arange(400) % 2
    target[:20] = np.repeat([1, 0], [n_yes, 20 - n_yes])  # all with the property have a 1
    found = notes(labels, target.astype(float), "classification")
    # A cell of two outcomes is small even with 10 on a side: none of them has a 0.
    assert "#1: a cell of fewer than 10 texts: Fisher's exact test stands in for Welch's" in found


def test_properties_of_few_groups_are_tested_by_sign_flips():
    labels, groups = coins(), np.arange(400) // 8
    labels[:, 2] = labels[:, 2] * (groups < 9)
    found = notes(labels, noise(), groups=groups)
    assert any(note.startswith("#2: texts of fewer than 10 groups on one side") for note in found)
    assert any(note.startswith("#2: held by few groups (as few as") for note in found)
    assert all("sign flips" not in note or note.startswith("#2:") for note in found)


def test_effective_groups_are_one_over_the_sum_of_squared_shares_of_information():
    # One hypothesis, all of one side in few groups: a row's share of the information on the coefficient is
    # (x - mean)^2, up to a factor.
    labels, groups = np.zeros((400, 1)), np.arange(400) // 10
    labels[:60, 0] = 1
    information = np.bincount(groups, (labels[:, 0] - 0.15) ** 2)
    effective = information.sum() ** 2 / (information**2).sum()
    analysis = analysis_of(labels, noise(), groups=groups)
    assert analysis.fit.covariance.effective is not None
    assert analysis.fit.covariance.effective[1] == pytest.approx(effective)
    expected = f"#0: held by few groups (as few as {effective:.0f} effective ones)"
    assert any(note.startswith(expected) for note in notes_of(analysis))


@pytest.mark.parametrize(("n_groups", "said"), [(29, True), (30, False)])
def test_few_groups_are_said(n_groups, said):
    found = notes(coins(), noise(), groups=np.arange(400) % n_groups)
    assert any(note.startswith(f"only {n_groups} groups: ") for note in found) is said


@pytest.mark.parametrize("task", ["regression", "classification", "count"])
def test_one_group_leaves_no_errors_and_says_so(task):
    target = np.arange(400.0) % 2
    found = evaluation(Sample(LabelArray(coins()), target, groups=np.zeros(400, dtype=np.int64)), task)
    assert "all rows are of one group, so that there are no cluster-robust errors" in found.notes
    assert found.table["regression_coef"].notna().all()
    assert found.table[["regression_se", "regression_pval", "separation_pval"]].isna().all(axis=None)
    assert not found.table["significant"].any()


def test_alikeness_within_groups_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 400)
    target = noise() + rng.normal(size=60)[groups]
    table = sm.stats.anova_lm(sm.OLS.from_formula("y ~ C(g)", pd.DataFrame({"y": target, "g": groups})).fit())
    size = np.bincount(groups)
    size = size[size > 0]
    between, within = table["mean_sq"]
    usual = (400 - (size**2).sum() / 400) / (len(size) - 1)
    alike = (between - within) / (between + (usual - 1) * within)
    effective = 400 / (1 + ((size**2).sum() / 400 - 1) * alike)
    assert 0.3 < alike < 0.7
    assert (
        f"rows of one group are alike (intraclass correlation of the target {alike:.2f}): for its mean, "
        f"400 rows in {len(size)} groups count as {effective:.0f} independent ones; errors are cluster-robust"
    ) in notes(coins(), target, groups=groups)


def test_groups_that_are_not_alike_are_not_said_to_be():
    assert notes(coins(), noise(), groups=np.arange(400) // 8) == []


def test_weights_count_as_kish_says():
    weights = np.repeat([1.0, 3.0], 200)
    # (200 + 600)^2 / (200 + 1800) = 320.
    assert notes(coins(), noise(), weights=weights) == [
        "weights: 400 rows count as 320 of equal weight (Kish)"
    ]
    labels = coins()
    labels[9:, 0] = 0
    labels[:9, 0] = 1
    small = "#0: fewer than 10 texts on one side, and with weights no exact test"
    assert small in notes(labels, noise(), weights=weights)


@pytest.mark.parametrize("task", ["regression", "classification", "count"])
def test_inflation_is_that_of_statsmodels(task):
    labels = coins(h=4)
    labels[:, 3] = np.where(np.arange(400) % 50 == 0, 1 - labels[:, 0], labels[:, 0])
    target = {"regression": noise(), "classification": (noise() > 0) * 1.0, "count": np.arange(400.0) % 5}[
        task
    ]
    age = noise(seed=5)[:, None] + labels[:, :1]
    analysis = analysis_of(labels, target, task, covariates=age, covariate_names=("age",))
    X = sm.add_constant(np.column_stack([age, labels]))
    expected = [variance_inflation_factor(X, j) for j in range(2, 6)]
    np.testing.assert_allclose(inflation(analysis), expected, rtol=1e-8)
    assert expected[0] > 10 > expected[1]
    assert any(
        note.startswith(f"#0, #3: overlap with the other hypotheses blows up the variance of the coefficient "
                        f"{max(expected):.0f} times at most") for note in notes_of(analysis)
    )  # fmt: skip


def test_a_hypothesis_without_a_coefficient_has_no_inflation():
    labels = coins(h=4)
    labels[:, 1] = 0
    found = inflation(analysis_of(labels, noise()))
    assert np.isnan(found).tolist() == [False, True, False, False]
    assert inflation(analysis_of(np.zeros((20, 2)), noise(20))).shape == (2,)


@pytest.mark.parametrize(("events", "said"), [(29, True), (30, False), (370, False), (371, True)])
def test_few_outcomes_per_coefficient_are_said(events, said):
    target = np.zeros(400)
    target[np.random.default_rng(3).permutation(400)[:events]] = 1
    found = [note for note in notes(coins(), target, "classification") if "per coefficient" in note]
    assert len(found) == said
    assert all(note.startswith("only 9.7 outcomes of the rarer kind per coefficient") for note in found)


def test_overdispersion_is_pearsons_statistic_per_degree_of_freedom():
    rng = np.random.default_rng(0)
    labels = coins()
    target = rng.poisson(np.exp(labels[:, 0]) * rng.gamma(1, 1, 400)).astype(float)
    model = sm.GLM(target, sm.add_constant(labels), family=sm.families.Poisson()).fit()
    expected = model.pearson_chi2 / model.df_resid
    assert expected > 1.5
    assert notes(labels, target, "count") == [
        f"counts vary {expected:.1f} times as much as a Poisson model says; the robust errors allow for it"
    ]


def test_absorbed_levels_are_counted():
    effects = np.append(np.arange(398) % 20, [20, 21])[:, None]
    assert notes(coins(), noise(), effects=effects) == [
        "20 levels of fixed effects are absorbed; R2 is that within levels",
        "2 rows are the only one of their level, and say nothing about differences within",
    ]
    labels = coins()
    labels[0, 0] = np.nan
    assert "1 rows with a missing label are left out of the regression" in notes(
        labels, noise(), effects=effects
    )


def test_groupings_that_nobody_named_show_what_they_would_change():
    rng = np.random.default_rng(0)
    author = np.repeat(np.arange(50), 8)
    labels = (rng.random((50, 2)) < 0.5).astype(float)[author]
    target = rng.normal(size=50)[author] + 0.3 * noise()
    sample = Sample(LabelArray(labels), target)
    found = evaluation(sample, groupings={"author": author, "row": np.arange(400)})
    table = found.details["dependence"].set_index("grouping")
    plain = sm.OLS(target, sm.add_constant(labels)).fit(cov_type="HC3")
    model = sm.OLS(target, sm.add_constant(labels)).fit(cov_type="cluster", cov_kwds={"groups": author})
    ratio = np.median(model.bse[1:] / plain.bse[1:])
    assert table["n_groups"].to_dict() == {"author": 50, "row": 400}
    assert table["se_ratio"]["author"] == pytest.approx(ratio)
    assert table["se_ratio"]["row"] == pytest.approx(1, abs=0.02)
    significant = table["n_significant"]["author"]
    assert (
        f"rows may belong together by author (50 groups), and none was named: with it, standard errors "
        f"are {ratio:.2f} times as large and {significant} hypotheses are significant instead of "
        f"{found.metrics['n_significant']}"
    ) in found.notes


def test_groupings_that_change_nothing_say_so():
    table = pd.DataFrame([{"grouping": "day", "n_groups": 9, "se_ratio": 0.96, "n_significant": 4}])
    assert dependence_notes(table, 4)[0].endswith(
        "0.96 times as large and as many hypotheses are significant"
    )
    assert dependence_notes(table, 5)[0].endswith("and 4 hypotheses are significant instead of 5")


def test_no_grouping_no_note():
    assert dependence_notes(pd.DataFrame(), 3) == []
    assert "dependence" not in evaluation(Sample(LabelArray(coins()), noise())).details


def test_what_a_hypothesis_alone_explains_is_the_fall_of_r2_without_it():
    labels, age = coins(), noise(seed=5)[:, None]
    target = labels @ (1, 0.5, 0) + age[:, 0] + noise()
    found = unique_shares(analysis_of(labels, target, covariates=age, covariate_names=("age",)))

    def r2(columns: list[int]) -> float:
        return sm.OLS(target, sm.add_constant(np.column_stack([age, labels[:, columns]]))).fit().rsquared

    expected = [r2([0, 1, 2]) - r2([j for j in range(3) if j != without]) for without in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_copies_explain_nothing_alone_and_dependent_covariates_take_nothing_away():
    labels, age = coins(h=4), noise(seed=5)
    labels[:, 3] = labels[:, 0]
    target = labels[:, 1] + noise()
    twice = analysis_of(labels, target, covariates=np.column_stack([age, age]), covariate_names=("x1", "x2"))
    once = analysis_of(labels, target, covariates=age[:, None], covariate_names=("x1",))
    found = unique_shares(twice)
    np.testing.assert_allclose(found, unique_shares(once))
    assert found[0] == found[3] == 0
    assert (found[[1, 2]] > 0).all()


def test_no_rows_at_all():
    found = evaluation(Sample(LabelArray(np.zeros((0, 2))), np.zeros(0)))
    assert found.notes == [
        "no coefficient for #0, #1: it has no usable label",
        "no joint regression: 0 complete rows are too few for 0 coefficients",
    ]
    assert math.isnan(found.table["regression_coef"][0])
