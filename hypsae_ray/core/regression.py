"""Joint models of the target on all hypotheses: OLS, or logit by maximum likelihood.

Logit has no finite estimate where a combination of columns separates the outcomes (Albert and Anderson 1984).
Then:

1. A linear programme finds the combination (Konis 2007), and with it the columns concerned and the rows
   that it predicts perfectly.
2. Those rows drop out of the likelihood in the limit. The model is fitted to the others, which gives the
   limiting estimates of the columns not concerned.
3. The columns concerned have no coefficient and say so. Nothing is fitted by another model in silence.
"""

# statsmodels and scikit-learn have no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import statsmodels.api as sm
from scipy.optimize import linprog
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold

from hypsae_ray.core.design import Design, find_independent

Floats = npt.NDArray[np.float64]
Task = Literal["regression", "classification"]

# Labels are 0 and 1, so that a log odds ratio above this is a coefficient on its way to infinity.
_SUSPICIOUS = 10.0
_NEWTON_STEPS = 100
_LP_TOLERANCE = 1e-6
_SEPARATES = "it takes part in a perfect separation of the outcomes, so it has no finite estimate"


@dataclass(frozen=True)
class Fit:
    """One joint model.

    Attributes:
        coefficients: (H, 5) estimate, standard error, 95 % interval low and high, p-value; NaN without one.
        reasons: column position to the reason why it has no coefficient.
        metrics: measures of the whole model, in-sample.
        notes: what went wrong with the whole model.
    """

    coefficients: Floats
    reasons: dict[int, str]
    metrics: dict[str, float]
    notes: list[str] = field(default_factory=list)


def fit_joint(labels: Floats, target: Floats, names: Sequence[str], task: Task) -> Fit:
    """Fit the target on all columns and a constant.

    Args:
        labels: (n, H), no NaN.
        target: (n,) finite; 0 and 1 in classification.
        names: (H,) how columns are called in reasons ("#3").
        task: "regression" for OLS, "classification" for logit.

    Returns:
        A Fit with metric r2 (share of variance explained), or auc and pseudo_r2 (McFadden).
    """
    design = find_independent(labels, names)
    kept = np.array(design.kept, dtype=np.int64)
    blank = np.full((labels.shape[1], 5), np.nan)
    problem = _impossible(len(target), len(kept), target)
    if problem:
        reasons = design.dropped | {int(j): problem for j in kept}
        return Fit(blank, reasons, _no_metrics(task), [f"no joint regression: {problem}"])
    if task == "classification":
        return _fit_logit(labels, target, design, names)
    model = sm.OLS(target, _with_constant(labels[:, kept])).fit()
    blank[kept] = _coefficients(model)
    return Fit(blank, dict(design.dropped), {"r2": float(model.rsquared)})


def cross_fitted(labels: Floats, target: Floats, task: Task, seed: int, folds: int = 5) -> dict[str, float]:
    """Measure how well hypotheses predict rows that the model was not fitted on.

    Regression: r2_cross_fitted is one minus the squared error of out-of-fold predictions over that of the
    training means; below 0 for noise. Classification: auc_cross_fitted is the mean of the AUC within each
    of the stratified folds (0.5 for noise), so that scores of different models are never compared. NaN with
    fewer than `folds` rows, or rows of each class.

    Args:
        labels: (n, H), no NaN.
        target: (n,) finite; 0 and 1 in classification.
        task: which of the two measures.
        seed: decides the folds.
        folds: number of parts.
    """
    if task == "classification":
        return {"auc_cross_fitted": _cross_fitted_auc(labels, target, seed, folds)}
    return {"r2_cross_fitted": _cross_fitted_r2(labels, target, seed, folds)}


def _impossible(n: int, width: int, target: Floats) -> str:
    if n <= width + 1:
        return f"{n} complete rows are too few for {width} coefficients and a constant"
    return "the target has one value only" if np.ptp(target) == 0 else ""


def _no_metrics(task: Task) -> dict[str, float]:
    return dict.fromkeys(("auc", "pseudo_r2") if task == "classification" else ("r2",), math.nan)


def _with_constant(columns: Floats) -> Floats:
    return np.column_stack([np.ones(len(columns)), columns])


def _coefficients(model: Any) -> Floats:
    """(H, 5) of a statsmodels result whose first parameter is the constant."""
    table = np.column_stack([model.params, model.bse, model.conf_int(0.05), model.pvalues])
    return np.asarray(table, dtype=np.float64)[1:]


def _fit_logit(labels: Floats, target: Floats, design: Design, names: Sequence[str]) -> Fit:
    kept = np.array(design.kept, dtype=np.int64)
    columns, called = labels[:, kept], [names[j] for j in design.kept]
    model = _newton(columns, target)
    limit = _Limit(_coefficients(model), {}, []) if _regular(model) else _fit_limit(columns, target, called)
    coefficients = np.full((labels.shape[1], 5), np.nan)
    coefficients[kept] = limit.coefficients
    reasons = design.dropped | {int(kept[j]): reason for j, reason in limit.reasons.items()}
    return Fit(coefficients, reasons, _logit_metrics(model, target), limit.notes)


