import numpy as np
import pytest
import scipy.sparse as sp

from hypsae_ray.config import Select
from hypsae_ray.neurons.given import Given
from hypsae_ray.neurons.selection import select

N = 300


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, Given]:
    rng = np.random.default_rng(seed)
    age = rng.normal(size=(N, 1))
    dense = rng.gamma(2, 1, (N, 12)) * (rng.random((N, 12)) < 0.3 + 0.2 * (age > 0))
    dense[:, 1:4] += 0.8 * dense[:, :1]
    target = dense[:, :6] @ np.array([1, -0.5, 0.3, 0.3, 0.2, 0.2]) + 2 * age[:, 0] + rng.normal(size=N)
    return dense, target, Given(age, ("age",), rng.uniform(0.5, 2, N))


def left_over(columns: np.ndarray, target: np.ndarray, roots: np.ndarray) -> float:
    """What weighted least squares on these columns leave of the target."""
    X, y = roots[:, None] * columns, roots * target
    return float(((y - X @ np.linalg.lstsq(X, y)[0]) ** 2).sum())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_given", [False, True])
def test_each_neuron_is_the_one_that_leaves_least(seed: int, is_given: bool):
    dense, target, known = draw(seed)
    given = known if is_given else None
    held = np.column_stack([np.ones(N), *([known.covariates] if is_given else [])])
    roots = np.sqrt(known.weights) if is_given and known.weights is not None else np.ones(N)
    expected: list[int] = []
    for _ in range(6):
        left = {
            j: left_over(np.column_stack([held, dense[:, [*expected, j]]]), target, roots)
            for j in range(12)
            if j not in expected
        }
        expected.append(min(left, key=lambda j: left[j]))
    found = select(sp.csr_matrix(dense), target, Select(method="forward", n=6), "regression", given)
    assert found.neurons.tolist() == expected
    plain = select(sp.csr_matrix(dense), target, Select(n=6), "regression", given)
    np.testing.assert_array_equal(found.scores, plain.scores)


def test_neurons_that_say_the_same_take_one_place():
    rng = np.random.default_rng(0)
    first, second, third = (rng.random((3, N)) < 0.3).astype(float)
    target = 3 * first + 2 * second + third + rng.normal(size=N)
    dense = np.column_stack([first, first, first + 0.1 * rng.random(N) * first, second, third])
    alone = Select(method="correlation", n=3)
    by_correlation = select(sp.csr_matrix(dense), target, alone, "regression").neurons
    assert set(by_correlation.tolist()) == {0, 1, 2}
    found = select(sp.csr_matrix(dense), target, Select(method="forward", n=3), "regression").neurons
    assert {3, 4} < set(found.tolist())


def test_combinations_of_those_chosen_are_not():
    rng = np.random.default_rng(0)
    first, second = (rng.random((2, N)) < 0.3).astype(float)
    dense = np.column_stack([first, second, first + second, 2 * first])
    target = first - second + rng.normal(size=N)
    found = select(sp.csr_matrix(dense), target, Select(method="forward", n=4), "regression").neurons
    assert len(found) == 2
    assert select(sp.csr_matrix(dense), np.ones(N), Select(method="forward"), "regression").neurons.size == 0
