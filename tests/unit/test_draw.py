import numpy as np

from hypsae_ray.data.arrays import hash_ids, largest_drawn
from hypsae_ray.labels.draw import FOR_PEOPLE, uniform_numbers


def test_hashes_are_those_of_splitmix64():
    # The first outputs of the reference generator with seed 0: the k-th mixes k times the golden gamma.
    states = np.array([k * 0x9E3779B97F4A7C15 % 2**64 for k in range(4)], dtype=np.uint64).view(np.int64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert hash_ids(states).tolist() == expected


def test_samples_of_neighbouring_ids_are_spread_evenly():
    ids = np.arange(100_000)
    hashes = hash_ids(ids)
    assert len(np.unique(hashes)) == len(ids)
    drawn = ids[hashes <= largest_drawn(hashes, 10_000)]
    assert len(drawn) == 10_000
    # Of ten strata of 10,000 each gives 1,000 of 10,000, with a standard deviation of 28.5.
    assert np.abs(np.bincount(drawn // 10_000) - 1000).max() < 4 * 28.5
    assert abs((drawn % 2).mean() - 0.5) < 4 * 0.005


def test_a_larger_sample_holds_the_smaller_one():
    hashes = hash_ids(np.arange(500))
    samples = [set(np.flatnonzero(hashes <= largest_drawn(hashes, size))) for size in (1, 7, 100, 500)]
    assert [len(sample) for sample in samples] == [1, 7, 100, 500]
    assert samples[0] < samples[1] < samples[2] < samples[3]


def test_what_people_label_has_nothing_to_do_with_what_a_model_was_given():
    ids = np.arange(20_000)
    model, people = uniform_numbers(ids), uniform_numbers(ids, FOR_PEOPLE)
    assert ((people >= 0) & (people < 1)).all() and abs(people.mean() - 0.5) < 4 * 0.29 / np.sqrt(len(ids))
    assert abs(np.corrcoef(model, people)[0, 1]) < 4 / np.sqrt(len(ids))
    np.testing.assert_array_equal(uniform_numbers(ids[5:9], FOR_PEOPLE), people[5:9])
