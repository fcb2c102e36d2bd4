"""Textbook data, against the figures that R prints for them.

R 4.2.2 with sandwich 3.0.2, brglm2 0.9 and clubSandwich 0.5.8, 15 digits. The data are R's mtcars (Motor
Trend 1974; kind is interaction(cyl, gear, carb)) and warpbreaks (Tippett 1950), and the endometrial cancer
study of Heinze and Schemper (2002).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize

import hypsae_ray
from hypsae_ray.data.arrays import codes_of
from hypsae_ray.stats import separation
from hypsae_ray.stats.sample import LabelArray, Sample

TEXTBOOK = json.loads((Path(__file__).parent / "textbook.json").read_text())
MTCARS, ENDOMETRIAL = (pd.DataFrame(TEXTBOOK[name]) for name in ("mtcars", "endometrial"))
mpg, vs = MTCARS["mpg"], MTCARS["vs"]
carb_and_gear = 10 * MTCARS["carb"] + MTCARS["gear"]
breaks = TEXTBOOK["warpbreaks"]["breaks"]
NV, PI, EH, HG = (ENDOMETRIAL[name].to_numpy(float) for name in ("NV", "PI", "EH", "HG"))

CARS = MTCARS[["am", "vs"]].to_numpy(float)
SIZE = MTCARS[["wt", "hp"]]


def cars(**options) -> hypsae_ray.Evaluation:
    return hypsae_ray.evaluate_hypotheses(
        CARS, mpg, task="regression", covariates=SIZE, n_bootstrap=0, n_permutations=0, **options
    )


def joint(found, *columns: str) -> np.ndarray:
    return found.table[[f"regression_{column}" for column in columns]].to_numpy()


def test_ols_of_mtcars_is_that_of_r():
    found = cars(cov_type="nonrobust")
    expected = [
        [2.41714174519489600, 1.37937637351060993, 9.106585748706629e-02],
        [1.78554615438006148, 1.32714259697975701, 1.896852374356310e-01],
    ]
    np.testing.assert_allclose(joint(found, "coef", "se", "pval"), expected, rtol=1e-10)
    controls = [
        [-2.59099878666852979, 0.91740428060296131, 8.798579005969942e-03],
        [-0.03010080656703083, 0.01094265211814977, 1.048432938915905e-02],
    ]
    covariates = found.details["covariates"]
    assert covariates["name"].tolist() == ["wt", "hp"]
    np.testing.assert_allclose(covariates[["coef", "se", "pval"]], controls, rtol=1e-10)
    assert found.metrics["r2"] == pytest.approx(0.8499498786251838, abs=1e-12)


def test_hc3_of_mtcars_is_that_of_sandwich():
    found = cars()
    expected = [
        [2.41714174519489600, 1.548025129883044304, 1.300670978632870e-01],
        [1.78554615438006148, 1.303234859200485651, 1.819455231302268e-01],
    ]
    np.testing.assert_allclose(joint(found, "coef", "se", "pval"), expected, rtol=1e-10)
    ends = [[-0.75914345657749127, 5.59342694696728326], [-0.88847089986838257, 4.45956320862850575]]
    np.testing.assert_allclose(joint(found, "ci_low", "ci_high"), ends, rtol=1e-10)
    assert found.metrics["errors"] == "HC3"


def test_cluster_robust_errors_of_mtcars_are_those_of_sandwich():
    found = cars(groups=MTCARS["kind"])
    np.testing.assert_allclose(
        joint(found, "se")[:, 0], [1.161283734258470091, 0.622410550517998207], rtol=1e-10
    )
    controls = found.details["covariates"]["se"]
    np.testing.assert_allclose(controls, [0.775476424489327854, 0.007210994064010831], rtol=1e-10)


def test_cr2_of_two_means_is_that_of_clubsandwich():
    found = cars(groups=carb_and_gear).table.iloc[0]
    assert found.separation_se == pytest.approx(2.756226981604550, rel=1e-10)


def test_degrees_of_freedom_of_two_means_are_those_of_clubsandwich_where_both_sides_vary_alike(monkeypatch):
    monkeypatch.setattr(separation, "SMALL_CELL", 0)  # or so few groups are tested by sign flips
    # clubSandwich takes one variance for both sides. Stretching one side makes it so, and leaves its degrees
    # of freedom, which hang on the design alone.
    y, automatic = np.array(mpg, dtype=float), CARS[:, 0] == 1
    y[automatic] *= y[~automatic].std(ddof=1) / y[automatic].std(ddof=1)
    sample = Sample(LabelArray(CARS[:, :1]), y, groups=codes_of(carb_and_gear))
    sides = separation.sum_sides(sample, separation.PRESENCE)
    (found,) = separation.separations(sample, sides, np.random.default_rng(0))
    margin = stats.t.ppf(0.975, 7.644736575065590) * found.se
    assert found.ci_high - found.score == pytest.approx(margin, rel=1e-10)


def test_logit_of_mtcars_is_that_of_r():
    found = hypsae_ray.evaluate_hypotheses(
        CARS[:, :1], vs, task="classification", n_bootstrap=0, n_permutations=0
    )
    row = found.table.iloc[0]
    assert row.regression_coef == pytest.approx(0.6931471805599321, abs=1e-12)
    # R ends its iterations with a standard error that is 1.2e-8 off the one by hand.
    assert row.regression_se == pytest.approx(0.7319250424559289, abs=2e-8)
    assert row.regression_se == pytest.approx(math.sqrt(1 / 12 + 1 / 6 + 1 / 7 + 1 / 7), abs=1e-12)
    assert row.regression_pval == pytest.approx(0.3436289171088838, abs=1e-8)
    assert found.table["separation_pval"][0] == pytest.approx(0.4726974416017796, abs=1e-10)
    assert found.table["separation_test"][0] == "Fisher"


def test_welch_of_mtcars_is_that_of_r():
    found = hypsae_ray.evaluate_hypotheses(
        CARS[:, :1], mpg, task="regression", n_bootstrap=0, n_permutations=0
    )
    assert found.table["separation_pval"][0] == pytest.approx(0.001373638333071028, rel=1e-10)


def test_poisson_of_warpbreaks_is_that_of_r_and_sandwich():
    wool = np.repeat([0.0, 1.0], 27)
    tension = np.tile(np.repeat(["L", "M", "H"], 9), 2)
    labels = np.column_stack([wool, tension == "M", tension == "H"]).astype(float)
    found = hypsae_ray.evaluate_hypotheses(labels, breaks, task="count", n_bootstrap=0, n_permutations=0)
    expected = [
        [-0.2059884426386217, 0.1129907679922177, 6.829498332730302e-02],
        [-0.3213204316006118, 0.1397358871721498, 2.147747300069059e-02],
        [-0.5184884965115607, 0.1353959058842306, 1.284429057258370e-04],
    ]
    np.testing.assert_allclose(joint(found, "coef", "se", "pval"), expected, rtol=1e-8)
    plain = hypsae_ray.evaluate_hypotheses(
        labels, breaks, task="count", cov_type="nonrobust", n_bootstrap=0, n_permutations=0
    )
    np.testing.assert_allclose(
        joint(plain, "se")[:, 0], [0.05157124278357521, 0.06026591669522039, 0.06395951939574689], rtol=1e-8
    )
    assert any("times as much as a Poisson model says" in note for note in found.notes)


@pytest.fixture(scope="module")
def endometrial() -> hypsae_ray.Evaluation:
    return hypsae_ray.evaluate_hypotheses(
        NV[:, None], HG, task="classification", covariates=pd.DataFrame({"PI": PI, "EH": EH}),
        n_bootstrap=0, n_permutations=0,
    )  # fmt: skip


def test_firth_on_the_endometrial_study_is_that_of_brglm2_and_of_the_paper(endometrial):
    row = endometrial.table.iloc[0]
    assert row.regression_coef == pytest.approx(2.92927335319711712, abs=1e-8)
    assert row.regression_se == pytest.approx(1.55076372945304852, abs=1e-8)
    controls = endometrial.details["covariates"]
    np.testing.assert_allclose(controls["coef"], [-0.03475175987043636, -2.60416392529367924], rtol=1e-8)
    np.testing.assert_allclose(controls["se"], [0.03957814734776345, 0.77601764250156646], rtol=1e-8)
    # Heinze and Schemper (2002), table II: profile interval 0.610 to 7.855.
    assert row.regression_ci_low == pytest.approx(0.610, abs=2e-3)
    assert row.regression_ci_high == pytest.approx(7.855, abs=2e-3)
    assert endometrial.metrics["model"] == "logit, Firth"
    assert any("separated by #0" in note for note in endometrial.notes)


def penalised(design: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], float]:
    """Minus Firth's penalised log-likelihood, written down directly."""

    def value(beta: np.ndarray) -> float:
        eta = design @ beta
        chance = 1 / (1 + np.exp(-eta))
        information = design.T @ (design * (chance * (1 - chance))[:, None])
        likelihood = (y * eta - np.logaddexp(0, eta)).sum()
        return -float(likelihood + np.linalg.slogdet(information)[1] / 2)

    return value


def test_the_profile_of_firths_likelihood_is_that_of_a_general_optimiser(endometrial):
    wide = np.column_stack([np.ones(79), PI / 10, EH, NV])
    value = penalised(wide, HG)
    top = minimize(value, np.zeros(4), method="BFGS", options={"gtol": 1e-9})

    def twice_the_drop(at: float) -> float:
        inside = minimize(lambda b: value(np.append(b, at)), top.x[:3], method="BFGS", options={"gtol": 1e-9})
        return 2 * (inside.fun - top.fun)

    row = endometrial.table.iloc[0]
    assert top.x[3] == pytest.approx(row.regression_coef, abs=1e-6)
    assert stats.chi2.sf(twice_the_drop(0.0), 1) == pytest.approx(row.regression_pval, abs=1e-7)
    for end in (row.regression_ci_low, row.regression_ci_high):
        assert twice_the_drop(end) == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-5)
    assert math.isfinite(row.regression_adj_ci_high)
