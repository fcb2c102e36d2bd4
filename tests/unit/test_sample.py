import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from hypsae_ray.data.arrays import BLOCK_ROWS, codes_of
from hypsae_ray.stats.redundancy import agreement
from hypsae_ray.stats.regression.design import make_design
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import LabelArray, Sample, add_by_group

N = 70_000  # more than one block


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((N, 3)) < (0.3, 0.05, 0.6)).astype(float)
    groups = rng.integers(0, 900, N)
    target = labels @ (1, -1, 0) + rng.normal(size=900)[groups] + rng.normal(size=N) * (1 + labels[:, 0])
    return labels, target, groups


def test_an_array_comes_in_blocks_that_join_up():
    labels, target, _ = draw()
    sample = Sample(LabelArray(labels), target)
    parts = list(sample.blocks())
    assert [rows for rows, _ in parts] == [slice(0, BLOCK_ROWS), slice(BLOCK_ROWS, N)]
    np.testing.assert_array_equal(np.concatenate([values for _, values in parts]), labels)
    assert (sample.n, sample.n_hypotheses, sample.n_groups) == (N, 3, 0)


def test_no_rows_and_no_hypotheses():
    none = Sample(LabelArray(np.zeros((0, 2))), np.zeros(0), groups=np.zeros(0, dtype=np.int64))
    assert (none.n, none.n_hypotheses, none.n_groups, list(none.blocks())) == (0, 2, 0, [])
    assert Sample(LabelArray(np.zeros((4, 0))), np.zeros(4)).n_hypotheses == 0


@pytest.mark.parametrize("name", ["groups", "weights", "covariates", "effects"])
def test_parts_of_another_length_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} has 3 rows, the labels have 4"):
        Sample(LabelArray(np.zeros((4, 1))), np.zeros(4), **{name: np.zeros((3, 1))})


@pytest.mark.parametrize("name", ["constant", "#1"])
def test_covariates_cannot_have_the_names_of_other_columns(name):
    with pytest.raises(ValueError, match=f"a covariate cannot be called '{name}'"):
        Sample(LabelArray(np.zeros((4, 1))), np.zeros(4), covariates=np.ones((4, 1)), covariate_names=(name,))


def test_weights_are_ones_where_there_are_none():
    sample = Sample(LabelArray(np.zeros((4, 1))), np.zeros(4))
    assert sample.weight(slice(1, 3)).tolist() == [1, 1]
    weighted = Sample(LabelArray(np.zeros((4, 1))), np.zeros(4), weights=np.arange(4.0))
    assert weighted.weight(slice(1, 3)).tolist() == [1, 2]


def test_codes_number_values_as_they_come():
    assert codes_of(pd.Series(["b", "a", "b", "c"])).tolist() == [0, 1, 0, 2]
    assert codes_of(pd.Series([30, 10, 30])).tolist() == [0, 1, 0]
    assert codes_of(pd.Series([], dtype=object)).tolist() == []


def test_each_missing_value_is_a_group_of_its_own():
    codes = codes_of(pd.Series(["b", None, "a", np.nan, "b", None]))
    assert codes.tolist() == [0, 2, 1, 3, 0, 4]
    assert codes_of(pd.Series([None, None])).tolist() == [0, 1]


def test_sums_by_group_add_up_over_blocks_as_in_pandas():
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 12, 500) * 2, rng.normal(size=(500, 3))  # odd groups have no row
    sums = np.zeros((25, 3))
    for rows in np.split(np.arange(500), [7, 7, 300]):
        add_by_group(sums, groups[rows], values[rows])
    expected = pd.DataFrame(values).groupby(groups).sum().reindex(range(25), fill_value=0)
    np.testing.assert_allclose(sums, expected, atol=1e-12)


@pytest.mark.parametrize("cov_type", ["HC3", "cluster", "nonrobust"])
def test_a_joint_model_read_in_blocks_is_that_of_statsmodels(cov_type):
    labels, target, groups = draw()
    labels[[5, BLOCK_ROWS + 5], 1] = np.nan
    weights = np.random.default_rng(1).uniform(0.5, 2, N)
    sample = Sample(LabelArray(labels), target, groups=groups, weights=weights)
    design = make_design(sample, np.arange(3), centred=True)
    assert design.held is None
    (moments,) = sum_moments(design)
    found = fit_joint(design, moments, cov_type)
    there = ~np.isnan(labels).any(axis=1)
    model = sm.WLS(target[there], sm.add_constant(labels[there]), weights[there])
    kinds = {
        "HC3": {"cov_type": "HC3", "use_t": True},
        "cluster": {"cov_type": "cluster", "cov_kwds": {"groups": groups[there]}, "use_t": True},
        "nonrobust": {},
    }
    expected = model.fit(**kinds[cov_type])
    # The constant is that of the centred target.
    np.testing.assert_allclose(found.estimates.value[1:], expected.params[1:], rtol=1e-8)
    np.testing.assert_allclose(found.estimates.se, expected.bse, rtol=1e-8)
    np.testing.assert_allclose(found.estimates.pval[1:], expected.pvalues[1:], rtol=1e-6, atol=1e-300)
    np.testing.assert_allclose(found.estimates.interval(0.9)[1:], expected.conf_int(0.1)[1:], rtol=1e-8)
    assert found.metrics["r2"] == pytest.approx(expected.rsquared, rel=1e-9)


def test_agreement_read_in_blocks_is_that_of_pandas():
    labels, target, _ = draw()
    labels[::7, 0], labels[::11, 2] = np.nan, np.nan
    labels[:, 1] = np.where(np.arange(N) % 3 == 0, labels[:, 1], labels[:, 2])
    found = agreement(Sample(LabelArray(labels), target), (0, 1))
    np.testing.assert_allclose(found.phi, pd.DataFrame(labels).corr(), atol=1e-12)
