import numpy as np
import pytest
import scipy.sparse as sp

from hypsae_ray.neurons.choice import choose_hypotheses, firing_correlations


def test_correlations_equal_those_of_dense_firing():
    rng = np.random.default_rng(0)
    activation = rng.random((300, 4)) * (rng.random((300, 4)) < [0.1, 0.5, 0.3, 0.8])
    targets = activation[:, :2] + rng.normal(size=(300, 2))
    with_targets, between = firing_correlations(sp.csr_matrix(activation), targets)
    expected = np.corrcoef(np.column_stack([activation > 0, targets]), rowvar=False)
    assert with_targets == pytest.approx(expected[:4, 4:])
    assert between == pytest.approx(expected[:4, :4])


def test_a_neuron_that_fires_everywhere_correlates_with_nothing():
    activation = sp.csr_matrix(np.array([[0.5, 0.0], [0.2, 0.3], [0.9, 0.0]]))
    with_targets, between = firing_correlations(activation, np.array([[1.0], [3.0], [2.0]]))
    assert with_targets[0] == 0
    assert between[0].tolist() == [0, 0]


def test_a_neuron_is_worth_what_its_labels_keep_of_it():
    with_target = np.array([[0.5], [0.4], [-0.3]])
    chosen = choose_hypotheses(np.array([0.4, 0.9, 0.9]), with_target, np.eye(3), ["a", "b", "c"], 3)
    assert chosen.tolist() == [1, 2, 0]  # 0.20, 0.36, 0.27 in absolute value


def test_of_equal_sentences_one_is_tested():
    with_target = np.array([[0.5], [0.45], [0.2]])
    sentences = ["mentions a dog", "Mentions  a dog", "mentions rain"]
    chosen = choose_hypotheses(np.array([0.8, 0.8, 0.8]), with_target, np.eye(3), sentences, 3)
    assert chosen.tolist() == [0, 2]


def test_the_order_is_that_of_forward_selection_on_simulated_labels():
    """Labels drawn as the model of the module says; the expected choice is by regressions on them."""
    rng = np.random.default_rng(1)
    n, m = 40_000, 5
    shared = rng.random(n) < 0.3
    fires = np.column_stack([rng.random(n) < np.where(shared, 0.7, 0.1) for _ in range(m)])
    target = fires @ [1.0, 0.8, 0.2, -0.5, 0.1] + rng.normal(size=n)
    recall, false_positives = rng.uniform(0.5, 0.95, m), rng.uniform(0.02, 0.3, m)
    labels = rng.random((n, m)) < np.where(fires, recall, false_positives)
    fidelity = np.array([np.corrcoef(labels[:, j], fires[:, j])[0, 1] for j in range(m)])
    with_target, between = firing_correlations(sp.csr_matrix(fires.astype(float)), target[:, None])
    chosen = choose_hypotheses(fidelity, with_target, between, list("abcde"), 3).tolist()
    expected: list[int] = []
    for _ in range(3):
        fit = {j: _r2(labels[:, [*expected, j]], target) for j in range(m) if j not in expected}
        expected.append(max(fit, key=fit.__getitem__))
    assert chosen == expected


def test_fewer_are_chosen_where_the_others_add_nothing():
    chosen = choose_hypotheses(np.array([0.9, 0.0]), np.array([[0.5], [0.5]]), np.eye(2), ["a", "b"], 2)
    assert chosen.tolist() == [0]


def _r2(labels: np.ndarray, target: np.ndarray) -> float:
    design = np.column_stack([np.ones(len(target)), labels])
    residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return 1 - residual.var() / target.var()
