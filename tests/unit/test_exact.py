import math

import numpy as np
import pytest
from scipy import stats

from hypsae_ray.stats import exact
from hypsae_ray.stats.exact import fisher_test, flip_test, permutation_test


def welch(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.abs(stats.ttest_ind(x, y, equal_var=False, axis=axis).statistic)


def by_scipy(yes: np.ndarray, no: np.ndarray, n_resamples: float = np.inf) -> float:
    found = stats.permutation_test(
        (yes, no), welch, n_resamples=n_resamples, vectorized=True, alternative="greater",
        rng=np.random.default_rng(5),
    )  # fmt: skip
    return float(found.pvalue)


def draw(n_yes: int, n_no: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.exponential(size=n_yes) + shift, rng.exponential(size=n_no)


@pytest.mark.parametrize(("n_yes", "n_no", "shift"), [(3, 9, 1.0), (9, 3, 1.0), (5, 6, 0.0), (2, 20, 2.0)])
def test_all_permutations_are_those_of_scipy(n_yes, n_no, shift):
    yes, no = draw(n_yes, n_no, shift)
    found = permutation_test(yes, no, np.random.default_rng(0), 9)
    assert found.pval == pytest.approx(by_scipy(yes, no))


def test_random_permutations_approach_those_of_scipy():
    yes, no = draw(7, 60, 0.8)
    found = permutation_test(yes, no, np.random.default_rng(0), 20_000)
    # Two estimates of p = 0.2 from 20,000 draws differ by 0.004 or so.
    assert found.pval == pytest.approx(by_scipy(yes, no, 20_000), abs=0.015)


def test_the_data_count_among_random_permutations():
    yes, no = draw(6, 40, 50.0)
    assert permutation_test(yes, no, np.random.default_rng(0), 999).pval == 1 / 1000


def test_ratings_with_many_ties():
    yes, no = np.array([5.0, 5, 4, 3]), np.array([1.0, 2, 5, 4, 4, 3, 2, 1])
    found = permutation_test(yes, no, np.random.default_rng(0), 9)
    assert found.pval == pytest.approx(by_scipy(yes, no))


def test_one_text_alone_is_ranked_by_hand():
    # Of 10 texts, only one other is as far from the mean of the rest as the one with the property.
    yes, no = np.array([9.0]), np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8])
    found = permutation_test(yes, no, np.random.default_rng(0), 9)
    assert found.pval == pytest.approx(2 / 10)
    assert math.isnan(found.ci_low)


def test_the_interval_holds_the_shifts_that_are_not_rejected():
    yes, no = draw(5, 9, 1.0)
    found = permutation_test(yes, no, np.random.default_rng(0), 9)
    assert found.ci_low < yes.mean() - no.mean() < found.ci_high
    for end, outward in ((found.ci_low, -1e-3), (found.ci_high, 1e-3)):
        assert by_scipy(yes - end - outward, no) <= 0.05
        assert by_scipy(yes - end + outward, no) > 0.05


def test_sides_can_be_exchanged():
    yes, no = draw(4, 9, 1.0)
    one = permutation_test(yes, no, np.random.default_rng(0), 9)
    other = permutation_test(no, yes, np.random.default_rng(0), 9)
    assert one.pval == other.pval
    assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))


def test_too_few_ways_to_permute_leave_the_interval_open():
    # 2 of 4 can be chosen in 6 ways: no p-value is below 1 / 3.
    found = permutation_test(np.array([3.0, 4]), np.array([1.0, 2]), np.random.default_rng(0), 9)
    assert (found.ci_low, found.ci_high) == (-math.inf, math.inf)
    assert found.pval == pytest.approx(1 / 3)


def test_a_target_that_varies_on_neither_side_is_tested():
    found = permutation_test(np.array([2.0, 2, 2]), np.array([1.0] * 9), np.random.default_rng(0), 9)
    assert found.pval == pytest.approx(1 / math.comb(12, 3))