@dataclass(frozen=True)
class _Limit:
    """Coefficients (H, 5) with what separates the outcomes set aside, reasons by position, and notes."""

    coefficients: Floats
    reasons: dict[int, str]
    notes: list[str]


def _fit_limit(columns: Floats, target: Floats, names: Sequence[str]) -> _Limit:
    """Fit the rows that are left without those that a combination of columns predicts perfectly."""
    rows, concerned = _separated(columns, target, names)
    found = np.full((columns.shape[1], 5), np.nan)
    reasons = {int(j): _SEPARATES for j in np.flatnonzero(concerned)}
    notes = [_separation_note(names, concerned)] if concerned.any() else []
    design = find_independent(columns[rows], names)
    kept = np.array(design.kept, dtype=np.int64)
    left = {
        j: f"{why}, once rows that others predict perfectly are left out" for j, why in design.dropped.items()
    }
    model = _newton(columns[np.ix_(rows, kept)], target[rows]) if len(kept) else None
    if _converged(model):
        found[kept] = _coefficients(model)
        found[concerned] = np.nan
    elif len(kept):
        notes.append("the logit did not converge: no coefficients")
        left |= {int(j): "the logit did not converge" for j in kept}
    return _Limit(found, left | reasons, notes)


def _separated(
    columns: Floats, target: Floats, names: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Rows (n,) that nothing predicts perfectly, and columns (H,) that take part in predicting the others."""
    rows, concerned = np.ones(len(target), dtype=bool), np.zeros(columns.shape[1], dtype=bool)
    while rows.any():
        kept = np.array(find_independent(columns[rows], names).kept, dtype=np.int64)
        X = _with_constant(columns[np.ix_(rows, kept)])
        direction = _separating_direction(X, target[rows])
        predicted = np.abs(X @ direction) > _LP_TOLERANCE
        if not predicted.any():
            break
        concerned[kept[np.abs(direction[1:]) > _LP_TOLERANCE]] = True
        rows[np.flatnonzero(rows)[predicted]] = False
    return rows, concerned


def _separating_direction(X: Floats, target: Floats) -> Floats:
    """(H + 1,) b with (2 y - 1) X b >= 0 on every row, its sum as large as can be; 0 if only 0 will do."""
    signed = np.unique(X * (2 * target - 1)[:, None], axis=0)
    result = linprog(
        -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1), method="highs"
    )
    return np.asarray(result.x, dtype=np.float64) if result.status == 0 else np.zeros(X.shape[1])


def _separation_note(names: Sequence[str], concerned: npt.NDArray[np.bool_]) -> str:
    who = ", ".join(name for name, one in zip(names, concerned, strict=True) if one)
    rest = "nothing else can be estimated" if concerned.all() else "other coefficients are those of the limit"
    return f"perfect separation of the outcomes in the logit by {who}; {rest}"


def _newton(columns: Floats, target: Floats) -> Any:
    """The result of statsmodels' Newton iterations, or None if they broke off."""
    with warnings.catch_warnings():
        # Separation and missed convergence are looked at by the caller, who can tell them apart.
        warnings.simplefilter("ignore")
        try:
            logit = sm.Logit(target, _with_constant(columns))
            return logit.fit(disp=0, method="newton", maxiter=_NEWTON_STEPS)
        except (np.linalg.LinAlgError, ValueError):
            return None


def _converged(model: Any) -> bool:
    return model is not None and bool(model.mle_retvals["converged"]) and bool(np.isfinite(model.bse).all())


def _regular(model: Any) -> bool:
    return _converged(model) and bool((np.abs(model.params[1:]) < _SUSPICIOUS).all())


def _logit_metrics(model: Any, target: Floats) -> dict[str, float]:
    if model is None:
        return _no_metrics("classification")
    return {"auc": float(roc_auc_score(target, model.predict())), "pseudo_r2": float(model.prsquared)}


def _cross_fitted_r2(labels: Floats, target: Floats, seed: int, folds: int) -> float:
    if len(target) < folds or np.ptp(target) == 0:
        return math.nan
    errors, spread = 0.0, 0.0
    for train, test in KFold(folds, shuffle=True, random_state=seed).split(labels):
        model = LinearRegression().fit(_with_constant(labels[train]), target[train])
        errors += float(((target[test] - model.predict(_with_constant(labels[test]))) ** 2).sum())
        spread += float(((target[test] - target[train].mean()) ** 2).sum())
    return 1 - errors / spread


def _cross_fitted_auc(labels: Floats, target: Floats, seed: int, folds: int) -> float:
    if min((target == 1).sum(), (target == 0).sum()) < folds:
        return math.nan
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, target)
    scores = [
        roc_auc_score(target[test], _ridge_logit(labels[train], target[train], labels[test]))
        for train, test in parts
    ]
    return float(sum(scores)) / folds


def _ridge_logit(train: Floats, target: Floats, test: Floats) -> Floats:
    # A penalty of 1 keeps folds with separated outcomes finite; an AUC needs no more than the order.
    model = LogisticRegression(C=1.0, max_iter=1000).fit(_with_constant(train), target)
    return np.asarray(model.decision_function(_with_constant(test)), dtype=np.float64)
