import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import pearsonr
from sklearn.linear_model import Lasso
from sklearn.preprocessing import StandardScaler

from hypsae_ray.config import Select
from hypsae_ray.errors import ConfigError
from hypsae_ray.neurons.given import Given
from hypsae_ray.neurons.selection import select


def draw(n: int = 400, m: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dense activations with a dead neuron 3 and a constant neuron 5, and a target made from 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    dense = rng.gamma(2, 1, (n, m)) * (rng.random((n, m)) < 0.3)
    dense[:, 3], dense[:, 5] = 0, 0.7
    return dense, dense[:, 0] - 0.6 * dense[:, 1] + 0.3 * dense[:, 2] + rng.normal(size=n)


def binary(target: np.ndarray) -> np.ndarray:
    return (target > np.median(target)).astype(float)


def signed_score(activation: np.ndarray, target: np.ndarray) -> float:
    return float(activation @ target)


def no_number(activation: np.ndarray, target: np.ndarray) -> str:
    return "much"


NO_FUNCTION = 3


def test_correlation_is_scipys_and_ranks_by_size():
    dense, target = draw()
    found = select(sp.csr_matrix(dense), target, Select(n=3), "regression")
    alive = [j for j in range(12) if j not in (3, 5)]
    expected = [pearsonr(dense[:, j], target)[0] for j in alive]
    np.testing.assert_allclose(found.scores[alive], expected, atol=1e-12)
    assert found.neurons.tolist() == [0, 1, 2]
    assert found.scores[1] < 0


def test_correlation_of_values_that_barely_vary_keeps_its_digits():
    rng = np.random.default_rng(0)
    column = 1000 + 1e-3 * rng.normal(size=500)
    target = column - 1000 + 1e-3 * rng.normal(size=500)
    found = select(sp.csr_matrix(column[:, None]), target, Select(n=1), "regression")
    np.testing.assert_allclose(found.scores, np.corrcoef(column, target)[0, 1], rtol=1e-9)


@pytest.mark.parametrize("method", ["correlation", "separation_score", "lasso"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_dead_and_constant_neurons_are_reported_and_never_selected(method, task):
    dense, target = draw()
    target = binary(target) if task == "classification" else target
    found = select(sp.csr_matrix(dense), target, Select(method=method, n=12), task)
    assert found.state[3] == "dead"
    assert found.state[5] == "constant"
    assert (found.state == "alive").sum() == 10
    assert np.isnan(found.scores[[3, 5]]).all()
    assert not {3, 5} & set(found.neurons.tolist())
    np.testing.assert_allclose(found.prevalence, (dense > 0).mean(axis=0))


def test_explicit_zeros_and_split_entries_change_nothing():
    untidy = sp.csr_matrix(
        (np.array([0.0, 1.0, 1.0, 2.0]), np.array([1, 0, 0, 0]), np.array([0, 1, 3, 4, 4])), shape=(4, 2)
    )
    found = select(untidy, np.array([0.0, 1.0, 1.0, 0.5]), Select(n=2), "regression")
    assert found.state.tolist() == ["alive", "dead"]
    np.testing.assert_allclose(found.prevalence, [0.5, 0])
    assert untidy.nnz == 4


def test_separation_score_by_hand():
    dense = np.array([[5.0, 1], [3, 2], [1, 1], [0, 1], [0, 1]])
    target = np.array([10.0, 6, 100, 1, 3])
    found = select(
        sp.csr_matrix(dense), target, Select(method="separation_score", n=2, n_top=2), "regression"
    )
    assert found.scores[0] == pytest.approx((10 + 6) / 2 - (1 + 3) / 2)
    assert np.isnan(found.scores[1]), "neuron 1 is never silent: there is nothing to compare with"
    assert found.neurons.tolist() == [0]


def test_separation_score_of_pairs_by_hand():
    """Neuron 0 fires on a text of each pair but the last, neuron 1 never on the second one alone."""
    dense = np.array([[5.0, 1], [3, 2], [1, 0], [-4, 0], [-1, 0], [0, 0]])
    target = np.array([1.0, 0, 1, 0, 0, 1])
    options = Select(method="separation_score", n=2, n_top=2)
    found = select(sp.csr_matrix(dense), target, options, "classification")
    assert found.scores[0] == pytest.approx(((1 + 0) / 2 - (0 + 0) / 2) / 2)
    assert np.isnan(found.scores[1])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("method", ["correlation", "separation_score", "lasso", "forward"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_pairs_the_other_way_round_have_the_same_scores(method, task, known):
    (dense, target), (other, _), rng = draw(), draw(seed=1), np.random.default_rng(2)
    pairs = sp.csr_matrix(dense - other)
    target, mirror = (binary(target), 1 - binary(target)) if task == "classification" else (target, -target)
    given = Given(rng.normal(size=(400, 2)), ("a", "b"), rng.uniform(0.5, 2, 400)) if known else None
    options = Select(method=method, n=4, n_top=40)
    found = select(pairs, target, options, task, given)
    swapped = select(sp.csr_matrix(-pairs), mirror, options, task, given)
    assert len(found.neurons) == 4
    assert set(found.neurons) == set(swapped.neurons)
    np.testing.assert_allclose(found.scores, swapped.scores, rtol=1e-5, atol=1e-9)
    assert found.state.tolist() == swapped.state.tolist()


@pytest.mark.parametrize("n", range(1, 11))
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_lasso_gives_exactly_n_with_coefficients(n, task):
    dense, target = draw()
    target = binary(target) if task == "classification" else target
    found = select(sp.csr_matrix(dense), target, Select(method="lasso", n=n), task)
    assert len(found.neurons) == n
    assert (found.scores[found.neurons] != 0).all()
    assert np.nansum(found.scores != 0) - np.isnan(found.scores).sum() == n
    assert (np.diff(np.abs(found.scores[found.neurons])) <= 0).all()


def test_linear_lasso_lies_on_scikit_learns_path():
    dense, target = draw()
    found = select(sp.csr_matrix(dense), target, Select(method="lasso", n=3), "regression")
    alive = found.state == "alive"
    X, y = StandardScaler().fit_transform(dense[:, alive]), target - target.mean()
    coefficients = found.scores[alive]
    penalty = np.abs(X.T @ (y - X @ coefficients)).max() / len(y)
    np.testing.assert_allclose(Lasso(alpha=penalty, tol=1e-12).fit(X, y).coef_, coefficients, atol=1e-6)


def test_logistic_lasso_is_optimal_with_a_free_intercept():
    dense, target = draw(800)
    y = binary(target)
    y[:500] = 0
    found = select(sp.csr_matrix(dense), y, Select(method="lasso", n=4), "classification")
    alive = found.state == "alive"
    X, coefficients = StandardScaler().fit_transform(dense[:, alive]), found.scores[alive]
    intercept = brentq(lambda b: (y - expit(b + X @ coefficients)).sum(), -20, 20)
    gradient = X.T @ (y - expit(intercept + X @ coefficients))
    chosen = coefficients != 0
    penalty = np.abs(gradient[chosen]).max()
    np.testing.assert_allclose(gradient[chosen], penalty * np.sign(coefficients[chosen]), rtol=0.02)
    assert (np.abs(gradient[~chosen]) < penalty).all()


def test_lasso_with_fewer_independent_neurons_than_asked_for_returns_fewer():
    dense, target = draw(400, 12)
    copies = np.column_stack([dense[:, 0], dense[:, 0], dense[:, 0]])
    found = select(sp.csr_matrix(copies), target, Select(method="lasso", n=3), "regression")
    assert 1 <= len(found.neurons) <= 3
    assert (found.scores[found.neurons] != 0).all()


def test_a_constant_target_selects_nothing():
    dense, _ = draw()
    for method in ("correlation", "separation_score", "lasso"):
        found = select(sp.csr_matrix(dense), np.ones(400), Select(method=method, n=3), "regression")
        assert found.neurons.tolist() == []
        assert np.isnan(found.scores).all()


def test_custom_function_ranks_larger_as_better():
    dense, target = draw()
    options = Select(method="custom", n=2, function=f"{__name__}:signed_score")
    found = select(sp.csr_matrix(dense), target, options, "regression")
    scores = dense.T @ target
    scores[[3, 5]] = -np.inf
    assert found.neurons.tolist() == np.argsort(-scores)[:2].tolist()


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("no_colon", "not of the form"),
        ("no.such.module:f", "cannot import no.such.module"),
        (f"{__name__}:absent", "absent does not exist"),
        (f"{__name__}:NO_FUNCTION", "is no function"),
        (f"{__name__}:no_number", "must return a number"),
    ],
)
def test_custom_function_that_does_not_work_is_named(function, complaint):
    dense, target = draw()
    with pytest.raises(ConfigError, match=complaint):
        select(sp.csr_matrix(dense), target, Select(method="custom", n=2, function=function), "regression")


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="3 target values"):
        select(sp.csr_matrix(np.ones((4, 2))), np.zeros(3), Select(n=1), "regression")