def test_a_permutation_interval_covers_the_truth_as_often_as_it_says():
    rng, hits, below = np.random.default_rng(3), 0, 0
    for _ in range(300):
        found = permutation_test(rng.exponential(size=4) + 2, rng.exponential(size=8), rng, 999)
        hits += found.ci_low <= 2 <= found.ci_high
    for _ in range(1000):
        below += permutation_test(rng.exponential(size=1), rng.exponential(size=20), rng, 99).pval <= 0.1
    # Binomial(300, 0.95) has a standard deviation of 1.3 percent, Binomial(1000, 2 / 21) one of 0.9.
    assert 0.91 < hits / 300 < 0.99
    assert 0.065 < below / 1000 < 0.125


def test_fisher_is_scipys_with_newcombes_interval():
    found = fisher_test(7, 9, 12, 40)
    assert found.pval == pytest.approx(stats.fisher_exact([[7, 2], [12, 28]]).pvalue)
    # Newcombe's method 10: from Wilson's intervals of both shares.
    ends = [stats.binomtest(k, n).proportion_ci(method="wilson") for k, n in ((7, 9), (12, 40))]
    p, q = 7 / 9, 12 / 40
    low = p - q - math.hypot(p - ends[0].low, ends[1].high - q)
    high = p - q + math.hypot(ends[0].high - p, q - ends[1].low)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high))


def test_fisher_where_one_share_is_none_and_the_other_all():
    found = fisher_test(3, 3, 0, 3)
    assert found.pval == pytest.approx(2 / math.comb(6, 3))
    assert found.ci_low < 1 <= found.ci_high


def flip(scores, slopes=None, draws=9):
    scores = np.asarray(scores, float)
    slopes = np.full(len(scores), 1 / len(scores)) if slopes is None else np.asarray(slopes, float)
    return flip_test(scores.sum(), scores, slopes, np.random.default_rng(0), draws)


def test_sign_flips_by_hand():
    # Sums beside 6 and -6 that are as large: none. 2 of 8.
    assert flip([1, 2, 3]).pval == pytest.approx(2 / 8)
    # 1 - 2 + 4 = 3: as large in absolute value are +-7, +-5, +-3.
    assert flip([1, -2, 4]).pval == pytest.approx(6 / 8)


def test_fewer_than_six_groups_bound_no_effect_at_95_percent():
    # All signs as they are, or turned, are 2 of 32 however large the effect.
    found = flip([1, 2, 3, 4, 5])
    assert (found.ci_low, found.ci_high) == (-math.inf, math.inf)


def test_groups_without_a_score_do_not_count_and_none_at_all_is_no_evidence():
    assert flip([0, 1, 0, 2, 3], [0, 0.3, 0, 0.3, 0.4]).pval == pytest.approx(2 / 8)
    assert flip(np.zeros(4)).pval == 1


@pytest.mark.parametrize(("n", "tolerance"), [(10, 1e-12), (40, 0.015)])
def test_sign_flips_are_those_of_scipy_and_the_ends_of_their_interval_are_just_rejected(n, tolerance):
    # n groups of one text each, whose mean is the effect.
    texts = np.random.default_rng(1).normal(0.3, 1, n)

    def pval(effect: float) -> float:
        return stats.permutation_test(
            (texts - effect,), np.sum, permutation_type="samples", n_resamples=20_000,
            rng=np.random.default_rng(2),
        ).pvalue  # fmt: skip

    found = flip(texts / n, draws=20_000)
    assert found.pval == pytest.approx(pval(0), abs=tolerance)
    assert pval(found.ci_low) == pytest.approx(0.05, abs=0.005)
    assert pval(found.ci_high) == pytest.approx(0.05, abs=0.005)


def test_many_groups_are_flipped_less_often_but_a_thousand_times(monkeypatch):
    monkeypatch.setattr(exact, "_MOST_SIGNS", 1)
    # A thousand sums and none as far out: the lowest p-value that so many can show.
    assert flip(np.ones(100), draws=5000).pval == pytest.approx(1 / 1000)
