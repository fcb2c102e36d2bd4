import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from hypsae_ray.neurons.logistic_path import logistic_path_to


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations of 30 neurons, a few of which fire often and most rarely, and log-odds made from six."""
    rng = np.random.default_rng(seed)
    dense = rng.gamma(2, 1, (500, 30)) * (rng.random((500, 30)) < rng.uniform(0.03, 0.4, 30))
    return dense, (dense - dense.mean(axis=0))[:, :6] @ np.array([1, -1, 0.8, 0.6, -0.5, 0.4])


def standardised(dense: np.ndarray) -> sp.csc_matrix:
    return sp.csc_matrix(dense / dense.std(axis=0))


def plain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    dense, odds = draw(seed)
    return dense, np.random.default_rng(seed).random(500) < expit(odds)


def correlated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    dense, target = plain(seed)
    shared = dense[:, [0, 1, 2]][:, np.arange(30) % 3]
    return 0.3 * dense + shared, target


def rare_columns(seed: int) -> tuple[np.ndarray, np.ndarray]:
    dense, target = plain(seed)
    fires = np.random.default_rng(seed).random(dense.shape) < 0.05
    fires[:2] = True
    return dense * fires + np.eye(500, 30), target


def rare_target(seed: int) -> tuple[np.ndarray, np.ndarray]:
    dense, odds = draw(seed)
    return dense, np.random.default_rng(seed).random(500) < expit(odds - 4)


def separable(seed: int) -> tuple[np.ndarray, np.ndarray]:
    dense, odds = draw(seed)
    return dense, odds > np.median(odds)


def penalty_at(columns: np.ndarray, target: np.ndarray, coefficients: np.ndarray) -> float:
    """The penalty at which these coefficients would be optimal: the largest gradient."""
    linear = columns @ coefficients
    constant = brentq(lambda b: (target - expit(b + linear)).sum(), -500, 500)
    return float(np.abs(columns.T @ (target - expit(constant + linear))).max())


def liblinear(columns: sp.csc_matrix, target: np.ndarray, penalty: float) -> np.ndarray:
    """Coefficients by scikit-learn; its constant is penalised, at this scaling so little that it is free."""
    model = LogisticRegression(
        l1_ratio=1, solver="liblinear", C=1 / penalty, tol=1e-9, max_iter=5000, intercept_scaling=1e4
    )
    return model.fit(sp.csr_matrix(columns), target).coef_.ravel()


@pytest.mark.parametrize("case", [plain, correlated, rare_columns, rare_target, separable])
@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 4), (2, 9), (3, 20)])
def test_coefficients_are_liblinears_and_as_many_as_asked_for(case, seed, n):
    dense, target = case(seed)
    columns, y = standardised(dense), target.astype(float)
    found = logistic_path_to(columns, y, n)
    assert np.count_nonzero(found) == n
    expected = liblinear(columns, y, penalty_at(columns.toarray(), y, found))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("seed", range(3))
def test_no_stronger_penalty_gives_as_many(seed):
    dense, target = plain(seed)
    columns, y = standardised(dense), target.astype(float)
    penalty = penalty_at(columns.toarray(), y, logistic_path_to(columns, y, 8))
    for factor in (1.2, 1.5, 2):
        assert np.count_nonzero(liblinear(columns, y, factor * penalty)) < 8


def test_of_copies_one_has_a_coefficient_and_the_others_none():
    dense, target = plain(0)
    once, y = standardised(dense[:, :6]), target.astype(float)
    twice = sp.hstack([once, once], format="csc")
    alone, found = logistic_path_to(once, y, 4), logistic_path_to(twice, y, 4)
    halves = found.reshape(2, 6)
    assert (np.count_nonzero(halves, axis=0) <= 1).all()
    np.testing.assert_array_equal(halves.sum(axis=0) != 0, alone != 0)


def test_fewer_columns_than_asked_for_all_have_a_coefficient():
    dense, target = plain(0)
    found = logistic_path_to(standardised(dense[:, :4]), target.astype(float), 10)
    assert np.count_nonzero(found) == 4


def test_where_no_penalty_gives_so_many_it_is_the_densest_model():
    dense, target = plain(0)
    copies = standardised(dense[:, [0, 0, 0, 1]])
    found = logistic_path_to(copies, target.astype(float), 4)
    assert np.count_nonzero(found[:3]) == 1
    assert found[3] != 0


def test_the_unit_of_activations_does_not_matter():
    dense, target = plain(0)
    y = target.astype(float)
    small, large = (logistic_path_to(standardised(dense * unit), y, 5) for unit in (1e-9, 1e9))
    np.testing.assert_allclose(small, large, rtol=1e-6)
