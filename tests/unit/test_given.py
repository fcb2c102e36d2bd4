"""Selection given what is known, against least squares on dense columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from sklearn.linear_model import Lasso

from hypsae_ray.config import Select
from hypsae_ray.config.loading import parse
from hypsae_ray.neurons.given import Given
from hypsae_ray.neurons.selection import Selection, select
from hypsae_ray.stages import select as stage
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder, Manifest, Outcome

N = 600


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray, Given]:
    """Activations of ten neurons, a target, and two covariates, weights and groups that matter for both."""
    rng = np.random.default_rng(seed)
    covariates = np.column_stack([rng.normal(size=N), rng.random(N) < 0.4]).astype(float)
    effects = rng.integers(0, 40, N)
    often = 1 / (1 + np.exp(1 - covariates @ rng.normal(size=(2, 10))))
    dense = rng.gamma(2, 1, (N, 10)) * (rng.random((N, 10)) < often)
    level = rng.normal(size=40)[effects]
    target = dense[:, :3] @ np.array([0.5, -0.3, 0.2]) + covariates @ np.array([2, 1]) + level
    target += rng.normal(size=N)
    return dense, target, Given(covariates, ("age", "new"), rng.uniform(0.2, 3, N), effects)


def columns_of(given: Given) -> np.ndarray:
    if given.effects is None:
        return sm.add_constant(given.covariates, has_constant="add")
    return np.hstack([pd.get_dummies(given.effects).to_numpy(float), given.covariates])


def left_of(values: np.ndarray, given: Given) -> np.ndarray:
    """Residuals of one column or several, by least squares on all columns of what is given."""
    roots = np.ones(N) if given.weights is None else np.sqrt(given.weights)
    held = columns_of(given)
    return values - held @ np.linalg.lstsq(roots[:, None] * held, (roots * values.T).T)[0]


def correlation(one: np.ndarray, other: np.ndarray, weights: np.ndarray | None) -> float:
    """Of residuals: their weighted means are 0."""
    each = np.ones(N) if weights is None else weights
    return float((each * one) @ other / np.sqrt(((each * one) @ one) * ((each * other) @ other)))


def parts(given: Given) -> list[Given]:
    nothing = np.zeros((N, 0))
    return [
        Given(given.covariates, given.names),
        Given(nothing, weights=given.weights),
        Given(nothing, effects=given.effects),
        given,
    ]


def chosen(dense: np.ndarray, target: np.ndarray, given: Given | None, **options) -> Selection:
    task = options.pop("task", "regression")
    return select(sp.csr_matrix(dense), target, Select(**{"method": "correlation"} | options), task, given)


@pytest.mark.parametrize("part", range(4))
def test_correlation_is_that_of_residuals(part):
    dense, target, everything = draw()
    given = parts(everything)[part]
    y = left_of(target, given)
    expected = [correlation(column, y, given.weights) for column in left_of(dense, given).T]
    np.testing.assert_allclose(chosen(dense, target, given, n=3).scores, expected, atol=1e-10)


def test_with_nothing_known_scores_are_those_without():
    dense, target, _ = draw()
    nothing = Given(np.zeros((N, 0)))
    for method in ("correlation", "separation_score", "lasso"):
        for task, y in {"regression": target, "classification": (target > 1).astype(float)}.items():
            plain, same = (
                chosen(dense, y, given, n=4, method=method, task=task) for given in (None, nothing)
            )
            np.testing.assert_allclose(same.scores, plain.scores, atol=1e-6)
            assert same.neurons.tolist() == plain.neurons.tolist()


@pytest.mark.parametrize("part", range(4))
def test_linear_lasso_lies_on_the_path_of_residuals(part):
    dense, target, everything = draw()
    given = parts(everything)[part]
    roots = np.sqrt(np.ones(N) if given.weights is None else given.weights / given.weights.mean())
    X = roots[:, None] * left_of(dense, given)
    X /= np.sqrt((X**2).mean(axis=0))
    y, found = roots * left_of(target, given), chosen(dense, target, given, n=3, method="lasso").scores
    penalty = np.abs(X.T @ (y - X @ found)).max() / N
    again = Lasso(alpha=penalty, fit_intercept=False, tol=1e-12).fit(X, y).coef_
    np.testing.assert_allclose(found, again, atol=1e-6)


def test_logistic_lasso_leaves_what_is_given_free_of_penalty():
    dense, target, everything = draw()
    given = Given(everything.covariates, everything.names, everything.weights)
    y = (target > np.median(target)).astype(float)
    found = chosen(dense, y, given, n=3, method="lasso", task="classification")
    # With the neurons held at their coefficients, what is free is at its optimum by statsmodels; there the
    # gradient is the penalty for those chosen, and less for the others.
    left = left_of(dense, given)
    each = given.weights / given.weights.mean()
    scaled = dense / np.sqrt((each[:, None] * left**2).mean(axis=0))
    offset = scaled @ found.scores
    fit = sm.GLM(y, columns_of(given), sm.families.Binomial(), offset=offset, freq_weights=each).fit(
        tol=1e-12
    )
    gradient = scaled.T @ (each * (y - fit.fittedvalues))
    inside = found.scores != 0
    assert inside.sum() == 3
    penalty = np.abs(gradient[inside]).mean()
    np.testing.assert_allclose(gradient[inside], penalty * np.sign(found.scores[inside]), rtol=1e-4)
    assert (np.abs(gradient[~inside]) < penalty).all()


def test_separation_score_compares_residuals():
    dense, target, everything = draw()
    given = Given(everything.covariates, everything.names)
    y = left_of(target, given)
    fires = dense[:, 4] > 0
    expected = y[fires].mean() - y[~fires].mean()
    found = chosen(dense, target, given, n=3, method="separation_score", n_top=N)
    assert found.scores[4] == pytest.approx(expected)


def test_an_effect_that_turns_with_a_covariate_is_found_and_named():
    rng = np.random.default_rng(0)
    age, other = rng.normal(size=(2, N))
    dense = (rng.random((N, 8)) < 0.3) * rng.gamma(4, 0.25, (N, 8))
    target = dense[:, 2] * age + 0.5 * dense[:, 5] + age + rng.normal(size=N)
    given = Given(np.column_stack([other, age]), ("other", "age"))
    assert 2 not in chosen(dense, target, given, n=1).neurons
    found = chosen(dense, target, given, n=2, interactions=True)
    assert set(found.neurons.tolist()) == {2, 5}
    assert found.turns_with[2] == "age"
    assert found.turns_with[5] == ""
    centred = (age - age.mean()) * dense[:, 2]
    design = Given(np.column_stack([given.covariates, dense[:, 2]]))
    expected = correlation(left_of(centred, design), left_of(target, design), None)
    assert found.scores[2] == pytest.approx(expected)


def test_with_covariates_of_one_level_nothing_turns():
    dense, target, _ = draw()
    nothing = Given(np.zeros((N, 0)))
    found = chosen(dense, target, nothing, n=3, interactions=True)
    assert found.neurons.tolist() == chosen(dense, target, None, n=3).neurons.tolist()
    assert set(found.turns_with) == {""}


def test_a_neuron_that_covariates_explain_has_no_score():
    dense, target, everything = draw()
    copy = np.column_stack([dense, everything.covariates[:, 1]])
    given = Given(everything.covariates, everything.names)
    for method in ("correlation", "lasso"):
        found = chosen(copy, target, given, n=20, method=method)
        assert np.isnan(found.scores[10])
        assert 10 not in found.neurons
        assert found.state[10] == "alive"


def test_a_target_that_covariates_explain_selects_nothing():
    dense, _, everything = draw()
    given = Given(everything.covariates, everything.names)
    found = chosen(dense, 3 + everything.covariates @ np.array([1.0, 2]), given, n=3)
    assert found.neurons.tolist() == []


def test_where_the_target_begins_does_not_matter():
    dense, target, everything = draw()
    near, far = (chosen(dense, target + start, everything, n=3) for start in (0, 1e7))
    np.testing.assert_allclose(far.scores, near.scores, atol=1e-6)


def test_collinear_covariates_count_once():
    dense, target, everything = draw()
    one = everything.covariates
    twice = Given(np.column_stack([one, one[:, 0] + 5, np.ones(N)]))
    once = chosen(dense, target, Given(one), n=3).scores
    np.testing.assert_allclose(chosen(dense, target, twice, n=3).scores, once, atol=1e-10)


def test_rows_taken_out_keep_what_is_known_of_them():
    dense, target, everything = draw()
    rows = np.arange(0, N, 2)
    fewer = everything.rows(rows)
    alone = Given(everything.covariates[rows], (), everything.weights[rows], everything.effects[rows])
    found, expected = (chosen(dense[rows], target[rows], given, n=3).scores for given in (fewer, alone))
    np.testing.assert_allclose(found, expected)


def stored(tmp_path: Path) -> dict[str, Folder]:
    """The folders that the stage reads, rows in two files and in no order; neuron 1 goes by the covariate."""
    rng = np.random.default_rng(0)
    fires = rng.random((N, 3)) < 0.3
    age = fires[:, 1] + rng.normal(size=N) / 4
    rows = pd.DataFrame(
        {"row_id": np.arange(N), "target": fires[:, 0] + 5 * age, "weight": 1.0, "group": "a"}
    )
    rows["covariate_age"] = age
    folders = {name: Folder.at(tmp_path / name) for name in ("data", "train_sae")}
    for number, part in enumerate(np.array_split(rng.permutation(N), 2)):
        table = pa.Table.from_pandas(rows.iloc[part], preserve_index=False)
        folders["data"].write_table(f"train-{number:05d}.parquet", table)
        neurons = [np.flatnonzero(row) for row in fires[part]]
        values = [np.ones(len(row)) for row in neurons]
        fired = {"row_id": part, "neurons": neurons, "values": values}
        table = pa.Table.from_pandas(pd.DataFrame(fired), schema=schema.ACTIVATIONS, preserve_index=False)
        folders["train_sae"].write_table(f"activations-train-{number:05d}.parquet", table)
    facts = {"data": {"task": "regression"}, "train_sae": {"n_neurons": 3}}
    for name, folder in folders.items():
        Manifest(name, "", 0.0, Outcome(N, facts=facts[name])).save(folder)
    return folders


@pytest.mark.parametrize(("given", "best"), [("auto", 0), ("none", 1)])
def test_the_stage_reads_what_is_known_by_row(tmp_path: Path, given: str, best: int):
    data = {"train": "a", "holdout": "b", "target": "y", "covariates": ["age"]}
    config = parse({"data": data, "select": {"n": 1, "given": given}}, "c")
    engines: Any = None
    out = Folder.at(tmp_path / "out")
    work = Workspace(config, stored(tmp_path), out, out, engines, lambda items, *_: iter(items), print)
    stage.run(work)
    table = out.read_table("selection.parquet").to_pandas()
    assert table.loc[table["rank"] == 0, "neuron_idx"].tolist() == [best]
    assert table["turns_with"].isna().all()
