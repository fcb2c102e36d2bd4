import math

import numpy as np
import pytest
from scipy.stats import pointbiserialr
from sklearn.metrics import f1_score, precision_score, recall_score
from statsmodels.stats.proportion import proportion_confint

from hypsae_ray.neurons.fidelity import Fidelity, best_candidate, halves, score_fidelity, wilson
from hypsae_ray.store import schema


def measure(fires, p_yes, threshold=0.5, prevalence=0.5, seed=0) -> Fidelity:
    rng = np.random.default_rng(seed)
    return score_fidelity(np.array(fires), np.array(p_yes), threshold, prevalence=prevalence, rng=rng)


def counted(hits: int, alarms: int, n: int, prevalence: float = 0.5, seed: int = 0) -> Fidelity:
    """Fidelity on n firing and n silent texts, of which so many are labelled yes."""
    said = np.concatenate([np.arange(n) < hits, np.arange(n) < alarms])
    return measure([True] * n + [False] * n, said.astype(float), prevalence=prevalence, seed=seed)


def test_equals_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    fires, p_yes = rng.random(200) < 0.4, rng.random(200)
    found = measure(fires, p_yes, 0.6)
    said = p_yes >= 0.6
    assert found.f1 == pytest.approx(f1_score(fires, said))
    assert found.precision == pytest.approx(precision_score(fires, said))
    assert found.recall == pytest.approx(recall_score(fires, said))
    assert found.correlation == pytest.approx(pointbiserialr(fires, p_yes)[0])
    assert found.n == 200


def test_texts_without_a_label_are_left_out():
    fires = [True, True, False, False, True]
    p_yes = [0.9, 0.2, 0.1, 0.8, math.nan]
    assert measure(fires, p_yes) == measure(fires[:4], p_yes[:4])
    assert measure(fires, p_yes).n == 4
    assert measure(fires, p_yes).f1 == pytest.approx(0.5)


def test_the_threshold_itself_counts_as_yes():
    assert measure([True, False], [0.5, 0.4]).recall == 1


def test_a_sentence_that_is_never_true_scores_zero():
    found = measure([True, False], [0.0, 0.0])
    assert (found.f1, found.precision, found.recall) == (0, 0, 0)
    assert (found.f1_corpus, found.precision_corpus) == (0, 0)
    assert math.isnan(found.correlation)
    assert math.isnan(found.precision_ci.low)  # no text was labelled yes: there is no sample
    assert found.recall_ci.low == 0
    assert found.recall_ci.high > 0.5


@pytest.mark.parametrize(
    ("fires", "p_yes"), [([], []), ([True, True], [math.nan] * 2), ([False, True], [1.0, math.nan])]
)
def test_without_a_labelled_firing_text_nothing_is_defined(fires, p_yes):
    found = measure(np.array(fires, dtype=bool), np.array(p_yes)).columns()
    assert found.pop("n") == sum(not math.isnan(p) for p in p_yes)
    assert all(math.isnan(value) for value in found.values())


def test_without_a_silent_text_the_corpus_is_unknown():
    found = measure([True, True], [1.0, 0.0])
    assert found.f1 == pytest.approx(2 / 3)
    assert found.f1_ci.low < found.f1 < found.f1_ci.high
    assert all(
        math.isnan(value) for value in (found.precision_corpus, found.f1_corpus, found.f1_corpus_ci.low)
    )


def test_columns_are_those_of_the_stored_tables():
    assert set(Fidelity().columns()) == {"f1", *schema.MEASURES.names}
    found = counted(15, 2, 20)
    columns = found.columns()
    assert (columns["f1_ci_low"], columns["f1_corpus_ci_high"]) == (found.f1_ci.low, found.f1_corpus_ci.high)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 3), (7, 20), (20, 20), (399, 400)])
def test_wilson_equals_statsmodels(hits: int, n: int):
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, n, 0.05, "wilson"))


