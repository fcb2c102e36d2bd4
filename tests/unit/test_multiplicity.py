import numpy as np
import pytest
from scipy import stats

from hypsae_ray.stats.multiplicity import correct

PVAL = np.array([0.01, 0.04, 0.03, 0.005])


@pytest.mark.parametrize(
    ("correction", "adjusted", "level"),
    [
        ("bonferroni", [0.04, 0.16, 0.12, 0.02], 1 - 0.05 / 4),
        ("holm", [0.03, 0.06, 0.06, 0.02], 1 - 0.05 / 4),
        ("fdr_bh", [0.02, 0.04, 0.04, 0.02], 0.95),
        # 1 + 1/2 + 1/3 + 1/4 = 25/12 times as much as before; two are below 0.05.
        ("fdr_by", [1 / 24, 1 / 12, 1 / 12, 1 / 24], 1 - 0.05 * 2 / 4 / (25 / 12)),
        ("none", [0.01, 0.04, 0.03, 0.005], 0.95),
    ],
)
def test_four_p_values_by_hand(correction, adjusted, level):
    found = correct(PVAL, correction, 0.05)
    np.testing.assert_allclose(found.pval, adjusted)
    assert found.level == pytest.approx(level)


@pytest.mark.parametrize("correction", ["bonferroni", "holm", "fdr_bh", "fdr_by"])
def test_tests_that_failed_count(correction):
    found = correct(np.array([np.nan, 0.02, np.nan]), correction, 0.1)
    harmonic = 1 + 1 / 2 + 1 / 3 if correction == "fdr_by" else 1
    assert np.isnan(found.pval).tolist() == [True, False, True]
    assert found.pval[1] == pytest.approx(3 * 0.02 * harmonic)
    assert found.level == pytest.approx(1 - 0.1 / 3 / harmonic)


def test_nothing_selected_leaves_intervals_as_for_one():
    assert correct(np.array([0.9, 0.8]), "fdr_bh", 0.1).level == pytest.approx(0.95)


@pytest.mark.parametrize("correction", ["bonferroni", "holm", "fdr_bh", "fdr_by", "none"])
def test_no_test_and_one_test(correction):
    assert correct(np.zeros(0), correction, 0.1).pval.shape == (0,)
    one = correct(np.array([0.03]), correction, 0.1)
    assert (one.pval[0], one.level) == pytest.approx((0.03, 0.9))


def test_adjusted_p_values_end_at_1():
    assert correct(np.array([0.6, 0.7]), "bonferroni", 0.1).pval.tolist() == [1, 1]


@pytest.mark.parametrize(("correction", "bound"), [("fdr_bh", 0.1), ("fdr_by", 0.1 / 3)])
def test_intervals_of_what_is_selected_miss_the_truth_as_rarely_as_they_say(correction, bound):
    rng, missed = np.random.default_rng(0), []
    truth = np.repeat([0.0, 2.0, 3.0], [10, 5, 5])
    for _ in range(1500):
        seen = rng.normal(truth)
        found = correct(2 * stats.norm.sf(np.abs(seen)), correction, 0.1)
        selected = found.pval < 0.1
        margin = stats.norm.ppf((1 + found.level) / 2)
        missed.append((np.abs(seen - truth)[selected] > margin).sum() / max(selected.sum(), 1))
    # The mean of 1,500 shares has a standard error of 0.003; 1 + ... + 1/20 = 3.6.
    assert np.mean(missed) < bound + 0.01
