import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from hypsae_ray.data.arrays import BLOCK_ROWS
from hypsae_ray.stats.regression.collinear import find_independent
from hypsae_ray.stats.regression.design import Design, make_design
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import LabelArray, Sample


def sort_out(columns: np.ndarray, weights: np.ndarray | None = None, *, constant: bool = True):
    names = ["constant"] if constant else []
    X = np.column_stack([np.ones(len(columns)), columns]) if constant else columns
    w = np.ones(len(X)) if weights is None else weights
    names += [f"#{j}" for j in range(columns.shape[1])]
    return find_independent((X * w[:, None]).T @ X, names, float(w.sum()))


def coins(n: int, h: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, h)) < 0.4).astype(float)


def dummies(codes: np.ndarray, *, all_levels: bool = True) -> np.ndarray:
    return pd.get_dummies(codes, dtype=float, drop_first=not all_levels).to_numpy()


def design_of(sample: Sample) -> Design:
    return make_design(sample, np.arange(sample.n_hypotheses), centred=True)


def fit(sample: Sample, cov_type: str):
    design = design_of(sample)
    (moments,) = sum_moments(design)
    return fit_joint(design, moments, cov_type)


def test_each_reason_is_said():
    a, b, c = coins(60, 3).T
    one_of_three = np.arange(60) % 3
    first, second, third = (dummies(one_of_three)).T
    table = [a, np.zeros(60), np.ones(60), b, a, 1 - b, c, a + b - c, first, second, third]
    found = sort_out(np.column_stack(table))
    assert found.kept == (0, 1, 4, 7, 9, 10)
    assert found.dropped == {
        2: "it is 0 on every row",
        3: "it is 1 on every row",
        5: "it is the same on these rows as #0",
        6: "it is the opposite of #3 on these rows",
        8: "it is a combination of #0, #3, #6",
        11: "it is the reference level: each row has exactly one of it and #8, #9",
    }
    assert found.partners == {2: (), 3: (), 5: (1,), 6: (4,), 8: (1, 4, 7), 11: (9, 10)}


AGE = np.random.default_rng(5).uniform(20, 60, 60)


@pytest.mark.parametrize(
    ("covariates", "reasons"),
    [
        ({"year": np.full(60, 2020.0)}, {"year": "it is constant"}),
        ({"share": np.full(60, 0.1)}, {"share": "it is constant"}),  # 0.1 is rounded, its deviation is not 0
        ({"none": np.zeros(60)}, {"none": "it is constant"}),
        (
            {"late": (np.arange(60) < 6).astype(float)},  # the label is missing there
            {"late": "it is constant on the rows that have every label"},
        ),
        ({"age": AGE, "years": AGE.copy()}, {"years": "it is equal to age, or a linear function of it"}),
        ({"age": AGE, "born": 2020 - AGE}, {"born": "it is equal to age, or a linear function of it"}),
        ({"a": AGE, "b": AGE**2, "c": AGE - 0.1 * AGE**2}, {"c": "it is a combination of a, b"}),
        ({"asked": coins(60, 1, seed=8)[:, 0]}, {"#0": "it is equal to asked, or a linear function of it"}),
    ],
    ids=lambda value: "-".join(value),
)
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_covariate_that_cannot_be_held_fixed_is_called_what_it_is(covariates, reasons, scale):
    labels = coins(60, 1, seed=8)
    labels[:6] = np.nan
    values = scale * np.column_stack(list(covariates.values()))
    target = np.random.default_rng(0).normal(size=60)
    sample = Sample(LabelArray(labels), target, covariates=values, covariate_names=tuple(covariates))
    design = design_of(sample)
    found = fit(sample, "HC3")
    assert {design.names[j]: why for j, why in found.reasons.items()} == reasons


def test_a_covariate_that_fixed_effects_explain_is_constant_within_levels():
    labels, target, effects, _ = leveled()
    of_level, never = effects[:, 0] / 7, np.full(len(target), 3.3)
    sample = Sample(
        LabelArray(labels),
        target,
        covariates=np.column_stack([of_level, never]),
        covariate_names=("of_level", "never"),
        effects=effects[:, :1],
    )
    why = "it is constant within every level of the fixed effects"
    assert {k: v for k, v in fit(sample, "nonrobust").reasons.items() if k < 2} == {0: why, 1: why}


