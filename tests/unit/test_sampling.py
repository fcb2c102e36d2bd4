import numpy as np
import pytest

from hypsae_ray.config import AdvancedInterpret, Interpret, ScoreFidelity
from hypsae_ray.neurons.sampling import fidelity_examples, naming_examples


def activation(n_firing: int, n_silent: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.permutation(np.concatenate([np.arange(1.0, n_firing + 1), np.zeros(n_silent)]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_candidates_get_interleaved_ranks_of_the_top():
    values = activation(200, 300)
    found = naming_examples(
        values, Interpret(n_candidates=3, n_examples=8, advanced=AdvancedInterpret(sampling="top")), rng()
    )
    shown = [values[one.positives].tolist() for one in found]
    assert shown == [[200, 197, 194, 191], [199, 196, 193, 190], [198, 195, 192, 189]]


def test_candidates_take_turns_with_the_top_and_a_draw_from_the_upper_half():
    values = activation(200, 300)
    options = Interpret(n_candidates=3, n_examples=8, advanced=AdvancedInterpret(sampling="turns"))
    first, second, third = (values[one.positives].tolist() for one in naming_examples(values, options, rng()))
    assert (first, third) == ([200, 198, 196, 194], [199, 197, 195, 193])
    draws = [set(values[naming_examples(values, options, rng(k))[1].positives]) for k in range(50)]
    assert set(second) == draws[0]
    assert set.union(*draws) <= set(range(101, 193)), "the upper half without the eight strongest"
    assert len(set.union(*draws)) > 80, "all of it"


def test_positives_fire_negatives_are_silent_and_no_candidate_shares_either():
    values = activation(200, 300)
    found = naming_examples(values, Interpret(n_candidates=3, n_examples=20), rng())
    for one in found:
        assert (values[one.positives] > 0).all()
        assert (values[one.negatives] == 0).all()
        assert len(one.positives) == len(one.negatives) == 10
    rows = np.concatenate([np.concatenate([one.positives, one.negatives]) for one in found])
    assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize("sampling", ["turns", "top", "percentile"])
def test_half_of_the_firing_rows_stay_unseen_and_candidates_still_differ(sampling):
    values = activation(16, 300)
    options = Interpret(
        n_candidates=3, n_examples=20, advanced=AdvancedInterpret(sampling=sampling, percentiles=(0, 100))
    )
    found = naming_examples(values, options, rng())
    shown = [set(one.positives.tolist()) for one in found]
    assert len(set.union(*shown)) == 8
    small = naming_examples(values, options.model_copy(update={"n_examples": 8}), rng())
    assert len({frozenset(one.positives.tolist()) for one in small}) == 3
    assert all(len(one.positives) == 4 for one in small)


@pytest.mark.parametrize("n_firing", [0, 1])
def test_too_few_firing_rows_give_no_positives(n_firing):
    found = naming_examples(activation(n_firing, 30), Interpret(), rng())
    assert [len(one.positives) for one in found] == [0, 0, 0]


def test_a_neuron_that_is_never_silent_has_no_negatives():
    found = naming_examples(activation(50, 0), Interpret(n_candidates=1), rng())
    assert len(found[0].negatives) == 0
    assert len(found[0].positives) == 10


def test_percentile_draws_from_its_bin_only_and_by_seed():
    values = activation(1000, 1000)
    options = Interpret(
        n_candidates=2, n_examples=20, advanced=AdvancedInterpret(sampling="percentile", percentiles=(40, 60))
    )
    first, again, other = (naming_examples(values, options, rng(seed)) for seed in (1, 1, 2))
    shown = np.concatenate([values[one.positives] for one in first])
    assert shown.min() >= 400
    assert shown.max() <= 601
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.positives, b.positives)
        np.testing.assert_array_equal(a.negatives, b.negatives)
    assert set(first[0].positives.tolist()) != set(other[0].positives.tolist())


def test_fidelity_uses_no_seen_row_and_is_balanced():
    values = activation(60, 200)
    named = naming_examples(values, Interpret(), rng())
    seen = {int(row) for one in named for row in np.concatenate([one.positives, one.negatives])}
    found = fidelity_examples(values, seen, ScoreFidelity(n_examples=40), rng())
    assert not seen & set(np.concatenate([found.positives, found.negatives]).tolist())
    assert len(found.positives) == len(found.negatives) == 20
    assert len(set(found.positives.tolist())) == 20
    assert (values[found.positives] > 0).all()
    assert (values[found.negatives] == 0).all()


def test_fidelity_covers_every_tenth_of_the_firing_range():
    values = activation(1000, 1000)
    found = fidelity_examples(values, (), ScoreFidelity(n_examples=20), rng())
    tenths = (values[found.positives] - 1) // 100
    assert sorted(tenths.tolist()) == list(range(10))


def test_every_firing_row_is_equally_likely_in_fidelity():
    values = activation(10, 10)
    counts = np.zeros(20)
    for seed in range(600):
        counts[fidelity_examples(values, (), ScoreFidelity(n_examples=4), rng(seed)).positives] += 1
    # 600 draws of 2 out of 10: 120 expected each, standard deviation below 10.
    assert counts[values > 0].min() > 80
    assert counts[values > 0].max() < 160


def test_fidelity_without_silent_rows_is_empty():
    found = fidelity_examples(activation(10, 0), (), ScoreFidelity(), rng())
    assert len(found.positives) == len(found.negatives) == 0


def test_few_firing_rows_are_matched_by_as_few_silent_ones():
    found = fidelity_examples(activation(3, 100), (), ScoreFidelity(), rng())
    assert len(found.positives) == len(found.negatives) == 3
