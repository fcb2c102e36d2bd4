import numpy as np
import pytest
import scipy.sparse as sp

from hypsae_ray.neurons.stability import best_correlation, stability

# Of four rows: fires on the first two, on the first, on none, and everywhere alike.
FIRES = np.array([[1.0, 1, 0, 2], [1, 0, 0, 2], [0, 0, 0, 2], [0, 0, 0, 2]])


def sparse(rows: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix(rows.astype(np.float32))


def test_a_neuron_is_as_stable_as_its_counterparts_are_like_it():
    """By hand: indicators of rows {1, 2} and {1} of four correlate by (1/4 - 1/8) / sqrt(1/4 x 3/16)."""
    phi = 1 / np.sqrt(3)
    same, narrower = sparse(5 * FIRES[:, [3, 0]]), sparse(FIRES[:, [1]])
    np.testing.assert_allclose(best_correlation(sparse(FIRES), same)[:2], [1, phi], rtol=1e-6)
    found = stability(sparse(FIRES), [same, narrower])
    np.testing.assert_allclose(found, [(1 + phi) / 2, (phi + 1) / 2, np.nan, np.nan], rtol=1e-6)


def test_opposites_are_no_counterparts():
    assert best_correlation(sparse(FIRES[:, [0]]), sparse(1 - FIRES[:, [0]])).tolist() == [0]


@pytest.mark.parametrize("n_others", [3, 300])
def test_correlations_are_those_of_numpy(n_others: int):
    rng = np.random.default_rng(0)
    mine, theirs = (rng.gamma(1, size=(50, m)) * (rng.random((50, m)) < 0.3) for m in (7, n_others))
    expected = np.corrcoef(mine, theirs, rowvar=False)[:7, 7:].max(axis=1).clip(0)
    np.testing.assert_allclose(best_correlation(sparse(mine), sparse(theirs)), expected, rtol=1e-5)
