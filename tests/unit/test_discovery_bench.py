"""The pure parts of jobs/bench_discovery.py: made-up texts with a known truth, and what is counted of it."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

sys.path.append(str(Path(__file__).parents[2] / "jobs"))

import discovery
import planted

N = 20_000


@pytest.fixture(scope="module")
def drawn():
    """Truth as a data frame, covariate and score of many texts, without the texts."""
    made, structure = planted.read()
    rng = np.random.default_rng(0)
    present, covariate = planted.draw(made, structure, N, rng)
    scores = planted.score(made, structure, present, covariate, rng)
    return pd.DataFrame(present.astype(int), columns=made.names), covariate, scores


def test_concepts_are_as_frequent_as_the_file_says(drawn):
    made, _ = planted.read()
    wanted = np.array([concept.prevalence for concept in made.concepts])
    assert len(wanted) == 24 and wanted.min() == 0.01 and 0.25 < wanted.max() <= 0.3
    error = np.sqrt(wanted * (1 - wanted) / N)
    assert (np.abs(drawn[0].mean().to_numpy() - wanted) < 4 * error).all()


@pytest.mark.parametrize(
    ("concept", "partner", "rate"),
    [("with children", "lovely pool", 0.65), ("late arrival", "slow check-in", 0.6)],
)
def test_a_confounded_concept_has_the_effect_of_its_partner_until_that_is_held_fixed(
    drawn, concept, partner, rate
):
    truth, _, scores = drawn
    together = truth[partner] == 1
    assert truth.loc[together, concept].mean() == pytest.approx(rate, abs=0.03)
    alone = sm.OLS(scores, sm.add_constant(truth[[concept]])).fit(cov_type="HC3")
    joint = sm.OLS(scores, sm.add_constant(truth)).fit(cov_type="HC3")
    assert abs(alone.tvalues[concept]) > 10
    assert abs(joint.tvalues[concept]) < 4


@pytest.mark.parametrize(
    ("one", "other", "effect"),
    [("elevator out of order", "heavy luggage", -2.0), ("special occasion", "welcome gift", 2.0)],
)
def test_an_interaction_matters_only_where_both_are_present(drawn, one, other, effect):
    truth, _, scores = drawn
    columns = truth.assign(both=truth[one] * truth[other])
    fit = sm.OLS(scores, sm.add_constant(columns)).fit(cov_type="HC3")
    assert abs(fit.tvalues[one]) < 4 and abs(fit.tvalues[other]) < 4
    assert fit.params["both"] == pytest.approx(effect, abs=4 * fit.bse["both"])


def test_what_turns_with_the_covariate_has_no_effect_without_it(drawn):
    truth, covariate, scores = drawn
    effects = {
        "place to work": 1.0,
        "strict quiet rules": 1.0,
        "business district": 0.9,
        "live music": -1.0,
    }
    turned = truth[[*effects]].mul(2 * covariate - 1, axis=0).add_suffix(" turned")
    columns = sm.add_constant(truth.assign(business=covariate))
    without = sm.OLS(scores, columns).fit(cov_type="HC3")
    fit = sm.OLS(scores, columns.join(turned)).fit(cov_type="HC3")
    for concept, effect in effects.items():
        assert abs(without.tvalues[concept]) < 4
        assert fit.params[f"{concept} turned"] == pytest.approx(effect, abs=4 * fit.bse[f"{concept} turned"])


def test_decoys_have_no_effect_and_plain_concepts_have_theirs(drawn):
    truth, _, scores = drawn
    made, structure = planted.read()
    fit = sm.OLS(scores, sm.add_constant(truth)).fit(cov_type="HC3")
    roles = dict(zip(made.names, planted.roles(made, structure), strict=True))
    counts = pd.Series(roles).value_counts().to_dict()
    assert counts == {"plain": 10, "interaction": 4, "turning": 4, "decoy": 4, "confounded": 2}
    for concept in made.concepts:
        if roles[concept.concept] in ("plain", "decoy"):
            error = fit.bse[concept.concept]
            assert fit.params[concept.concept] == pytest.approx(concept.effect, abs=4 * error)


def test_texts_of_a_seed_are_the_same_and_the_splits_share_none():
    first, second, other = (planted.generate(80, 20, seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.train, second.train)
    assert not first.train["text"].equals(other.train["text"])
    assert not set(first.train["text"]) & set(first.test["text"])
    assert first.truth.index.tolist() == [*first.train["id"], *first.test["id"]]


def test_no_word_marks_a_concept_in_all_its_wordings():
    made, _ = planted.read()
    common = set(
        re.findall(r"\w+", "a an and at for from had i in is it of on our that the there to was we with")
    )
    for concept in made.concepts:
        own = [set(re.findall(r"\w+", re.sub(r"{\w+}", "", one.lower()))) for one in concept.templates]
        assert set.intersection(*own) <= common, concept.concept


TRUTH = discovery.Truth(
    np.array([[1, 0, 1], [1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]]),
    pd.DataFrame(
        {
            "concept": ["noise", "pool", "parking"],
            "description": ["mentions noise", "mentions a pool", "mentions a car"],
            "role": [planted.PLAIN, planted.TURNING, planted.DECOY],
        }
    ),
)
# F1 of the first: 1 against noise, 4 / 6 against parking; of the second: 4 / 5 against noise; of the third:
# 6 / 8 against parking, 4 / 8 and 4 / 7 against the others.
LABELS = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=float)


def test_each_hypothesis_is_matched_with_the_concept_that_it_agrees_with_best():
    found = discovery.matches(TRUTH, LABELS)
    assert found["concept"].tolist() == ["noise", "noise", "parking"]
    assert found["f1"].tolist() == pytest.approx([1.0, 0.8, 0.75])


def test_a_hypothesis_recovers_one_concept_and_rare_concepts_are_not_counted():
    assert TRUTH.counted.tolist() == [True, False, True]
    assert discovery.n_reached(TRUTH.values, LABELS, TRUTH.counted) == 2
    assert discovery.n_reached(TRUTH.values, LABELS[:, :2], TRUTH.counted) == 1
    assert discovery.n_reached(TRUTH.values, TRUTH.values[:, 1:2].astype(float), TRUTH.counted) == 0
    assert discovery.n_reached(TRUTH.values, LABELS[:, :0], TRUTH.counted) == 0


def test_significant_hypotheses_count_as_true_false_or_unmatched():
    matched = pd.DataFrame(
        {"role": ["plain", "turning", "confounded", "decoy", "interaction"], "f1": [0.9, 0.6, 0.7, 0.59, 0.8]}
    )
    significant = np.array([True, True, True, True, False])
    assert discovery.count_by_truth(matched, significant) == {"true": 2, "false": 1, "unmatched": 1}


def test_hypotheses_with_the_same_labels_or_words_are_one():
    vectors = np.eye(4)
    labels = np.array([[1, 1, 0, 0], [1, 1, 1, np.nan], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=float)
    assert discovery.n_distinct(labels, vectors) == 3  # the second is the first; the last never varies
    vectors[3] = vectors[2]
    assert discovery.n_distinct(labels, vectors) == 2


def test_differences_are_taken_seed_by_seed_with_a_t_interval():
    rows = pd.DataFrame(
        {"system": ["a"] * 3 + ["b"] * 3, "seed": [0, 1, 2] * 2, "recovered": [4, 6, 5, 2, 5, 2]}
    )
    gaps = discovery.compare(rows, "b", ["recovered"])
    mean, low, high = gaps.loc[0, ["mean", "low", "high"]]
    assert mean == 2  # of 2, 1 and 3: standard error 1 / sqrt(3), and 4.303 of them by the table of t
    assert (high - low) / 2 == pytest.approx(4.303 / np.sqrt(3), abs=1e-3)
    assert discovery.paired([1.5])[0] == 1.5 and np.isnan(discovery.paired([1.5])[1])
