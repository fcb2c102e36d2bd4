import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.linalg import block_diag

from hypsae_ray.stats import separation as separation_module
from hypsae_ray.stats.sample import GROUP_BYTES, LabelArray, Sample, slices
from hypsae_ray.stats.separation import PAIRS, PRESENCE, Contrast, Separation, separations, sum_sides

DOES_NOT_VARY = "no test of the separation: the target does not vary on either side"


def compare(labels, target, contrast: Contrast = PRESENCE, **known) -> list[Separation]:
    sample = Sample(LabelArray(np.asarray(labels, float)), np.asarray(target, float), **known)
    return separations(sample, sum_sides(sample, contrast), np.random.default_rng(0))


def separation(labels, target, contrast: Contrast = PRESENCE, **known) -> Separation:
    (found,) = compare(np.asarray(labels, float)[:, None], target, contrast, **known)
    return found


def numbers(found: Separation) -> list[float]:
    return [found.score, found.se, found.ci_low, found.ci_high, found.pval]


def draw(n: int = 400, share: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(float)
    return labels, rng.normal(0.4 * labels, 1 + 2 * labels)


def pairs(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of pairs, and a number for each."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1.0, 0, 1], n, p=[0.3, 0.4, 0.3])
    return labels, rng.normal(0.3 * labels + 5, 1 + (labels == 1))


def test_it_is_scipys_welch_test_on_the_labelled_texts():
    labels, target = draw()
    labels[::7] = np.nan
    yes, no = target[labels == 1], target[labels == 0]
    welch = stats.ttest_ind(yes, no, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    found = separation(labels, target)
    score = yes.mean() - no.mean()
    assert numbers(found) == pytest.approx([score, score / welch.statistic, low, high, welch.pvalue])
    assert (found.test, found.note) == ("Welch", "")


def test_the_size_of_the_target_does_not_matter():
    labels, target = draw()
    far = separation(labels, 1e8 + target)
    assert numbers(far) == pytest.approx(numbers(separation(labels, target)), rel=1e-6)


def test_every_hypothesis_is_compared_as_if_alone():
    labels = np.column_stack([draw(share=share, seed=seed)[0] for seed, share in enumerate((0.1, 0.5, 0.9))])
    target, groups = draw(seed=7)[1], np.arange(400) // 3
    for known in ({}, {"groups": groups}):
        alone = [separation(column, target, **known) for column in labels.T]
        for one, other in zip(compare(labels, target, **known), alone, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-12)
            assert one.test == other.test


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    labels = np.repeat([1.0, 0.0], [15, 200])
    for _ in range(2000):
        found = separation(labels, rng.normal(labels, np.where(labels == 1, 3, 1)))
        hits += found.ci_low <= 1 <= found.ci_high
    # Binomial(2000, 0.95) has a standard deviation of 0.5 percent.
    assert 0.93 < hits / 2000 < 0.97


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_with_every_text_a_group_of_its_own_it_is_welchs_test(share):
    labels, target = draw(share=share)
    labels[:20] = np.nan
    alone, grouped = separation(labels, target), separation(labels, target, groups=np.arange(400)[::-1])
    assert (alone.test, grouped.test) == ("Welch", "cluster-robust")
    assert numbers(grouped) == pytest.approx(numbers(alone), rel=1e-10)


def cr2(labels: np.ndarray, target: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Standard error and degrees of freedom of the difference of two means, with matrices."""
    order = np.argsort(groups, kind="stable")
    yes, y, groups = labels[order], target[order], groups[order]
    X = np.column_stack([yes, 1 - yes])
    hat = X @ np.linalg.inv(X.T @ X) @ X.T
    blocks = [hat[np.ix_(groups == g, groups == g)] for g in np.unique(groups)]
    half = []
    for block in blocks:
        values, vectors = np.linalg.eigh(np.eye(len(block)) - block)
        half.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    to_effect = np.array([1, -1]) @ np.linalg.inv(X.T @ X) @ X.T
    # One row per group: its score is this row times the target.
    rows = np.array([to_effect * (groups == g) for g in np.unique(groups)]) @ block_diag(*half)
    rows = rows @ (np.eye(len(y)) - hat)
    variance = np.where(yes == 1, y[yes == 1].var(ddof=1), y[yes == 0].var(ddof=1))
    products = (rows * variance) @ rows.T
    return math.sqrt(((rows @ y) ** 2).sum()), np.trace(products) ** 2 / (products**2).sum()


def test_the_cluster_robust_test_is_cr2_with_the_degrees_of_freedom_of_bell_and_mccaffrey():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 25, 200)
    labels = (rng.random(200) < np.where(groups < 10, 0.7, 0.2)).astype(float)
    target = rng.normal(size=25)[groups] + rng.normal(labels, 1 + labels)
    found, (se, freedom) = separation(labels, target, groups=groups), cr2(labels, target, groups)
    assert found.test == "cluster-robust"
    assert found.se == pytest.approx(se, rel=1e-10)
    assert found.ci_high - found.score == pytest.approx(stats.t.ppf(0.975, freedom) * se, rel=1e-10)
    assert found.pval == pytest.approx(2 * stats.t.sf(abs(found.score) / se, freedom), rel=1e-9)


@pytest.mark.parametrize(
    ("labels", "target", "score", "note"),
    [
        ([1, 1, 1], [1, 2, 3], math.nan, "every labelled text has it: nothing to compare with"),
        ([0, 0, np.nan], [1, 2, 3], math.nan, "no labelled text has it"),
        ([np.nan] * 3, [1, 2, 3], math.nan, "no text has a usable label"),
        ([], [], math.nan, "no text has a usable label"),
        ([1] * 20 + [0] * 20, [3] * 40, 0, DOES_NOT_VARY),
        ([1] * 5 + [0] * 20, [3] * 25, 0, DOES_NOT_VARY),
    ],
)  # fmt: skip
def test_a_separation_without_a_test_says_why(labels, target, score, note):
    found = separation(labels, target)
    assert found.score == pytest.approx(score, nan_ok=True)
    assert math.isnan(found.pval)
    assert (found.test, found.note) == ("", note)


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([1, 1, 0, 0], "it is always the same text of a pair that has it: nothing to compare with"),
        ([0, -1, -1, 0], "it is always the same text of a pair that has it: nothing to compare with"),
        ([0, 0, 0, 0], "no pair of texts differs in it"),
    ],
)
def test_pairs_that_cannot_be_compared_say_why(labels, note):
    found = separation(labels, [1, 0, 1, 0], PAIRS)
    assert math.isnan(found.score) and math.isnan(found.pval)
    assert found.note == note


@pytest.mark.parametrize(
    ("groups", "note"),
    [
        ([0] * 20 + [1] * 20, "no test of the separation: all texts of one side are of one group"),
        (np.arange(40) % 2, ""),
    ],
)
def test_a_side_within_one_group_cannot_be_tested(groups, note):
    labels, target = np.repeat([1.0, 0.0], 20), np.random.default_rng(0).normal(size=40)
    found = separation(labels, target, groups=np.array(groups))
    assert found.score == pytest.approx(target[:20].mean() - target[20:].mean())
    assert found.note == note
    assert math.isnan(found.pval) is bool(note)


def test_one_text_on_one_side_with_groups_or_weights_has_no_test():
    target = [5.0, 2, 4, 3]
    for known in ({"groups": np.arange(4)}, {"weights": np.ones(4)}):
        found = separation([1, 0, 0, 0], target, **known)
        assert found.score == pytest.approx(2)
        assert found.note == "no test of the separation: only one text on one side"


@pytest.mark.parametrize(("n_yes", "test"), [(9, "permutation"), (10, "Welch"), (41, "permutation")])
def test_few_texts_on_one_side_are_permuted(n_yes, test):
    target = np.random.default_rng(0).exponential(size=50) + np.arange(50) / 25
    found = separation(np.arange(50) < n_yes, target)
    assert found.test == test
    if test == "permutation":
        expected = stats.permutation_test(
            (target[:n_yes], target[n_yes:]),
            lambda x, y, axis: np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic),
            n_resamples=20_000, alternative="greater", vectorized=True, rng=np.random.default_rng(1),
        )  # fmt: skip
        # Two estimates of p from 10,000 and 20,000 draws differ by 0.006 at the most, or so.
        assert found.pval == pytest.approx(expected.pvalue, abs=0.018)
        assert found.ci_low < found.score < found.ci_high


@pytest.mark.parametrize(("cell", "test"), [(9, "Fisher"), (10, "Welch")])
def test_few_outcomes_of_one_kind_on_one_side_are_fishers(cell, test):
    # 60 with the property, `cell` of which have the larger value; 60 without, half of them have.
    labels = np.repeat([1.0, 0.0], 60)
    target = np.concatenate([np.arange(60) < cell, np.arange(60) < 30]).astype(float)
    one, wide = separation(labels, target), separation(labels, 2 + 3 * target)
    assert one.test == wide.test == test
    if test == "Fisher":
        exact = stats.fisher_exact([[cell, 60 - cell], [30, 30]]).pvalue
        assert one.pval == wide.pval == pytest.approx(exact)
    # Scores and intervals are in units of the target.
    assert np.array(numbers(wide)[:4]) == pytest.approx(3 * np.array(numbers(one)[:4]))


def test_small_cells_in_pairs():
    labels, target = pairs()
    choice = (target > 5).astype(float)
    few = np.where((labels == 1) & (np.cumsum(labels == 1) > 6), 0.0, labels)
    exact = separation(few, choice, PAIRS)
    ones = [int(choice[few == side].sum()) for side in (1, -1)]
    n = [int((few == side).sum()) for side in (1, -1)]
    table = [[ones[0], n[0] - ones[0]], [ones[1], n[1] - ones[1]]]
    assert exact.test == "Fisher"
    assert exact.pval == pytest.approx(stats.fisher_exact(table).pvalue)
    assert exact.score == pytest.approx((ones[0] / n[0] - ones[1] / n[1]) / 2)
    assert -0.5 <= exact.ci_low < exact.score < exact.ci_high <= 0.5

    permuted = separation(few, target, PAIRS)
    sides = np.where(few == 1, 1.0, np.where(few == -1, 0.0, np.nan))
    presence = separation(sides, target)
    assert permuted.test == presence.test == "permutation"
    assert permuted.pval == presence.pval
    assert np.array(numbers(permuted)[:4]) == pytest.approx(np.array(numbers(presence)[:4]) / 2)


def wild_bootstrap(labels, target, groups, effect: float) -> float:
    """The p-value of an effect by all flips of groups' residuals, each with a regression of its own."""
    X = sm.add_constant(labels.astype(float))
    shifted = target - effect * labels
    share = np.bincount(groups)[groups] / len(groups)
    residuals = (shifted - shifted.mean()) / np.sqrt(1 - share)
    seen = abs(sm.OLS(shifted, X).fit().params[1])
    flips = itertools.product((-1.0, 1.0), repeat=groups.max() + 1)
    drawn = [
        abs(np.linalg.lstsq(X, np.array(signs)[groups] * residuals, rcond=None)[0][1]) for signs in flips
    ]
    return float(np.mean(np.array(drawn) >= seen - 1e-12))


def few_groups(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """11 groups of 4 to 6 texts; two have both kinds of texts, three more have the property in all."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(11), rng.integers(4, 7, 11))
    labels = np.where(groups < 2, np.arange(len(groups)) % 2, groups < 5)
    return labels, rng.normal(size=11)[groups] + rng.normal(size=len(groups)) + 2 * labels, groups


@pytest.mark.parametrize("seed", [0, 1])
def test_properties_of_few_groups_are_tested_by_the_restricted_wild_bootstrap(seed):
    labels, target, groups = few_groups(seed)
    found = separation(labels, target, groups=groups)
    assert found.test == "sign flips"
    assert found.score == pytest.approx(target[labels == 1].mean() - target[labels == 0].mean())
    assert found.pval == wild_bootstrap(labels, target, groups, 0)
    inside = 1e-6 * (found.ci_high - found.ci_low)
    for end, inwards in ((found.ci_low, inside), (found.ci_high, -inside)):
        assert wild_bootstrap(labels, target, groups, end + inwards) > 0.05
        assert wild_bootstrap(labels, target, groups, end - inwards) <= 0.05


def test_a_strong_effect_in_few_groups_is_found():
    # 8 of 60 groups with it: chance puts them all on one side in 2 of 256 cases.
    groups = np.repeat(np.arange(60), 5)
    target = np.random.default_rng(0).normal(size=300) + 5 * (groups < 8)
    assert separation(groups < 8, target, groups=groups).pval < 0.01


def test_a_score_of_pairs_is_half_of_the_difference():
    labels, target = pairs()
    first, second = target[labels == 1], target[labels == -1]
    welch = stats.ttest_ind(first, second, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    found = separation(labels, target, PAIRS)
    half = (first.mean() - second.mean()) / 2
    assert numbers(found) == pytest.approx([half, half / welch.statistic, low / 2, high / 2, welch.pvalue])


def test_a_habit_of_choosing_the_first_leaves_a_score_of_nothing_at_nothing():
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        labels = rng.choice([-1.0, 0, 1], (400, 5), p=[0.3, 0.4, 0.3])
        found += compare(labels, rng.random(400) < 0.6, PAIRS)
    # A score has a standard deviation of sqrt(0.24 / 120 x 2) / 2 = 0.032, the mean of 500 one of 0.0014.
    assert np.mean([one.score for one in found]) == pytest.approx(0, abs=0.006)
    # Binomial(500, 0.05) has a standard deviation of 1 percent.
    assert 0.02 < np.mean([one.pval < 0.05 for one in found]) < 0.08


def test_a_property_that_moves_the_choice_has_that_score_whatever_the_habit():
    rng = np.random.default_rng(0)
    labels = rng.choice([-1.0, 0, 1], 40_000)
    choice = rng.random(40_000) < 0.6 + 0.15 * labels
    # A standard error of sqrt((0.75 x 0.25 + 0.45 x 0.55) / 13,333) / 2 = 0.0029.
    assert separation(labels, choice, PAIRS).score == pytest.approx(0.15, abs=0.012)


@pytest.mark.parametrize("known", [{}, {"groups": np.arange(400) // 5}])
def test_equal_weights_change_nothing(known):
    labels, target = draw()
    plain, weighted = (
        separation(labels, target, **known, **more) for more in ({}, {"weights": np.full(400, 2.5)})
    )
    assert numbers(weighted) == pytest.approx(numbers(plain), rel=1e-10)
    assert weighted.test == plain.test


@pytest.mark.parametrize("known", [{}, {"groups": np.arange(400) // 5}])
def test_whole_weights_give_the_means_of_repeated_texts(known):
    labels, target = draw()
    weights = np.random.default_rng(1).integers(1, 6, 400)
    again, y = np.repeat(labels, weights), np.repeat(target, weights)
    found = separation(labels, target, weights=weights.astype(float), **known)
    assert found.score == pytest.approx(y[again == 1].mean() - y[again == 0].mean())


def test_weights_and_repeats_of_whole_groups_have_the_same_errors():
    # A group's residuals are added up before they are squared, so that both ways make one sum.
    labels, target = draw()
    weights, groups = np.random.default_rng(1).integers(1, 6, 400), np.arange(400) // 5
    found = separation(labels, target, weights=weights.astype(float), groups=groups)
    again = [np.repeat(values, weights) for values in (labels, target, groups)]
    assert found.se == pytest.approx(separation(again[0], again[1], groups=again[2]).se, rel=1e-10)


def test_the_error_of_a_weighted_mean_by_hand():
    # Weights 1 and 3 around means of 4.5 and 1.75: residuals 1.5, -0.5 and 0.75, -0.25.
    found = separation([1, 1, 0, 0], [6, 4, 2.5, 1.5], weights=np.array([1.0, 3, 1, 3]))
    # Sum of squared weighted residuals over the squared weight of a side, times n / (n - 1) = 2.
    variance = 2 * (1.5**2 + 1.5**2) / 16, 2 * (0.75**2 + 0.75**2) / 16
    assert found.score == pytest.approx(4.5 - 1.75)
    assert found.se == pytest.approx(math.sqrt(sum(variance)))
    # Each side counts as 16 / 10 texts of equal weight.
    freedom = sum(variance) ** 2 / sum(one**2 / 0.6 for one in variance)
    assert found.pval == pytest.approx(2 * stats.t.sf(found.score / found.se, freedom))
    assert found.test == "Welch"


def test_weighted_tests_hold_their_level():
    rng, below = np.random.default_rng(0), []
    for _ in range(100):
        labels, weights = rng.random((300, 5)) < 0.2, rng.exponential(size=300) + 0.1
        below += [one.pval < 0.05 for one in compare(labels, rng.normal(size=300), weights=weights)]
    # Binomial(500, 0.05) has a standard deviation of 1 percent.
    assert 0.02 < np.mean(below) < 0.08


def test_columns_are_read_in_parts_whose_sums_by_group_fit_into_memory(monkeypatch):
    # 8,388,608 groups: 256 MiB of sums per column, of which four are held at once.
    parts = slices(10, 4 * 8 * 2**23, GROUP_BYTES)
    assert [(part.start, part.stop) for part in parts] == [(0, 4), (4, 8), (8, 10)]
    assert len(list(slices(10, 4 * 8 * 2, GROUP_BYTES))) == 1
    rng, widths = np.random.default_rng(0), []
    labels, target, groups = rng.integers(0, 2, (60, 5)), rng.normal(size=60), np.arange(60) // 2
    whole, read = compare(labels, target, groups=groups), separation_module._group_sums

    def note(sample, groups, sides, columns):
        widths.append(columns.stop - columns.start)
        return read(sample, groups, sides, columns)

    monkeypatch.setattr(separation_module, "_group_sums", note)
    monkeypatch.setattr(separation_module, "GROUP_BYTES", 4 * 8 * 30 * 2)
    assert compare(labels, target, groups=groups) == whole
    assert widths == [2, 2, 1]