def test_reasons_do_not_hang_on_weights():
    a, b = coins(60, 2).T
    table = np.column_stack([a, b, 1 - a, b, np.ones(60)])
    weighted = sort_out(table, np.random.default_rng(0).uniform(1e-3, 1e3, 60))
    assert weighted == sort_out(table)


def test_the_opposite_of_a_pair_label_is_its_negative():
    label = np.random.default_rng(0).integers(-1, 2, 40).astype(float)
    found = sort_out(np.column_stack([label, -label, np.full(40, -1.0)]))
    assert found.dropped == {2: "it is the opposite of #0 on these rows", 3: "it is -1 on every row"}


def test_without_a_constant_a_column_of_zeros_does_not_vary_within_the_levels():
    a, b = coins(60, 2).T - 0.4
    found = sort_out(np.column_stack([a, np.zeros(60), b, a]), constant=False)
    assert found.kept == (0, 2)
    assert found.dropped == {
        1: "it is constant within every level of the fixed effects",
        3: "it is the same on these rows as #0",
    }


@pytest.mark.parametrize("change", [np.copy, lambda x: 1 - x])
def test_one_differing_row_in_a_million_keeps_a_column(change):
    column = (np.arange(1_000_000) % 3 == 0).astype(float)
    other = change(column)
    other[17] = 1 - other[17]
    rare = np.zeros(1_000_000)
    rare[3] = 1
    found = sort_out(np.column_stack([column, other, rare]))
    assert (found.kept, found.dropped) == ((0, 1, 2, 3), {})


def test_fifty_columns_that_hang_together_are_all_found():
    table = coins(3000, 50)
    again = np.column_stack([table, table[:, ::-1], 1 - table])
    found = sort_out(again)
    assert found.kept == tuple(range(51))
    assert [found.dropped[51 + j] for j in (0, 49)] == [
        "it is the same on these rows as #49",
        "it is the same on these rows as #0",
    ]
    assert {found.dropped[101 + j] for j in range(50)} == {
        f"it is the opposite of #{j} on these rows" for j in range(50)
    }


