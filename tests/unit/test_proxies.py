"""Proxies of labels: what they learn, and that they know nothing of a row's own label."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from hypsae_ray.data.arrays import hash_ids
from hypsae_ray.stats.two_phase import proxies as module
from hypsae_ray.stats.two_phase.proxies import Clues, folds_of, learn, predict

N, D = 3000, 20


def draw(seed: int = 0):
    """Clues, labels of two hypotheses, and the folds of all rows."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(N, D))
    eta = embeddings @ rng.normal(size=(D, 2)) - 1
    labels = (rng.random((N, 2)) < expit(eta)).astype(float)
    activations = np.maximum(eta + 3 * rng.normal(size=(N, 2)), 0)
    return Clues(embeddings, activations), labels, folds_of(hash_ids(np.arange(N)))


def proxies_from(clues: Clues, labels: np.ndarray, folds: np.ndarray, at: np.ndarray) -> np.ndarray:
    return predict(learn(clues.rows(at), labels[at], folds[at]), clues, folds)


def test_a_proxy_does_not_depend_on_the_labels_of_its_fold():
    clues, labels, folds = draw()
    at = np.arange(400)
    before = proxies_from(clues, labels, folds, at)
    changed = labels.copy()
    mine = at[folds[at] == 2]
    changed[mine] = 1 - changed[mine]
    after = proxies_from(clues, changed, folds, at)
    np.testing.assert_array_equal(after[folds == 2], before[folds == 2])
    assert (after[folds != 2] != before[folds != 2]).all()


@pytest.mark.parametrize(
    ("of", "least", "most"), [("both", 0.9, 0.97), ("embeddings", 0.85, 0.97), ("activations", 0.75, 0.9)]
)
def test_proxies_are_probabilities_that_tell_labels_apart(of: str, least: float, most: float):
    clues, labels, folds = draw(1)
    kept = Clues(
        clues.embeddings if of != "activations" else None, clues.activations if of != "embeddings" else None
    )
    found = proxies_from(kept, labels, folds, np.arange(400))
    assert ((found > 0) & (found < 1)).all()
    for proxy, label in zip(found[400:].T, labels[400:].T, strict=True):
        assert least < roc_auc_score(label, proxy) < most
        high = proxy > 0.5
        assert proxy[high].mean() == pytest.approx(label[high].mean(), abs=0.08)
        assert proxy[~high].mean() == pytest.approx(label[~high].mean(), abs=0.08)


def test_scores_of_ridge_regression_are_those_of_leaving_each_row_out(monkeypatch):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 50))  # more directions than rows
    labels = (rng.random((30, 2)) < 0.5).astype(float)
    monkeypatch.setattr(module, "PENALTIES", np.array([1.0]))
    ridge, scores = module._fit_ridge(embeddings, labels)
    centred = embeddings - embeddings.mean(axis=0)
    penalty = np.mean(np.linalg.svd(centred, compute_uv=False) ** 2)
    model = Ridge(alpha=penalty).fit(centred, labels)
    np.testing.assert_allclose(ridge.scores(embeddings), model.predict(centred), atol=1e-9)
    for left_out in (0, 7, 29):
        # The constant is not penalised; centred columns are orthogonal to it.
        others = np.delete(np.arange(30), left_out)
        X = np.hstack([np.ones((30, 1)), centred])
        penalties = np.diag([0.0] + [penalty] * 50)
        beta = np.linalg.solve(X[others].T @ X[others] + penalties, X[others].T @ labels[others])
        np.testing.assert_allclose(scores[left_out], X[left_out] @ beta, atol=1e-9)


def test_few_labels_of_a_kind_leave_the_prevalence():
    clues, labels, folds = draw(2)
    labels[:, 0] = 0
    labels[:3, 0] = 1  # too few to learn from in any fold
    found = proxies_from(clues, labels, folds, np.arange(200))
    for fold in range(5):
        assert np.ptp(found[folds == fold, 0]) == 0
    assert (found[:, 0] < 0.05).all()
    assert np.ptp(found[:, 1]) > 0.5


def test_missing_labels_are_no_labels():
    clues, labels, folds = draw(3)
    labels[:100, 0] = np.nan
    found = proxies_from(clues, labels, folds, np.arange(500))
    assert roc_auc_score(labels[500:, 0], found[500:, 0]) > 0.85
