"""Against hypothesaes 2.0.1: the same numbers where it is right, and better ones where it is not."""

import contextlib
import io
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesaes.annotate import annotate_texts_with_concepts, generate_cache_key, parse_completion
from hypothesaes.annotate import save_annotation_cache as save_cache
from hypothesaes.evaluation import compute_hypothesis_separation_scores, score_hypotheses
from hypothesaes.quickstart import evaluate_hypotheses as evaluate_by_reference
from scipy import stats

import hypsae_ray
from hypsae_ray.data.rows import guess_task
from hypsae_ray.errors import InputError
from hypsae_ray.stats.evaluate import Evaluation


def draw(n: int = 500, h: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a regression target and a binary one."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, h)) < 0.3).astype(float)
    signal = labels[:, 0] - 0.5 * labels[:, 1]
    return labels, signal + rng.normal(size=n), (rng.random(n) < 1 / (1 + np.exp(-signal))).astype(float)


def named(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Labels as the reference takes them; each hypothesis's sentence is its position."""
    return {str(j): labels[:, j] for j in range(labels.shape[1])}


def reference(labels: np.ndarray, target: np.ndarray, classification: bool = False):
    """Metrics, and a table by column."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics, table = score_hypotheses(named(labels), target, classification=classification)
    return metrics, table.set_index(table["hypothesis"].astype(int)).sort_index()


def ours(labels: np.ndarray, target: np.ndarray, task="regression", **options) -> Evaluation:
    quick = {"n_bootstrap": 0, "n_permutations": 0, **options}
    return hypsae_ray.evaluate_hypotheses(labels, target, task=task, **quick)


@pytest.mark.parametrize("classification", [False, True])
def test_regular_data_give_the_same_numbers(classification):
    labels, value, coin = draw()
    target = coin if classification else value
    metrics, theirs = reference(labels, target, classification)
    task = "classification" if classification else "regression"
    found = ours(labels, target, task, cov_type="nonrobust")
    for column in ("separation_score", "regression_coef", "regression_pval", "feature_prevalence"):
        np.testing.assert_allclose(found.table[column], theirs[column], rtol=0, atol=1e-8)
    if classification:
        assert found.metrics["auc"] == pytest.approx(metrics["auroc"], abs=1e-8)
        assert found.metrics["pseudo_r2"] == pytest.approx(metrics["r2"], abs=1e-8)
    else:
        assert found.metrics["r2"] == pytest.approx(metrics["r2"], abs=1e-8)
    assert found.metrics["n_significant"] == metrics["Significant"][0]
    assert found.metrics["alpha_per_test"] == metrics["Significant"][2]


def test_joint_models_of_pairs_are_the_same():
    rng = np.random.default_rng(0)
    labels = rng.choice([-1.0, 0, 1], (500, 3))
    target = (rng.random(500) < 1 / (1 + np.exp(-0.3 - labels[:, 0]))).astype(float)
    _, theirs = reference(labels, target, classification=True)
    found = ours(labels, target, "pairwise").table
    for column in ("regression_coef", "regression_pval", "feature_prevalence"):
        np.testing.assert_allclose(found[column], theirs[column], rtol=0, atol=1e-8)


def test_a_property_of_pairs_that_moves_nothing_is_not_called_significant():
    rng, theirs, scores, mine = np.random.default_rng(0), [], [], []
    for _ in range(60):
        labels = rng.choice([-1.0, 0, 1], (300, 4))
        target = (rng.random(300) < 0.5).astype(float)
        theirs += [pval for _, pval in compute_hypothesis_separation_scores(named(labels), target).values()]
        habit = (rng.random(300) < 0.6).astype(float)
        by_reference = compute_hypothesis_separation_scores(named(labels), habit)
        table = ours(labels, habit, "pairwise").table
        scores.append((by_reference["0"][0], table["separation_score"][0]))
        mine += table["separation_pval"].tolist()
    assert max(theirs) < 0.05, "it rejects each time"
    # Binomial(240, 0.05) has a standard deviation of 1.4 percent.
    assert 0.01 < np.mean(np.array(mine) < 0.05) < 0.1
    # Choosing the first of a pair with 0.6: means of 60 scores have standard errors of about 0.005.
    reference_bias, bias = np.mean(scores, axis=0)
    assert reference_bias == pytest.approx(-0.1, abs=0.03)
    assert bias == pytest.approx(0, abs=0.02)


def test_two_hypotheses_with_one_sentence_stay_two():
    labels, target, _ = draw(h=3)
    sentences = ["mentions dogs", "mentions dogs", "mentions cats"]
    metrics, theirs = score_hypotheses({s: labels[:, j] for j, s in enumerate(sentences)}, target)
    assert len(theirs) == 2
    assert metrics["Significant"][2] == pytest.approx(0.1 / 2)
    found = ours(labels, target, hypotheses=sentences)
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
    found = ours(labels, target).table
    assert math.isnan(found["regression_coef"][0])
    assert "it is 1 on every row" in found["note"][0]
    np.testing.assert_allclose(found["regression_coef"][1:], [1, -0.5, 0], atol=0.15)


def test_a_perfect_predictor_is_called_significant():
    labels, _, coin = draw()
    labels[:, 3] = 0
    labels[np.flatnonzero(coin)[:40], 3] = 1
    _, theirs = reference(labels, coin, classification=True)
    assert theirs["regression_pval"][3] > 0.5
    exact = stats.fisher_exact(np.histogram2d(labels[:, 3], coin, bins=2)[0].astype(int)).pvalue
    assert exact < 1e-9
    found = ours(labels, coin, "classification")
    assert found.table["regression_pval"][3] < 1e-9
    assert found.table["separation_pval"][3] == pytest.approx(exact)
    assert found.table["significant"][3]
    assert np.isfinite(found.table[["regression_coef", "regression_ci_low", "regression_ci_high"]]).all(None)
    assert any(note.startswith("the outcomes are separated by #3, so") for note in found.notes)


def test_a_copy_does_not_take_half_of_an_effect():
    labels, _, coin = draw(n=2000, h=3)
    alone = ours(labels, coin, "classification").table
    doubled = np.column_stack([labels, labels[:, 0]])
    _, theirs = reference(doubled, coin, classification=True)
    assert theirs["regression_coef"][0] == pytest.approx(alone["regression_coef"][0] / 2, rel=1e-6)
    found = ours(doubled, coin, "classification").table
    np.testing.assert_allclose(found["regression_coef"][:3], alone["regression_coef"])
    assert math.isnan(found["regression_coef"][3])
    assert "the same on these rows as #0" in found["note"][3]


def test_a_hypothesis_that_is_never_true_does_not_turn_the_logit_into_ols():
    labels, _, coin = draw(n=2000, h=2)
    alone = ours(labels, coin, "classification").table["regression_coef"]
    labels = np.column_stack([np.zeros(2000), labels])
    _, theirs = reference(labels, coin, classification=True)
    on_probabilities = ours(labels, coin).table["regression_coef"]
    np.testing.assert_allclose(theirs["regression_coef"][1:], on_probabilities[1:], atol=1e-8)
    found = ours(labels, coin, "classification").table
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


def test_chunks_of_one_document_are_not_taken_for_independent():
    documents, theirs, mine = np.repeat(np.arange(60), 8), [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = (rng.random((60, 2)) < 0.5).astype(float)[documents]
        target = rng.normal(size=60)[documents] + rng.normal(size=480)
        _, table = reference(labels, target)
        theirs.append(table[["separation_pval", "regression_pval"]].to_numpy() < 0.05)
        found = ours(labels, target, groups=documents).table
        mine.append(found[["separation_pval", "regression_pval"]].to_numpy() < 0.05)
    # With 1 + 7 / 2 times the variance that is supposed, a level of 5 % is one of 36 %. Binomial(200, 0.36)
    # and Binomial(200, 0.05) have standard deviations of 3.4 and 1.5 percent.
    assert np.mean(theirs, axis=(0, 1)) == pytest.approx([0.36, 0.36], abs=0.1)
    assert np.mean(mine, axis=(0, 1)).max() < 0.1


def test_twenty_hypotheses_of_noise_predict_nothing():
    theirs, mine, signal = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels, coin = (rng.random((500, 20)) < 0.3).astype(float), (rng.random(500) < 0.5).astype(float)
        theirs.append(reference(labels, coin, classification=True)[0]["auroc"])
        metrics = ours(labels, coin, "classification", n_permutations=99).metrics
        assert metrics["auc"] == pytest.approx(theirs[-1], abs=1e-8)
        mine.append(metrics["auc_cross_fitted"])
        signal.append(metrics["signal_pval"])
    # An AUC of 500 rows has a standard deviation of 0.026, the mean of twelve one of 0.0075.
    assert np.mean(theirs) > 0.59
    assert 0.47 < np.mean(mine) < 0.53
    assert min(signal) > 0.01


def judged_by_reference(seed: int, texts: list[str], target: np.ndarray, cache: str) -> pd.DataFrame:
    """Everything that hypothesaes does with stored labels, its guess of the task included."""
    np.random.seed(seed)
    hypotheses = pd.DataFrame({"interpretation": ["is even"]})
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluate_by_reference(hypotheses, texts, target, cache_name=cache)[1]


def test_the_task_does_not_hang_on_which_rows_are_looked_at(tmp_path: Path):
    rng = np.random.default_rng(0)
    labels = (np.arange(1500) % 2 == 0).astype(float)
    target = (rng.random(1500) < 0.5).astype(float)
    target[700] = 2  # of 1,000 draws among 1,500 rows, about half hit it
    texts = [f"text {i}" for i in range(1500)]
    answers = {generate_cache_key("is even", text): int(one) for text, one in zip(texts, labels, strict=True)}
    save_cache(str(tmp_path / "stored_hypothesis-eval.json"), answers)
    stored, ends = str(tmp_path / "stored"), []
    for seed in range(6):
        try:
            ends.append(len(judged_by_reference(seed, texts, target, stored)))
        except ValueError as error:
            assert "unit interval" in str(error)
            ends.append(0)
    assert set(ends) == {0, 1}, "the same data are refused or accepted, as chance has it"
    assert guess_task(target) == "regression"
    with pytest.raises(InputError, match=r"position 700: 2\.0 does not fit; expected on each row: 0 or 1"):
        ours(labels[:, None], target, "classification")


def test_one_answer_that_cannot_be_read_costs_one_label(monkeypatch):
    monkeypatch.delenv("OPENAI_KEY_SAE", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert parse_completion("none of the text is about dogs") == 0, "an unreadable answer is read as no"
    with pytest.raises(KeyError), contextlib.redirect_stdout(io.StringIO()):
        annotate_texts_with_concepts(["a text"], ["mentions dogs"], show_progress=False)
    labels, target, _ = draw()
    labels[7, 1] = np.nan
    found = ours(labels, target)
    assert found.table["n"].tolist() == [500, 499, 500, 500]
    assert found.table["regression_pval"].notna().all()