def test_at_corpus_prevalence_rare_firing_makes_false_alarms_count():
    found = counted(16, 2, 20, prevalence=0.01)
    # By hand: of 1,000 texts 10 fire, 8 of them found; 99 of 990 silent ones are labelled yes, too.
    assert found.precision == pytest.approx(16 / 18)
    assert found.precision_corpus == pytest.approx(8 / 107)
    assert found.f1_corpus == pytest.approx(2 * 8 / (10 + 107))
    balanced = counted(16, 2, 20, prevalence=0.5)
    assert balanced.f1_corpus == pytest.approx(balanced.f1)
    assert balanced.precision_corpus == pytest.approx(balanced.precision)


@pytest.mark.parametrize(
    ("recall", "false_positive_rate", "prevalence"),
    [(0.5, 0.5, 0.3), (0.8, 0.1, 0.05), (0.95, 0.01, 0.02), (0.6, 0.02, 0.02)],
)
def test_intervals_of_f1_hold_the_truth_as_often_as_they_say(recall, false_positive_rate, prevalence):
    def truth(share: float) -> float:
        precision = share * recall / (share * recall + (1 - share) * false_positive_rate)
        return 2 * precision * recall / (precision + recall)

    rng = np.random.default_rng(0)
    inside = []
    for seed in range(400):
        hits, alarms = rng.binomial(20, [recall, false_positive_rate])
        found = counted(hits, alarms, 20, prevalence, seed)
        pairs = ((found.f1_ci, truth(0.5)), (found.f1_corpus_ci, truth(prevalence)))
        inside.append([interval.low <= value <= interval.high for interval, value in pairs])
    # 0.95 less two standard errors of a share of 400.
    assert np.mean(inside, axis=0).min() >= 0.928


def test_the_bootstrap_is_seeded():
    assert counted(15, 2, 20, seed=3) == counted(15, 2, 20, seed=3)
    assert counted(15, 2, 20, seed=3) != counted(15, 2, 20, seed=4)


def test_halves_take_turns_within_firing_and_silent_texts():
    fires = np.array([True] * 9 + [False] * 9)
    labelled = np.ones(18, dtype=bool)
    labelled[0] = False
    first, second = halves(fires, labelled, n_candidates=2)
    assert np.flatnonzero(first).tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert np.flatnonzero(second).tolist() == [2, 4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize(("n_firing", "n_candidates"), [(20, 1), (7, 3)])
def test_all_texts_serve_both_ends_where_there_is_no_choice_or_too_few(n_firing: int, n_candidates: int):
    fires = np.arange(40) < n_firing
    labelled = np.arange(40) != 39
    for part in halves(fires, labelled, n_candidates):
        np.testing.assert_array_equal(part, labelled)


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.2, 0.8, 0.8], 1), ([math.nan, 0.0], 1), ([0.5, math.nan], 0), ([math.nan], None), ([], None)],
)
def test_best_candidate(scores, best):
    assert best_candidate([Fidelity(f1=f1, correlation=0.0) for f1 in scores]) == best


def test_a_false_alarm_counts_as_in_the_corpus():
    fires, rng = np.arange(20) < 10, np.random.default_rng(0)
    general = np.where(fires | (np.arange(20) < 12), 1.0, 0.0)  # recall 1, and 2 false alarms in 10
    narrow = np.where(np.arange(20) < 7, 1.0, 0.0)  # recall 0.7, and none
    for prevalence, best in ((0.5, 0), (0.05, 1)):
        scores = [score_fidelity(fires, p, 0.5, prevalence=prevalence, rng=rng) for p in (general, narrow)]
        assert best_candidate(scores) == best


def test_of_equal_f1_the_one_that_leans_the_right_way_is_best():
    scores = [Fidelity(f1=0.0, correlation=correlation) for correlation in (math.nan, -0.2, 0.3, 0.1)]
    assert best_candidate(scores) == 2
