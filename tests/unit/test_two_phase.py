"""Estimates from partly labelled rows, against numbers by hand, statsmodels and simulations."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit
from scipy.stats import norm

import hypsae_ray
from hypsae_ray.config import Evaluate
from hypsae_ray.errors import InputError
from hypsae_ray.stats.analysis import analyse, method_of
from hypsae_ray.stats.evaluate import evaluate
from hypsae_ray.stats.sample import Drawn, LabelArray, Sample, drawn_sample
from hypsae_ray.stats.two_phase.probabilities import allocate, pooled, rows_for, spread_of_influence
from hypsae_ray.stats.two_phase.proxied import use_proxies

FAST = {"folds": 0, "n_bootstrap": 0, "n_permutations": 0}
OPTIONS = Evaluate(**FAST)


def population(seed: int, n: int, n_hypotheses: int = 2, auc: float = 0.9):
    """Labels, proxies that are their probability given a score of this AUC, and normal noise."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, n_hypotheses)) < 0.3).astype(float)
    apart = np.sqrt(2) * norm.ppf(auc)
    score = rng.normal(size=labels.shape) + apart * labels
    proxies = expit(np.log(0.3 / 0.7) + apart * score - apart**2 / 2)
    return labels, proxies, rng.normal(size=n), rng


def only(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Labels of some rows, NaN elsewhere."""
    found = np.full(labels.shape, np.nan)
    found[rows] = labels[rows]
    return found


def table(labels: np.ndarray, target: np.ndarray, task: str = "regression", **given) -> pd.DataFrame:
    return hypsae_ray.evaluate_hypotheses(labels, target, task=task, **FAST, **given).table


def drawn_rows(rng: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    return np.flatnonzero(rng.random(len(chance)) < chance)


def least_squares(labels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Coefficients of labels where all rows count the same."""
    X = np.column_stack([np.ones(len(labels)), labels])
    return np.linalg.lstsq(X, target, rcond=None)[0][1:]


def influences_of_wls(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, and the influence of each row on them as leaving it out shows it."""
    fit = sm.WLS(y, X, weights=w).fit()
    bread = np.linalg.inv((X * w[:, None]).T @ X)
    leverage = w * ((X @ bread) * X).sum(axis=1)
    return fit.params, (X @ bread) * (w * fit.resid / (1 - leverage))[:, None]


def corrected_by_hand(theta, L, gamma, D, everywhere, A, at, own):
    """Predict-then-debias with Omega from influences, written out; `own`: only a coefficient's own gamma."""
    padded, difference = np.zeros_like(A), -A
    padded[at], difference[at] = L, D - A[at]
    cross, square = padded.T @ difference, difference.T @ difference
    omega = np.diag(np.diag(cross) / np.diag(square)) if own else cross @ np.linalg.inv(square)
    residual = padded - difference @ omega.T
    used = 1 if own else len(theta)
    variance = (residual**2).sum(axis=0) * len(at) / (len(at) - used)
    return theta - omega @ (gamma - everywhere), np.sqrt(variance)


@pytest.mark.parametrize(("size", "own"), [(200, True), (900, False)])
def test_coefficients_of_least_squares_are_those_written_out(size: int, own: bool):
    labels, proxies, noise, rng = population(0, 3000)
    target = 1 + labels @ [0.5, -0.2] + noise
    chance = np.clip(size / 3000 * np.exp(0.5 * noise), 0, 1)
    at = drawn_rows(rng, chance)
    found = table(only(labels, at), target, probability=chance, proxies=proxies)
    one, w = np.ones((3000, 1)), (1 / chance)[at]
    Z, M = np.hstack([one, labels]), np.hstack([one, proxies])
    theta, L = influences_of_wls(Z[at], target[at], w / w.mean())
    gamma, D = influences_of_wls(M[at], target[at], w / w.mean())
    everywhere, A = influences_of_wls(M, target, np.ones(3000))
    value, se = corrected_by_hand(theta, L, gamma, D, everywhere, A, at, own)
    np.testing.assert_allclose(found["regression_coef"], value[1:], rtol=1e-6)
    np.testing.assert_allclose(found["regression_se"], se[1:], rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "family"), [("classification", sm.families.Binomial()), ("count", sm.families.Poisson())]
)
def test_coefficients_of_logit_and_poisson_are_those_written_out(task: str, family):
    labels, proxies, _, rng = population(1, 4000)
    eta = -0.3 + labels @ [0.6, -0.4]
    target = (
        (rng.random(4000) < expit(eta)).astype(float)
        if task == "classification"
        else rng.poisson(np.exp(eta))
    )
    at = np.sort(rng.choice(4000, 1000, replace=False))

    def fit(X, y):
        model = sm.GLM(y, X, family=family).fit(tol=1e-12)
        mu = model.fittedvalues
        V = mu * (1 - mu) if task == "classification" else mu
        bread = np.linalg.inv((X * V[:, None]).T @ X)
        leverage = V * ((X @ bread) * X).sum(axis=1)
        moves = (X @ bread) * (y - mu)[:, None]
        return model, moves, moves / (1 - leverage)[:, None]

    one = np.ones((4000, 1))
    Z, M = np.hstack([one, labels]), np.hstack([one, proxies])
    labelled, *L = fit(Z[at], target[at])
    of_drawn, *D = fit(M[at], target[at])
    of_all, *A = fit(M, target)
    hc3 = int(task == "count")  # the logit has the errors of its likelihood
    parts = (labelled.params, L[hc3], of_drawn.params, D[hc3], of_all.params, A[hc3])
    value, se = corrected_by_hand(*parts, at, own=False)
    if not hc3:
        se *= labelled.bse / np.sqrt((L[0] ** 2).sum(axis=0))
    found = table(only(labels, at), target, task, probability=np.full(4000, 0.25), proxies=proxies)
    np.testing.assert_allclose(found["regression_coef"], value[1:], rtol=1e-5)
    np.testing.assert_allclose(found["regression_se"], se[1:], rtol=1e-5)
    assert found["average_effect"].notna().all()


def test_prevalence_of_rows_drawn_with_known_probabilities_is_hajeks():
    chance = np.array([0.5, 0.25, 0.5, 0.1, 0.2, 0.5])
    labels = np.array([[1.0], [0], [np.nan], [1], [0], [1]])
    found = table(labels, np.arange(6.0), probability=chance).iloc[0]
    w = np.array([2.0, 4, 10, 5, 2])
    share = (2 + 10 + 2) / 23
    assert found["feature_prevalence"] == pytest.approx(share)
    moves = w * (np.array([1, 0, 1, 0, 1]) - share) / 23
    n = share * (1 - share) / ((moves**2).sum() * 5 / 4)
    n *= (1.96 / 12.706) ** 2  # t of one degree of freedom: either side counts as two texts of equal weight
    centre = (share + 1.96**2 / (2 * n)) / (1 + 1.96**2 / n)
    margin = 1.96 * np.sqrt(share * (1 - share) / n + 1.96**2 / (4 * n**2)) / (1 + 1.96**2 / n)
    assert found["prevalence_ci_low"] == pytest.approx(max(centre - margin, 0), abs=1e-4)
    assert found["prevalence_ci_high"] == pytest.approx(centre + margin, abs=1e-4)


def test_prevalence_is_as_ppi_py_has_it():
    # ppi_mean_ci of ppi_py 0.2.3, with its own choice of lambda, on these data.
    value, low, high = 0.31344019, 0.28705694, 0.33982343
    rng = np.random.default_rng(5)
    labels = (rng.random(5000) < 0.3).astype(float)
    proxies = np.clip(0.25 + 0.5 * labels + 0.15 * rng.normal(size=5000), 0, 1)
    target = 0.4 * labels + rng.normal(size=5000)
    at = np.sort(rng.choice(5000, 500, replace=False))
    found = table(
        only(labels[:, None], at), target, probability=np.full(5000, 0.1), proxies=proxies[:, None]
    ).iloc[0]
    width = high - low
    assert abs(found["feature_prevalence"] - value) < 0.02 * width
    assert found["prevalence_ci_high"] - found["prevalence_ci_low"] == pytest.approx(width, rel=0.06)


def test_proxies_that_tell_nothing_change_nothing():
    labels, proxies, noise, rng = population(2, 2000)
    at = np.sort(rng.choice(2000, 500, replace=False))
    chance = np.full(2000, 0.25)
    alone = table(only(labels, at), noise, probability=chance)
    constant = table(only(labels, at), noise, probability=chance, proxies=np.full_like(proxies, 0.3))
    for name in ("separation_score", "feature_prevalence"):
        np.testing.assert_allclose(constant[name], alone[name], rtol=1e-9)
    # The mean of the target is known of all rows; coefficients use it, and hardly gain.
    np.testing.assert_allclose(constant["regression_coef"], alone["regression_coef"], atol=0.01)
    np.testing.assert_allclose(constant["regression_se"], alone["regression_se"], rtol=0.01)


def test_proxies_that_are_the_labels_give_what_all_labels_give():
    labels, _, noise, rng = population(3, 2000)
    target = labels @ [0.5, 0] + noise
    at = np.sort(rng.choice(2000, 500, replace=False))
    found = table(only(labels, at), target, probability=np.full(2000, 0.25), proxies=labels)
    whole = table(labels, target)
    for name in ("regression_coef", "separation_score", "feature_prevalence"):
        np.testing.assert_allclose(found[name], whole[name], atol=0.006)
    np.testing.assert_allclose(found["regression_se"], whole["regression_se"], rtol=0.08)
    assert (found["effective_labels"] > 1600).all()


@pytest.mark.parametrize("auc", [0.6, 0.95])
@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_hold_and_effective_labels_are_what_they_say(auc: float, grouped: bool):
    inside, errors, alone, claimed = [], [], [], []
    for seed in range(200):
        labels, proxies, noise, rng = population(seed, 4000, auc=auc)
        groups = np.repeat(np.arange(800), 5) if grouped else None
        if grouped:
            noise = 0.6 * rng.normal(size=800)[groups] + 0.8 * noise
        target = labels @ [0.4, 0] + noise
        at = np.sort(rng.choice(4000, 400, replace=False))
        given = {"probability": np.full(4000, 0.1), "groups": groups}
        found = table(only(labels, at), target, proxies=proxies, **given)
        for name, truth in (("regression", 0.4), ("separation", 0.4)):
            row = found.iloc[0]
            inside.append(row[f"{name}_ci_low"] <= truth <= row[f"{name}_ci_high"])
        claimed.append(found["effective_labels"][0])
        errors.append(found["regression_coef"][0] - 0.4)
        alone.append(least_squares(labels[at], target[at])[0] - 0.4)
    assert 0.91 < np.mean(inside) < 0.98  # 95 %: the two of one draw are nearly one, so 1.5 % either way
    worth = np.mean(np.square(alone)) / np.mean(np.square(errors))
    assert worth > (0.97 if auc < 0.7 else 1.7)
    assert np.mean(claimed) / 400 == pytest.approx(worth, rel=0.2)


@pytest.mark.parametrize("share", [1.0, 0.995])
def test_where_nearly_all_rows_are_labelled_proxies_promise_nothing(share: float):
    labels, proxies, noise, rng = population(6, 600)
    at = np.sort(rng.choice(600, int(share * 600), replace=False))
    found = table(only(labels, at), noise, probability=np.full(600, share), proxies=proxies)
    whole = table(labels, noise)
    for name in ("regression_se", "separation_se"):
        np.testing.assert_allclose(found[name], whole[name], rtol=0.03)


def test_rows_drawn_by_what_they_hold_bias_nothing():
    values, naive = [], []
    for seed in range(150):
        labels, proxies, noise, rng = population(seed, 3000)
        target = labels @ [0.4, 0] + noise
        chance = np.clip(0.1 * np.exp(target), 0.01, 1)  # the larger the target, the likelier
        at = drawn_rows(rng, chance)
        found = table(only(labels, at), target, probability=chance, proxies=proxies)
        values.append(found["regression_coef"][0] - 0.4)
        naive.append(least_squares(labels[at], target[at])[0] - 0.4)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(150)
    assert abs(np.mean(naive)) > 5 * np.std(naive) / np.sqrt(150)


def test_few_effective_labels_are_tested_on_the_rows_drawn_uniformly():
    rng = np.random.default_rng(0)
    labels = (np.arange(2000) < 40).astype(float)[:, None]
    target = rng.exponential(size=2000)
    first = rng.random(2000) < 0.1
    chance = pooled(0.1, np.where(labels[:, 0] == 1, 0.9, 0.001))
    labelled = np.flatnonzero(first | (rng.random(2000) < np.where(labels[:, 0] == 1, 0.9, 0.001)))
    # One of the rows with the property has a weight of 50: together they count as few.
    chance[labelled[0]] = 0.02
    found = table(
        only(labels, labelled), target, probability=chance, uniform=first, proxies=np.full((2000, 1), 0.02)
    ).iloc[0]
    uniform = table(labels[first], target[first]).iloc[0]
    assert found["separation_test"] == uniform["separation_test"] == "permutation"
    assert found["separation_score"] == pytest.approx(uniform["separation_score"])


def test_classes_are_corrected_each_by_its_own_target():
    labels, proxies, noise, rng = population(4, 2000)
    classes = np.digitize(labels @ [1.0, 0] + noise, [0, 1])
    at = np.sort(rng.choice(2000, 600, replace=False))
    given = {"probability": np.full(2000, 0.3), "proxies": proxies}
    found = table(only(labels, at), classes, "multiclass", **given)
    for code in range(3):
        alone = table(only(labels, at), (classes == code).astype(float), "classification", **given)
        mine = found[found["target_class"] == code]
        np.testing.assert_allclose(mine["regression_coef"], alone["regression_coef"], rtol=1e-9)


def test_fixed_effects_and_other_groupings_go_together_with_proxies():
    labels, proxies, noise, rng = population(5, 3000)
    author = np.arange(3000) // 20
    target = labels @ [0.5, 0] + rng.normal(size=150)[author] + noise
    at = np.sort(rng.choice(3000, 900, replace=False))
    given = {"probability": np.full(3000, 0.3), "proxies": proxies}
    within = table(only(labels, at), target, fixed_effects=author, **given)
    alone = table(only(labels, at), target, fixed_effects=author, probability=np.full(3000, 0.3))
    assert within["regression_ci_low"][0] <= 0.5 <= within["regression_ci_high"][0]
    assert (within["regression_se"] < 0.9 * alone["regression_se"]).all()
    found = hypsae_ray.evaluate_hypotheses(
        only(labels, at), target, task="regression", groupings={"author": author}, **given, **FAST
    )
    (note,) = [note for note in found.notes if "author" in note]
    assert "rows may belong together by author (150 groups)" in note


def test_allocated_probabilities_add_up_grow_and_are_never_0():
    size = np.random.default_rng(0).exponential(size=1000) ** 4
    before = np.zeros(1000)
    for n in (10, 100, 400, 900, 999):
        chance = allocate(size, n)
        assert chance.sum() == pytest.approx(n)
        assert chance.max() <= 1
        assert chance.min() >= 0.2 * n / 1000 - 1e-12
        assert (chance >= before - 1e-12).all()
        before = chance
    assert (allocate(size, 1000) == 1).all()
    np.testing.assert_allclose(allocate(np.zeros(10), 4), 0.4)


def first_wave(n: int, n_first: int, seed: int = 0):
    labels, proxies, noise, rng = population(seed, n)
    target = labels @ [0.4, 0.1] + noise
    whole, at = Sample(LabelArray(proxies), target), np.sort(rng.choice(n, n_first, replace=False))
    drawn = Drawn(n, np.full(n_first, n_first / n), np.ones(n_first, dtype=bool), at, whole)
    sample = drawn_sample(whole, LabelArray(labels[at]), drawn)
    analysis = use_proxies(analyse(sample, method_of("regression", sample, "auto"), OPTIONS), rng)
    return analysis, whole, labels, rng


def test_the_spread_of_influence_is_what_drawn_labels_show():
    analysis, whole, _, rng = first_wave(300, 100)
    proxies, target = whole.labels.values, whole.target
    design = analysis.design
    X = np.hstack([np.ones((100, 1)), np.concatenate(list(analysis.sample.labels.blocks()))])
    bread, beta = np.linalg.inv(X.T @ X), analysis.fit.estimates.value[1:]
    constant = analysis.fit.estimates.value[0] + design.centre
    total = np.zeros(300)
    for j in range(2):
        z = np.repeat(proxies[None], 4000, axis=0)
        z[..., j] = rng.random((4000, 300)) < proxies[:, j]
        x = np.concatenate([np.ones((4000, 300, 1)), z], axis=2)
        influence = (x @ bread)[..., 1 + j] * (target - constant - z @ beta)
        total += influence.var(axis=0) / analysis.fit.estimates.se[1 + j] ** 2
    np.testing.assert_allclose(spread_of_influence(analysis, whole), np.sqrt(total), rtol=0.1)


@pytest.mark.parametrize("half_width", [0.1, 0.16])
def test_so_many_rows_give_intervals_of_the_half_width(half_width: float):
    analysis, whole, labels, rng = first_wave(6000, 300)
    size = spread_of_influence(analysis, whole)
    n = rows_for(analysis, size, half_width)
    assert 300 <= n < 3000
    later = allocate(size, (n - 300) / 0.95)
    at = analysis.sample.drawn.positions
    which = np.union1d(at, drawn_rows(rng, later))
    drawn = Drawn(6000, pooled(0.05, later)[which], np.isin(which, at), which, whole)
    found = evaluate(drawn_sample(whole, LabelArray(labels[which]), drawn), "regression", OPTIONS).table
    widest = float((found["regression_ci_high"] - found["regression_ci_low"]).max() / 2)
    assert 0.75 * half_width < widest < 1.02 * half_width
    assert rows_for(analysis, size, 10.0) == 300
    assert rows_for(analysis, size, 1e-4) == 6000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"proxies": np.full((4, 1), 0.5)}, "give `probability` as well"),
        ({"probability": [0.5, 0, 0.5, 0.5]}, "probability: 1 of 4 .* at position 1: 0"),
        ({"probability": [0.5] * 4, "proxies": [[0.5], [2], [0.5], [0.5]]}, "proxies, row 1, column 0: 2"),
        ({"probability": [0.5] * 4, "proxies": np.zeros((4, 2))}, "2 columns, but annotations has 1"),
        ({"probability": [0.5] * 4, "uniform": [0, 1, 2, 0]}, "uniform: 1 of 4 .* at position 2: 2"),
        ({"probability": [0.5] * 3}, "3 rows, but annotations has 4"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict, message: str):
    with pytest.raises(InputError, match=message):
        table(np.array([[1.0], [0], [np.nan], [1]]), np.arange(4.0), **given)
