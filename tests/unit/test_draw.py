import numpy as np

from hypsae_ray.data.arrays import hash_ids, largest_drawn


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
