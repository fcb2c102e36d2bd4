"""All that is estimated of one target, before p-values are adjusted; and the table of it."""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import pandas as pd

from hypsae_ray.config import Evaluate
from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.prediction.cross_fit import deal_folds
from hypsae_ray.stats.prevalence import Values, intervals, prevalences
from hypsae_ray.stats.redundancy import Agreement, agreement
from hypsae_ray.stats.regression.algebra import inverse
from hypsae_ray.stats.regression.collinear import find_independent
from hypsae_ray.stats.regression.covariance import CovType
from hypsae_ray.stats.regression.design import Design, make_design
from hypsae_ray.stats.regression.estimates import Estimates, Fit
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.likelihood import LINEAR, LOGIT, POISSON, Family
from hypsae_ray.stats.regression.linear import Moments, sum_moments, variation
from hypsae_ray.stats.sample import Sample
from hypsae_ray.stats.separation import PAIRS, PRESENCE, Contrast, Separation, Sides, separations, sum_sides
from hypsae_ray.stats.two_phase.debias import Phases

Task = Literal["regression", "classification", "count", "pairwise", "multiclass"]
# Permutations per test and adjusted level, so that the smallest p-value lies well below what must be reached.
_DRAWS_PER_TEST = 20
_MOST_DRAWS = 200_000


@dataclass(frozen=True)
class Method:
    """How a task is analysed.

    Attributes:
        family: of the joint model.
        contrast: the labels that a separation score compares.
        cov_type: of the joint model.
    """

    family: Family
    contrast: Contrast
    cov_type: CovType

    @property
    def values(self) -> tuple[int, ...]:
        """What a label can be."""
        return (-1, 0, 1) if self.contrast.no == -1 else (0, 1)

    @property
    def classes(self) -> bool:
        """Whether the target is 0 or 1, so that AUC measures a prediction."""
        return self.family is LOGIT


def method_of(task: Task, sample: Sample, cov_type: Literal["auto"] | CovType) -> Method:
    """Return how a sample is analysed."""
    contrast = PAIRS if task == "pairwise" else PRESENCE
    binary = task == "classification" or (task == "pairwise" and bool(np.isin(sample.target, (0, 1)).all()))
    family = LOGIT if binary else POISSON if task == "count" else LINEAR
    if cov_type == "auto":
        # A logit is its own model of the errors; weights that are no counts break it.
        alone = "nonrobust" if binary and sample.weights is None else "HC3"
        cov_type = alone if sample.groups is None else "cluster"
    return Method(family, contrast, cov_type)


def one_by_one(sample: Sample, task: Task) -> tuple[list[Sample], Task]:
    """Return the sample and its task; in multiclass a sample for each class against the rest."""
    if task != "multiclass":
        return [sample], task
    return [sample.of_class(code) for code in np.unique(sample.target)], "classification"


@dataclass(frozen=True)
class Analysis:
    """One target.

    Attributes:
        sample: the rows.
        method: how they were analysed.
        sides: sums on both sides of each hypothesis.
        separations: of each hypothesis alone.
        agreement: of the labels of all pairs.
        folds: (n,) for what is cross-fitted.
        design: rows and columns of the joint model.
        moments: sums over each fold of it.
        fit: the joint model.
        prevalence: share of texts with each property.
        phases: what variances of coefficients are made of, where proxies have corrected them; else None.
    """

    sample: Sample
    method: Method
    sides: Sides
    separations: list[Separation]
    agreement: Agreement
    folds: Ints
    design: Design
    moments: list[Moments]
    fit: Fit
    prevalence: Values
    phases: Phases | None = None

    @property
    def n_labels(self) -> Ints:
        """Labelled rows of each hypothesis, (H,)."""
        return np.diag(self.agreement.n).astype(np.int64)

    @property
    def total(self) -> Moments:
        """Sums over all folds."""
        return reduce(Moments.__add__, self.moments)

    def by_hypothesis(self, values: Floats) -> Floats:
        """Return values (k,) of the estimated columns by hypothesis, (H,); NaN for those without one."""
        result = np.full(self.sample.n_hypotheses, np.nan)
        which = self.design.hypotheses[self.fit.columns]
        result[which[which >= 0]] = values[which >= 0]
        return result

    def effective(self) -> Floats:
        """Return how many labels, drawn plainly, are as good for each coefficient, (H,); NaN if not known."""
        if self.phases is None:
            return np.full(self.sample.n_hypotheses, np.nan)
        return self.by_hypothesis(self.phases.effective())

    def reasons(self) -> dict[int, str]:
        """Return why hypotheses have no coefficient, by position."""
        n_labels, reasons = self.n_labels, self._of_hypotheses(self.fit.reasons)
        for j in sorted(set(range(len(n_labels))) - set(self.design.live.tolist())):
            few = f"it has a label on {n_labels[j]} of {self.sample.n} rows, fewer than half"
            reasons[j] = few if n_labels[j] else "it has no usable label"
        return reasons

    def unsure(self) -> dict[int, str]:
        """Return why coefficients of hypotheses have no standard error, by position."""
        return self._of_hypotheses(self.fit.unsure)

    def _of_hypotheses(self, by_column: dict[int, str]) -> dict[int, str]:
        which = self.design.hypotheses
        return {int(which[column]): why for column, why in by_column.items() if which[column] >= 0}


