"""Two samples of the same hypotheses: against numbers worked out by hand, and against statsmodels."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from hypsae_ray import evaluate_hypotheses
from hypsae_ray.config.loading import load_replication, parse
from hypsae_ray.errors import ConfigError
from hypsae_ray.report import forest
from hypsae_ray.report.replication import headline
from hypsae_ray.stats.evaluate import Evaluation
from hypsae_ray.stats.replication import Replication, compare

NAN = float("nan")


def evaluation(*effects: tuple[float, float, float], link: str = "identity", **columns: list) -> Evaluation:
    """An evaluation of (coefficient, standard error, p-value) each; significant below 0.1."""
    coef, se, pval = np.array(effects, dtype=float).T
    table = pd.DataFrame(
        {
            "hypothesis_id": range(len(effects)),
            "hypothesis": [f"says {i}" for i in range(len(effects))],
            "n": 100,
            "feature_prevalence": 0.25,
            "regression_coef": coef,
            "regression_se": se,
            "regression_ci_low": coef - 1.97 * se,
            "regression_ci_high": coef + 1.97 * se,
            "regression_pval": pval,
            "regression_pval_adj": pval,
            "significant": pval < 0.1,
            "note": "",
        }
    )
    return Evaluation(table.assign(**columns), {"link": link, "n": 100}, [])


def compared(first: Evaluation, new: Evaluation, correction="bonferroni", alpha: float = 0.1) -> Replication:
    return compare(first, new, correction, alpha)


def test_difference_and_pooled_effect_are_those_worked_out_by_hand():
    found = compared(evaluation((1.0, 0.3, 0.001)), evaluation((0.4, 0.4, 0.3))).table.iloc[0]
    # se = sqrt(0.09 + 0.16); z = -0.6 / 0.5, whose two-sided p-value is that of 1.2 in any table
    assert found["difference"] == pytest.approx(-0.6) and found["difference_se"] == pytest.approx(0.5)
    assert found["difference_pval"] == pytest.approx(0.2301, abs=5e-5)
    assert found["difference_ci_low"] == pytest.approx(-1.57998, abs=1e-5)
    assert found["difference_ci_high"] == pytest.approx(0.37998, abs=1e-5)
    # weights 100/9 and 100/16: (100/9 + 2.5) / (625/36), se = sqrt(36/625)
    assert found["pooled_coef"] == pytest.approx(0.784) and found["pooled_se"] == pytest.approx(0.24)
    assert found["q"] == pytest.approx(1.44) and found["i2"] == pytest.approx(1 - 1 / 1.44)


def test_pooled_effects_and_heterogeneity_are_those_of_statsmodels():
    rng = np.random.default_rng(5)
    effects, errors = rng.normal(0, 1, (2, 20)), rng.uniform(0.1, 0.9, (2, 20))
    both = zip(effects, errors, strict=True)
    first, new = (evaluation(*zip(b, se, [0.01] * 20, strict=True)) for b, se in both)
    table = compared(first, new).table
    for i, row in table.iterrows():
        expected = combine_effects(effects[:, i], errors[:, i] ** 2)
        assert row["pooled_coef"] == pytest.approx(expected.mean_effect_fe)
        assert row["pooled_se"] == pytest.approx(expected.sd_eff_w_fe)
        assert (row["pooled_ci_low"], row["pooled_ci_high"]) == pytest.approx(expected.conf_int()[0])
        assert row["q"] == pytest.approx(expected.q) and row["i2"] == pytest.approx(max(expected.i2, 0))
        assert row["difference_pval"] == pytest.approx(expected.test_homogeneity().pvalue)
    adjusted = multipletests(table["difference_pval"], method="holm")[1]
    holm = compared(first, new, "holm").table
    np.testing.assert_allclose(holm["difference_pval_adj"], adjusted)
    assert holm["differs"].tolist() == (adjusted < 0.1).tolist() and 0 < holm["differs"].sum() < 20


def test_the_difference_is_the_interaction_with_the_sample_in_one_model_of_both():
    rng = np.random.default_rng(3)
    labels = [(rng.random((n, 3)) < 0.4).astype(float) for n in (150, 400)]
    effects = np.array([[0.5, -0.3, 0.0], [0.1, -0.3, 0.2]])
    targets = [one @ b + rng.normal(0, 1, len(one)) for one, b in zip(labels, effects, strict=True)]
    options = {"task": "regression", "folds": 0, "n_permutations": 0}
    first, new = (evaluate_hypotheses(*both, **options) for both in zip(labels, targets, strict=True))
    table = compared(first, new).table
    within = [sm.add_constant(one) for one in labels]
    second = np.vstack([np.zeros_like(within[0]), within[1]])
    design = np.column_stack([np.vstack(within), second])
    stacked = sm.OLS(np.concatenate(targets), design).fit(cov_type="HC3", use_t=False)
    np.testing.assert_allclose(table["difference"], stacked.params[5:], rtol=1e-8)
    np.testing.assert_allclose(table["difference_se"], stacked.bse[5:], rtol=1e-8)
    np.testing.assert_allclose(table["difference_pval"], stacked.pvalues[5:], rtol=1e-6)
    assert table["first_n"].eq(150).all() and table["new_n"].eq(400).all()
    np.testing.assert_allclose(table["new_prevalence"], labels[1].mean(axis=0))


def test_an_effect_replicates_with_its_sign_and_a_p_value_adjusted_over_the_significant_ones():
    first = evaluation((1, 0.2, 0.001), (1, 0.2, 0.001), (-1, 0.2, 0.001), (1, 0.2, 0.001), (1, 0.9, 0.5))
    new = evaluation((0.9, 0.2, 0.02), (0.6, 0.3, 0.03), (1, 0.2, 0.001), (NAN, NAN, NAN), (1, 0.2, 0.001))
    found = compared(first, new)
    # adjusted over four: 0.08, 0.12, 0.004 (of the other sign), and one that has no p-value, but counts
    assert found.table["new_pval_adj"].tolist()[:3] == pytest.approx([0.08, 0.12, 0.004])
    assert found.table["new_pval_adj"].isna().tolist() == [False, False, False, True, True]
    replicates = [None if pd.isna(one) else bool(one) for one in found.table["replicates"]]
    assert replicates == [True, False, False, None, None]
    expected = {"n_significant": 4, "n_replicated": 1, "n_not_measured": 1, "n_differing": 1, "n_compared": 4}
    assert found.metrics.items() >= expected.items()
    assert headline(found.metrics) == (
        "1 of 4 significant effects replicate on 100 new texts; 1 could not be measured there; "
        "1 of 4 differs from the first run"
    )


def test_what_has_no_estimate_stays_empty_and_says_why():
    why = "no coefficient: it has no usable label"
    first = evaluation((1, 0.2, 0.001), (NAN, NAN, NAN), (1, NAN, NAN), note=["", why, ""])
    new = evaluation((1, 0, 0.001), (1, 0.2, 0.001), (1, 0.2, 0.001), note=["rare", None, ""])
    table = compared(first, new).table
    compared_columns = ["difference", "difference_pval", "difference_pval_adj", "pooled_coef", "q", "i2"]
    assert table[compared_columns].isna().all(axis=None) and not table["differs"].any()
    assert table["note"].tolist() == [
        "new texts: rare; no standard error of the coefficient",
        f"first run: {why}",
        "first run: no standard error of the coefficient",
    ]
    assert table["new_coef"].tolist() == [1, 1, 1]


def test_a_note_says_where_a_z_test_is_too_bold():
    first, new = evaluation((1, 0.2, 0.001)), evaluation((1, 0.2, 0.04))
    of_few = new.table.assign(regression_ci_low=1 - 3.2 * 0.2, regression_ci_high=1 + 3.2 * 0.2)
    (note,) = compared(first, Evaluation(of_few, new.metrics, [])).table["note"]
    assert note.startswith("new texts: its interval is far wider than its standard error makes it: z tests")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (evaluation((1, 0.2, 0.01), link="logit"), "has link identity, the second logit"),
        (evaluation((1, 0.2, 0.01), (1, 0.2, 0.01)), r"of other hypotheses \(1 and 2 rows\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(new: Evaluation, message: str):
    with pytest.raises(ValueError, match=message):
        compared(evaluation((1, 0.2, 0.01)), new)


def test_where_nothing_was_significant_the_headline_says_so():
    found = compared(evaluation((1, 0.9, 0.4)), evaluation((1, 0.2, 0.001)))
    assert headline(found.metrics) == (
        "no effect of the first run is significant; 100 new texts; 0 of 1 differ from the first run"
    )
    assert found.table["new_pval_adj"].isna().all() and found.table["replicates"].isna().all()


def test_lanes_lie_one_above_the_other():
    axis = forest.scale(np.array([0.0, 1.0]), np.array([-1.0, 0.5]), np.array([1.0, 1.5]))
    top, middle, low = forest.lanes(axis, {"a": (0, -1, 1), "b": (1, 0.5, 1.5), "c": (NAN, 0, 1)})
    assert (top.y, middle.y, low.y) == (16.67, 50, 83.33) and low.interval is None
    assert top.interval is not None and top.interval.at == axis.percent(0)


def test_gold_labels_and_samples_of_a_run_are_about_its_own_rows():
    config = parse(
        {
            "data": {"train": "a.csv", "holdout": "b.csv", "target": "y"},
            "annotate": {"sample": {"half_width": 0.1}, "max_words": 60},
            "evaluate": {"gold": "gold.csv", "alpha": 0.05},
        },
        "a run",
    )
    job = load_replication(config, "new.csv", {}, {})
    assert (job.annotate.sample, job.annotate.max_words) == (None, 60)
    assert (job.testing.evaluate.gold, job.testing.evaluate.alpha) == (None, 0.05)
    for name, value in (("evaluate.gold", "gold.csv"), ("annotate.sample.half_width", "0.1")):
        with pytest.raises(ConfigError, match=r"evaluate\.gold is about|half_width is about"):
            load_replication(config, "new.csv", {}, {name: value})