def test_rows_with_a_missing_label_of_a_live_hypothesis_are_left_out():
    labels = coins(50, 3)
    labels[3, 0], labels[4, 1], labels[5, 2] = np.nan, np.nan, np.nan
    target = np.arange(50.0)
    sample = Sample(LabelArray(labels), target, groups=np.arange(50) // 2)
    design = make_design(sample, np.array([0, 2]), centred=True)
    assert design.names == ("constant", "#0", "#2")
    (rows,) = design.rows()
    left = np.setdiff1d(np.arange(50), [3, 5])
    np.testing.assert_array_equal(rows.index, left)
    np.testing.assert_array_equal(rows.X, np.column_stack([np.ones(48), labels[left][:, [0, 2]]]))
    np.testing.assert_allclose(rows.y, target[left] - target[left].mean())
    assert (design.n, design.n_groups) == (48, 25)
    np.testing.assert_array_equal(sample.groups[rows.index], left // 2)


def test_a_design_keeps_columns():
    labels = coins(50, 3)
    sample = Sample(
        LabelArray(labels), np.arange(50.0), covariates=np.ones((50, 1)), covariate_names=("age",)
    )
    design = make_design(sample, np.arange(3), centred=False)
    other = design.keep([0, 3])
    assert other.kept_names == ["constant", "#1"]
    (rows,) = other.rows()
    np.testing.assert_array_equal(rows.X, np.column_stack([np.ones(50), labels[:, 1]]))
    np.testing.assert_array_equal(rows.y, np.arange(50.0))


def test_covariates_are_in_their_own_units():
    rng = np.random.default_rng(0)
    labels, ages = coins(300, 2), rng.normal(1e4, 500, (300, 2))
    target = labels[:, 0] + ages @ (0.01, 0) + rng.normal(size=300)
    found = fit(Sample(LabelArray(labels), target, covariates=ages, covariate_names=("a", "b")), "HC3")
    model = sm.OLS(target, sm.add_constant(np.column_stack([ages, labels]))).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(found.estimates.value[1:], model.params[1:], rtol=1e-8)
    np.testing.assert_allclose(found.estimates.se[1:], model.bse[1:], rtol=1e-8)


def leveled(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels that go with levels, target, two sets of levels, and weights."""
    rng = np.random.default_rng(seed)
    effects = np.column_stack([rng.integers(0, 30, n), rng.integers(0, 12, n)])
    level = rng.normal(size=(30, 2))
    labels = (rng.normal(level[effects[:, 0] % 30]) > 0.5).astype(float)
    target = labels @ (1, -0.5) + 3 * level[effects[:, 0], 0] + effects[:, 1] + rng.normal(size=n)
    return labels, target, effects, rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cov_type", ["HC3", "cluster", "nonrobust"])
def test_one_set_of_fixed_effects_is_statsmodels_with_dummies(cov_type, weighted):
    labels, target, effects, weights = leveled()
    groups = np.arange(400) % 37  # levels lie across groups
    w = weights if weighted else None
    sample = Sample(LabelArray(labels), target, groups=groups, weights=w, effects=effects[:, :1])
    found = fit(sample, cov_type)
    model = sm.WLS(target, np.column_stack([labels, dummies(effects[:, 0])]), 1.0 if w is None else w)
    kinds = {
        "HC3": {"cov_type": "HC3", "use_t": True},
        "cluster": {"cov_type": "cluster", "cov_kwds": {"groups": groups}, "use_t": True},
        "nonrobust": {},
    }
    expected = model.fit(**kinds[cov_type])
    np.testing.assert_allclose(found.estimates.value, expected.params[:2], rtol=1e-9)
    np.testing.assert_allclose(found.estimates.se, expected.bse[:2], rtol=1e-9)
    np.testing.assert_allclose(found.estimates.pval, expected.pvalues[:2], rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cov_type", ["HC3", "cluster", "nonrobust"])
def test_two_sets_of_fixed_effects_are_statsmodels_with_dummies(cov_type, weighted):
    labels, target, effects, weights = leveled()
    groups = np.arange(400) % 37
    w = weights if weighted else None
    sample = Sample(LabelArray(labels), target, groups=groups, weights=w, effects=effects)
    found = fit(sample, cov_type)
    X = np.column_stack([labels, dummies(effects[:, 0]), dummies(effects[:, 1], all_levels=False)])
    kinds = {
        "HC3": {"cov_type": "HC1", "use_t": True},  # and a note says so
        "cluster": {"cov_type": "cluster", "cov_kwds": {"groups": groups}, "use_t": True},
        "nonrobust": {},
    }
    expected = sm.WLS(target, X, 1.0 if w is None else w).fit(**kinds[cov_type])
    np.testing.assert_allclose(found.estimates.value, expected.params[:2], rtol=1e-8)
    np.testing.assert_allclose(found.estimates.se, expected.bse[:2], rtol=1e-8)
    assert any("HC1" in note for note in found.notes) is (cov_type == "HC3")


def test_levels_within_groups_cost_no_degree_of_freedom():
    labels, target, effects, _ = leveled()
    sample = Sample(LabelArray(labels), target, groups=effects[:, 0], effects=effects[:, :1])
    found = fit(sample, "cluster")
    both = pd.DataFrame(np.column_stack([labels, target]))
    within = (both - both.groupby(effects[:, 0]).transform("mean")).to_numpy()
    kinds = {"cov_type": "cluster", "cov_kwds": {"groups": effects[:, 0]}, "use_t": True}
    expected = sm.OLS(within[:, 2], within[:, :2]).fit(**kinds)
    np.testing.assert_allclose(found.estimates.value, expected.params, rtol=1e-9)
    np.testing.assert_allclose(found.estimates.se, expected.bse, rtol=1e-9)


def test_fixed_effects_read_in_blocks_are_demeaning():
    n = 70_000
    rng = np.random.default_rng(0)
    levels, labels = rng.integers(0, 5000, n), coins(n, 2)
    assert n > BLOCK_ROWS
    target = labels[:, 0] + levels / 1000 + rng.normal(size=n)
    found = fit(Sample(LabelArray(labels), target, effects=levels[:, None]), "nonrobust")
    both = pd.DataFrame(np.column_stack([labels, target]))
    within = (both - both.groupby(levels).transform("mean")).to_numpy()
    expected = sm.OLS(within[:, 2], within[:, :2]).fit()
    lost = np.sqrt((n - 2) / (n - 2 - len(np.unique(levels))))
    np.testing.assert_allclose(found.estimates.value, expected.params, rtol=1e-9)
    np.testing.assert_allclose(found.estimates.se, expected.bse * lost, rtol=1e-9)


def test_levels_of_one_row_are_left_out_until_none_is_left():
    # Row 6 is alone in its first level. Without it row 5 is alone in its second one, and so on to row 4.
    first = np.array([0, 0, 0, 0, 1, 1, 2])
    second = np.array([0, 0, 1, 1, 0, 2, 2])
    sample = Sample(LabelArray(coins(7, 1)), np.arange(7.0), effects=np.column_stack([first, second]))
    design = design_of(sample)
    np.testing.assert_array_equal(np.flatnonzero(design.complete), [0, 1, 2, 3])
    assert design.levels is not None
    assert design.levels.df == 2  # one first level, two second ones, less the mean that they share


def test_a_missing_label_may_leave_a_row_alone_in_its_level():
    labels = coins(6, 1)
    labels[1] = np.nan
    sample = Sample(LabelArray(labels), np.arange(6.0), effects=np.array([[0], [0], [1], [1], [1], [1]]))
    np.testing.assert_array_equal(np.flatnonzero(design_of(sample).complete), [2, 3, 4, 5])


def test_levels_count_as_many_coefficients_as_their_dummies_have_rank():
    rng = np.random.default_rng(0)
    # Two halves that share no level.
    half = np.repeat([0, 1], 60)
    effects = np.column_stack([rng.integers(0, 6, 120) + 6 * half, rng.integers(0, 5, 120) + 5 * half])
    design = design_of(Sample(LabelArray(coins(120, 1)), rng.normal(size=120), effects=effects))
    assert design.levels is not None and design.complete.all()
    both = np.column_stack([dummies(effects[:, 0]), dummies(effects[:, 1])])
    assert design.levels.df == np.linalg.matrix_rank(both) == 12 + 10 - 2


def test_what_fixed_effects_explain_is_dropped_and_said():
    labels, target, effects, _ = leveled()
    labels = np.column_stack([labels, effects[:, 0] % 2, labels[:, 0] + (effects[:, 0] > 9)])
    for sets in (effects[:, :1], effects):
        found = fit(Sample(LabelArray(labels), target, effects=sets), "nonrobust")
        assert found.columns.tolist() == [0, 1]
        assert found.reasons == {
            2: "it is constant within every level of the fixed effects",
            3: "it is the same on these rows as #0",
        }


def test_levels_that_few_rows_link_are_absorbed_all_the_same():
    # A chain: level i of the first set meets levels i and i + 1 of the second. Taking off means by turns
    # would need some 10,000 of them.
    step = np.repeat(np.arange(100), 2)
    first, second = np.tile(step, 2), np.tile(step + np.tile([0, 1], 100), 2)
    rng = np.random.default_rng(0)
    labels = np.column_stack([rng.random(400) < 0.4, (rng.random(101) < 0.5)[second]]).astype(float)
    target = labels[:, 0] + second / 10 + rng.normal(size=400)
    sample = Sample(LabelArray(labels), target, effects=np.column_stack([first, second]))
    found = fit(sample, "nonrobust")
    assert found.reasons == {1: "it is constant within every level of the fixed effects"}
    X = np.column_stack([labels[:, 0], dummies(first), dummies(second, all_levels=False)])
    expected = sm.OLS(target, X).fit()
    # The first and the last level of the chain hold rows enough to stay.
    assert found.estimates.value[0] == pytest.approx(expected.params[0], rel=1e-7)
    assert found.estimates.se[0] == pytest.approx(expected.bse[0], rel=1e-7)


@pytest.mark.parametrize("sets", [1, 2])
def test_every_row_a_level_of_its_own_leaves_nothing(sets):
    sample = Sample(
        LabelArray(coins(9, 2)), np.arange(9.0), effects=np.repeat(np.arange(9)[:, None], sets, axis=1)
    )
    found = fit(sample, "HC3")
    assert len(found.columns) == 0
    assert found.notes == ["no joint regression: 0 complete rows are too few for 0 coefficients"]