def analyse(sample: Sample, method: Method, options: Evaluate) -> Analysis:
    """Estimate everything about one target."""
    alone, dealt = (np.random.default_rng([options.random_state, use]) for use in (0, 1))
    agreed = agreement(sample, method.values)
    sides = sum_sides(sample, method.contrast)
    draws = int(_DRAWS_PER_TEST * max(sample.n_hypotheses, 1) / options.alpha)
    separated = separations(sample, sides, alone, min(max(draws, 9_999), _MOST_DRAWS))
    n_labels = np.diag(agreed.n)
    live = np.flatnonzero((n_labels > 0) & (2 * n_labels >= sample.n))
    n_folds = max(options.folds, 1)
    folds = deal_folds(sample.target, sample.groups, n_folds, dealt)
    design = make_design(sample, live, centred=method.family is LINEAR)
    moments = sum_moments(design, folds, n_folds)
    fit = fit_joint(design, reduce(Moments.__add__, moments), method.cov_type, method.family, method.contrast)
    shares = prevalences(sample)
    return Analysis(sample, method, sides, separated, agreed, folds, design, moments, fit, shares)


def table_of(analysis: Analysis, joint: Floats, alone: Floats, level: float, alpha: float) -> pd.DataFrame:
    """Return one row per hypothesis; significant is an adjusted p-value of the joint model below alpha.

    `joint` and `alone` are the adjusted p-values (H,) of the joint model and of the separations, `level` is
    that of adjusted intervals.
    """
    groups, reasons, unsure = analysis.agreement.groups(), analysis.reasons(), analysis.unsure()
    columns: dict[str, object] = {
        "hypothesis_id": np.arange(analysis.sample.n_hypotheses),
        **_alone(analysis, alone),
        **_jointly(analysis, joint, level),
        "unique_r2": unique_shares(analysis),
        "redundancy_group": pd.arrays.IntegerArray(groups, groups == 0),
        "significant": joint < alpha,
        **({"effective_labels": analysis.effective()} if analysis.sample.drawn else {}),
        "note": [_note(s.note, reasons.get(j), unsure.get(j)) for j, s in enumerate(analysis.separations)],
    }
    return pd.DataFrame(columns)


def _alone(analysis: Analysis, adjusted: Floats) -> dict[str, object]:
    sides, n = analysis.sides, analysis.n_labels
    having = sides.yes.n + (sides.no.n if analysis.method.contrast.no else 0)
    columns: dict[str, object] = {"n": n, "n_yes": having.astype(np.int64)}
    columns["feature_prevalence"] = analysis.prevalence.value
    rarer = np.minimum(sides.yes.effective, sides.no.effective)
    df = np.where(analysis.sample.weights is None, np.inf, rarer - 1)
    ends = intervals(analysis.prevalence, n.astype(np.float64), df)
    columns["prevalence_ci_low"], columns["prevalence_ci_high"] = ends.T
    for name in ("score", "se", "ci_low", "ci_high", "pval", "test"):
        values = [getattr(one, name) for one in analysis.separations]
        columns[f"separation_{name}"] = np.array(values, dtype=object if name == "test" else np.float64)
    columns["separation_pval_adj"] = adjusted
    spread = float(analysis.sample.target.std()) if analysis.sample.n else np.nan
    scores = np.array([one.score for one in analysis.separations], dtype=np.float64)
    columns["separation_std"] = scores / spread if spread else np.full(len(scores), np.nan)
    return columns


