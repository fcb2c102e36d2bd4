"""Against hypothesaes 2.0.1: the same numbers where it is right, and better ones where it is not."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesaes.annotate import annotate_texts_with_concepts, parse_completion
from hypothesaes.evaluation import compute_hypothesis_separation_scores, score_hypotheses
from scipy import stats

import hypsae_ray
from hypsae_ray.core.inference import Evaluation, evaluate


def draw(n: int = 500, h: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a regression target and a binary one."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, h)) < 0.3).astype(float)
    signal = labels[:, 0] - 0.5 * labels[:, 1]
    return labels, signal + rng.normal(size=n), (rng.random(n) < 1 / (1 + np.exp(-signal))).astype(float)


def reference(labels: np.ndarray, target: np.ndarray, classification: bool = False):
    """Metrics, and a table by column; each hypothesis's sentence is its position."""
    annotations = {str(j): labels[:, j] for j in range(labels.shape[1])}
    metrics, table = score_hypotheses(annotations, target, classification=classification)
    return metrics, table.set_index(table["hypothesis"].astype(int)).sort_index()


def ours(labels: np.ndarray, target: np.ndarray, classification: bool = False) -> Evaluation:
    return evaluate(labels, target, task="classification" if classification else "regression")


@pytest.mark.parametrize("classification", [False, True])
def test_regular_data_give_the_same_numbers(classification):
    labels, value, coin = draw()
    target = coin if classification else value
    metrics, theirs = reference(labels, target, classification)
    found = ours(labels, target, classification)
    for column in ("separation_score", "regression_coef", "regression_pval", "feature_prevalence"):
        np.testing.assert_allclose(found.table[column], theirs[column], atol=1e-8)
    if classification:
        assert found.metrics["auc"] == pytest.approx(metrics["auroc"], abs=1e-8)
        assert found.metrics["pseudo_r2"] == pytest.approx(metrics["r2"], abs=1e-8)
    else:
        assert found.metrics["r2"] == pytest.approx(metrics["r2"], abs=1e-8)
    assert found.metrics["n_significant"] == metrics["Significant"][0]


def test_two_hypotheses_with_one_sentence_stay_two():
    labels, target, _ = draw(h=3)
    sentences = ["mentions dogs", "mentions dogs", "mentions cats"]
    metrics, theirs = score_hypotheses({s: labels[:, j] for j, s in enumerate(sentences)}, target)
    assert len(theirs) == 2
    assert metrics["Significant"][2] == pytest.approx(0.1 / 2)
    found = hypsae_ray.evaluate_hypotheses(labels, target, task="regression", hypotheses=sentences)
    assert found.table["hypothesis"].tolist() == sentences
    assert found.metrics["alpha_per_test"] == pytest.approx(0.1 / 3)
    model = sm.OLS(target, sm.add_constant(labels)).fit()
    np.testing.assert_allclose(found.table["regression_coef"], model.params[1:])


def test_an_always_yes_hypothesis_does_not_shift_the_others():
    labels, target, _ = draw(n=4000, h=3)
    labels = np.column_stack([np.ones(4000), labels])
    _, theirs = reference(labels, target)
    assert len(theirs) == 3, "one hypothesis is lost"
    assert theirs["regression_coef"][0] == pytest.approx(1, abs=0.15), "the effect of hypothesis 1"
    found = ours(labels, target).table["regression_coef"]
    assert math.isnan(found[0])
    np.testing.assert_allclose(found[1:], [1, -0.5, 0], atol=0.15)


def test_a_perfect_predictor_is_named_instead_of_called_insignificant():
    labels, _, coin = draw()
    labels[:, 3] = 0
    labels[np.flatnonzero(coin)[:40], 3] = 1
    _, theirs = reference(labels, coin, classification=True)
    assert theirs["regression_pval"][3] > 0.5
    assert stats.fisher_exact(np.histogram2d(labels[:, 3], coin, bins=2)[0].astype(int)).pvalue < 1e-9
    found = ours(labels, coin, classification=True)
    assert math.isnan(found.table["regression_pval"][3])
    assert "perfect separation" in found.table["note"][3]


def test_a_copy_does_not_take_half_of_an_effect():
    labels, _, coin = draw(n=2000, h=3)
    alone = ours(labels, coin, classification=True).table
    doubled = np.column_stack([labels, labels[:, 0]])
    _, theirs = reference(doubled, coin, classification=True)
    assert theirs["regression_coef"][0] == pytest.approx(alone["regression_coef"][0] / 2, rel=1e-6)
    found = ours(doubled, coin, classification=True).table
    np.testing.assert_allclose(found["regression_coef"][:3], alone["regression_coef"])
    assert math.isnan(found["regression_coef"][3])
    assert "the same on these rows as #0" in found["note"][3]


def test_a_hypothesis_that_is_never_true_does_not_turn_the_logit_into_ols():
    labels, _, coin = draw(n=2000, h=2)
    alone = ours(labels, coin, classification=True).table["regression_coef"]
    labels = np.column_stack([np.zeros(2000), labels])
    _, theirs = reference(labels, coin, classification=True)
    on_probabilities = ours(labels, coin).table["regression_coef"]
    np.testing.assert_allclose(theirs["regression_coef"][1:], on_probabilities[1:], atol=1e-8)
    found = ours(labels, coin, classification=True).table
    np.testing.assert_allclose(found["regression_coef"][1:], alone)
    assert "is 0 on every row" in found["note"][0]


def test_welch_holds_its_level_where_the_pooled_test_does_not():
    rng, theirs, mine = np.random.default_rng(0), 0, 0
    labels = np.repeat([1.0, 0.0], [20, 480])
    for _ in range(200):
        target = rng.normal(0, np.where(labels == 1, 3, 1))
        theirs += compute_hypothesis_separation_scores({"h": labels}, target)["h"][1] < 0.05
        mine += ours(labels[:, None], target).table["separation_pval"][0] < 0.05
    # Binomial(200, 0.05) has a standard deviation of 1.5 percent.
    assert theirs / 200 > 0.3
    assert mine / 200 < 0.1


def test_one_answer_that_cannot_be_read_costs_one_label(monkeypatch):
    monkeypatch.delenv("OPENAI_KEY_SAE", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert parse_completion("none of the text is about dogs") == 0, "an unreadable answer is read as no"
    with pytest.raises(KeyError):
        annotate_texts_with_concepts(["a text"], ["mentions dogs"], show_progress=False)
    labels, target, _ = draw()
    labels[7, 1] = np.nan
    found = ours(labels, target)
    assert found.table["n"].tolist() == [500, 499, 500, 500]
    assert found.table["regression_pval"].notna().all()
