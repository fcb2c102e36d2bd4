"""Against hypothesaes 2.0.1: the same neurons and texts where it is right, better ones where it is not."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesaes.interpret_neurons import InterpretConfig, NeuronInterpreter, sample_top_zero
from hypothesaes.select_neurons import select_neurons
from sklearn.preprocessing import StandardScaler

from hypsae_ray.config import Interpret, ScoreFidelity, Select
from hypsae_ray.models.prompts.wording import render_naming
from hypsae_ray.models.protocols import NamingPrompt
from hypsae_ray.neurons.fidelity import score_fidelity
from hypsae_ray.neurons.sampling import fidelity_examples, naming_examples
from hypsae_ray.neurons.selection import select


def draw(n: int = 600, m: int = 15, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    dense = rng.gamma(2, 1, (n, m)) * (rng.random((n, m)) < 0.3)
    return dense, dense @ np.linspace(1, 0, m) ** 2 + rng.normal(size=n)


def prompt_of_theirs(texts: list[str], activations: np.ndarray, candidate: int) -> str:
    prompt = NeuronInterpreter()._build_interpretation_prompt(
        texts,
        activations,
        neuron_idx=0,
        candidate_idx=candidate,
        config=InterpretConfig(task_specific_instructions=None),
    )
    assert prompt is not None
    return prompt


@pytest.mark.parametrize("method", ["correlation", "separation_score"])
@pytest.mark.parametrize("classification", [False, True])
def test_same_neurons_and_scores(method, classification):
    dense, target = draw()
    target = (target > np.median(target)).astype(float) if classification else target
    neurons, scores = select_neurons(dense, target, 6, method, classification)
    task = "classification" if classification else "regression"
    found = select(sp.csr_matrix(dense), target, Select(method=method, n=6), task)
    assert found.neurons.tolist() == neurons
    np.testing.assert_allclose(found.scores[found.neurons], scores, atol=1e-10)


@pytest.mark.parametrize("classification", [False, True])
@pytest.mark.parametrize("n", [3, 6, 10])
def test_same_neurons_by_lasso(classification, n):
    dense, target = draw()
    target = (target > np.median(target)).astype(float) if classification else target
    neurons, _ = select_neurons(dense, target, n, "lasso", classification)
    task = "classification" if classification else "regression"
    found = select(sp.csr_matrix(dense), target, Select(method="lasso", n=n), task)
    assert set(found.neurons.tolist()) == set(neurons)


def test_a_dead_neuron_does_not_rank_first():
    dense, _ = draw(1000, 4)
    dense[:, 2] = 0
    target = np.linspace(1, 0, 1000)
    neurons, _ = select_neurons(dense, target, 1, "separation_score")
    assert neurons == [2], "it compares the first rows with all rows"
    found = select(sp.csr_matrix(dense), target, Select(method="separation_score", n=4), "regression")
    assert 2 not in found.neurons
    assert found.state[2] == "dead"


def test_top_texts_of_a_neuron_that_never_fires_are_not_all_texts():
    silent = np.zeros((30, 1))
    theirs = sample_top_zero([str(i) for i in range(30)], silent, 0, n_examples=20, random_seed=0)
    assert len(theirs["positive_texts"]) == 30
    named = naming_examples(silent[:, 0], Interpret(), np.random.default_rng(0))
    assert all(len(one.positives) == 0 for one in named)


def test_lasso_never_returns_a_neuron_with_coefficient_zero():
    rng = np.random.default_rng(0)
    dense = 1e-3 * rng.gamma(2, 1, (200, 12)) * (rng.random((200, 12)) < 0.3)
    target = 1e-7 * (
        StandardScaler().fit_transform(dense) @ np.linspace(1, 0.1, 12) + 0.1 * rng.normal(size=200)
    )
    _, coefficients = select_neurons(dense, target, 8, "lasso")
    assert 0 in coefficients
    found = select(sp.csr_matrix(dense), target, Select(method="lasso", n=8), "regression")
    assert len(found.neurons) == 8
    assert (found.scores[found.neurons] != 0).all()


def test_prompts_hold_texts_as_a_list_of_lines_and_no_python():
    texts, activations = ["it's one", 'he said "two"', "three", "four"], np.array([[2.0], [1], [0], [0]])
    theirs = prompt_of_theirs(texts, activations, 0)
    assert '["it\'s one"' in theirs or '"it\'s one"' in theirs, "the repr of a Python list"
    assert "None" in theirs.splitlines(), "generate_hypotheses passes no instructions by default"
    mine = render_naming(NamingPrompt(tuple(texts[:2]), tuple(texts[2:])))
    assert "None" not in mine
    assert {"1. it's one", '2. he said "two"', "1. three", "2. four"} <= set(mine.splitlines())


def test_candidates_see_different_positive_texts():
    dense, _ = draw()
    texts = [f"text {i}" for i in range(600)]
    first, second = (
        sample_top_zero(texts, dense, 0, n_examples=20, random_seed=candidate) for candidate in (0, 1)
    )
    assert first["positive_texts"] == second["positive_texts"]
    named = naming_examples(dense[:, 0], Interpret(), np.random.default_rng(0))
    assert not set(named[0].positives.tolist()) & set(named[1].positives.tolist())


def test_fidelity_is_scored_on_texts_the_sentence_was_not_written_from():
    dense, _ = draw()
    texts = [f"text {i}" for i in range(600)]
    written_from = sample_top_zero(texts, dense, 0, n_examples=20, random_seed=0)["positive_texts"]
    scored_on = sample_top_zero(texts, dense, 0, n_examples=100, random_seed=0)["positive_texts"]
    assert set(written_from) <= set(scored_on)
    rng = np.random.default_rng(0)
    named = naming_examples(dense[:, 0], Interpret(), rng)
    seen = {int(row) for one in named for row in np.concatenate([one.positives, one.negatives])}
    found = fidelity_examples(dense[:, 0], seen, ScoreFidelity(), rng)
    assert len(found.positives) == 20
    assert not seen & set(np.concatenate([found.positives, found.negatives]).tolist())


def test_fidelity_of_the_same_labels_is_the_same():
    rng = np.random.default_rng(0)
    fires, said = rng.random(100) < 0.5, rng.random(100) < 0.6
    theirs = NeuronInterpreter()._compute_metrics(
        said.astype(float), fires.astype(float), fires.astype(float)
    )
    found = score_fidelity(fires, said.astype(float), 0.5, prevalence=0.5, rng=rng)
    for name in ("f1", "precision", "recall", "correlation"):
        assert getattr(found, name) == pytest.approx(theirs[name])