def _jointly(analysis: Analysis, adjusted: Floats, level: float) -> dict[str, object]:
    columns = _estimated("regression", analysis, analysis.fit.estimates)
    columns["regression_pval_adj"] = adjusted
    ends = analysis.fit.estimates.interval(level)
    columns["regression_adj_ci_low"] = analysis.by_hypothesis(ends[:, 0])
    columns["regression_adj_ci_high"] = analysis.by_hypothesis(ends[:, 1])
    columns["regression_std"] = analysis.by_hypothesis(_standardised(analysis))
    if analysis.fit.effects is not None:
        effects = _estimated("average_effect", analysis, analysis.fit.effects)
        columns |= {name.removesuffix("_coef"): values for name, values in effects.items()}
    return columns


def _estimated(prefix: str, analysis: Analysis, found: Estimates) -> dict[str, object]:
    return {f"{prefix}_{name}": analysis.by_hypothesis(values) for name, values in found.columns().items()}


def _standardised(analysis: Analysis) -> Floats:
    """Coefficients (k,) in standard deviations of their column, and of the target in a linear model."""
    total, columns = analysis.total, analysis.fit.columns
    if not len(columns):
        return np.zeros(0)
    mean = total.gram[0, columns] / total.weight if analysis.design.names[:1] == ("constant",) else 0.0
    spread = np.sqrt(np.maximum(np.diag(total.gram)[columns] / total.weight - mean**2, 0))
    standardised = analysis.fit.estimates.value * spread
    if analysis.method.family is not LINEAR:
        return standardised
    return standardised / np.sqrt(max(variation(analysis.design, total) / total.weight, 1e-300))


def unique_shares(analysis: Analysis) -> Floats:
    """Return the share of the target's variance that each hypothesis alone explains, (H,).

    That is by how much R2 of the linear model on all of them falls without it: the squared semipartial
    correlation, b^2 / (A_jj SST) with A the inverse of X'X. It is 0 for one that others make up.
    """
    total = analysis.total
    found = find_independent(total.gram, analysis.design.names, total.weight)
    kept = np.array(found.kept, dtype=np.int64)
    shares = np.full(analysis.sample.n_hypotheses, np.nan)
    if total.n <= len(kept):
        return shares
    around_mean = variation(analysis.design, total)
    if not around_mean > 1e-12 * total.square:
        return shares
    bread = inverse(total.gram[np.ix_(kept, kept)])
    coefficients = bread @ total.cross[kept]
    unique = np.full(len(total.gram), np.nan)
    unique[kept] = [b**2 / (a * around_mean) for b, a in zip(coefficients, np.diag(bread), strict=True)]
    for column, partners in found.partners.items():
        if partners:
            unique[[column, *partners]] = 0.0
    which = analysis.design.hypotheses
    shares[which[which >= 0]] = unique[which >= 0]
    return shares


def inflation(analysis: Analysis) -> Floats:
    """Return the variance inflation factor of each hypothesis in the joint model, (H,)."""
    total, columns = analysis.total, analysis.fit.columns
    if not len(columns):
        return analysis.by_hypothesis(np.zeros(0))
    gram = total.gram[np.ix_(columns, columns)]
    mean = gram[0] / total.weight if analysis.design.names[:1] == ("constant",) else 0.0
    squares = np.diag(gram) - total.weight * mean**2
    return analysis.by_hypothesis(squares * np.diag(inverse(gram)))


def covariate_table(analysis: Analysis) -> pd.DataFrame:
    """Return the coefficients of the covariates: name, coef, se, ci_low, ci_high, pval."""
    design, columns = analysis.design, analysis.fit.columns
    names = np.array(design.names, dtype=object)[columns]
    which = np.flatnonzero((design.hypotheses[columns] < 0) & (names != "constant"))
    found = analysis.fit.estimates.columns()
    return pd.DataFrame({"name": names[which], **{name: values[which] for name, values in found.items()}})


def _note(alone: str, no_coefficient: str | None, no_error: str | None) -> str:
    reasons = {
        "": alone,
        "no coefficient: ": no_coefficient,
        "no standard error of the coefficient: ": no_error,
    }
    return "; ".join(what + why for what, why in reasons.items() if why)
