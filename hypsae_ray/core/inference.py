"""Test hypotheses on texts that nothing else has used.

1. Each hypothesis alone: its prevalence and separation score, with Welch's t-test.
2. All together, on the rows without a missing label: OLS or logit on a constant and every hypothesis that
   is no combination of others. One with labels on fewer than half of the rows would cost the others theirs,
   and is left out.
3. Bonferroni: significant is a regression p-value below alpha over the number of hypotheses given, those
   that failed included.
4. How well all of them predict the target, in-sample and cross-fitted.

A hypothesis is its column position; two with the same sentence stay two. Intervals cover 95 %, each one
on its own.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.core.regression import Fit, cross_fitted, fit_joint
from hypsae_ray.core.separation import Separation, separation

Floats = npt.NDArray[np.float64]
Task = Literal["regression", "classification"]


@dataclass(frozen=True)
class Evaluation:
    """What the holdout says about H hypotheses.

    Attributes:
        table: H rows in the order given. Columns: hypothesis_id (position); n (labelled rows);
            feature_prevalence (share of them labelled yes); separation_score, separation_se,
            separation_ci_low, separation_ci_high, separation_pval (units of the target); regression_coef,
            regression_se, regression_ci_low, regression_ci_high, regression_pval (units of the target, log
            odds in classification); significant (bool); note (why values are NaN).
        metrics: n (rows), n_regression (rows in the joint model), n_hypotheses, n_significant, alpha,
            alpha_per_test; r2 and r2_cross_fitted, or auc, auc_cross_fitted and pseudo_r2 (McFadden).
        notes: what was left out or could not be computed, in words; "#3" is hypothesis_id 3.
    """

    table: pd.DataFrame
    metrics: dict[str, float]
    notes: list[str]


def evaluate(labels: Floats, target: Floats, *, task: Task, alpha: float = 0.1, seed: int = 0) -> Evaluation:
    """Test every hypothesis against the target.

    Args:
        labels: (n, H) of 0, 1 and NaN (no usable label).
        target: (n,) finite; 0 and 1 in classification.
        task: "regression" or "classification".
        alpha: family-wise error level.
        seed: decides the folds of the cross-fitted measure.

    Raises:
        ValueError: shapes differ, a label is none of 0, 1 and NaN, or the target does not fit the task.
    """
    y, given = np.asarray(target, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    _check(given, y, task)
    n_labels = (~np.isnan(given)).sum(axis=0)
    live = np.flatnonzero((n_labels > 0) & (2 * n_labels >= len(y)))
    complete = ~np.isnan(given[:, live]).any(axis=1)
    used, outcome = given[np.ix_(complete, live)], y[complete]
    fit = _spread(fit_joint(used, outcome, [f"#{j}" for j in live], task), live, n_labels, len(y))
    table = _table(given, y, fit, alpha)
    metrics = {**_counts(table, len(outcome), alpha, len(y)), **fit.metrics}
    metrics |= cross_fitted(used, outcome, task, seed)
    return Evaluation(table, metrics, _notes(len(y) - len(outcome), fit))


def _check(labels: Floats, target: Floats, task: Task) -> None:
    if labels.ndim != 2 or target.shape != labels.shape[:1]:
        raise ValueError(f"labels {labels.shape} and target {target.shape} do not fit: want (n, H) and (n,)")
    if not np.isfinite(target).all():
        raise ValueError("the target holds values that are not finite")
    if not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise ValueError("labels must be 0, 1 or NaN: apply the threshold to probabilities first")
    if task == "classification" and not np.isin(target, (0, 1)).all():
        raise ValueError("in classification the target must be 0 or 1")


def _spread(fit: Fit, live: npt.NDArray[np.int64], n_labels: npt.NDArray[np.int64], n: int) -> Fit:
    """The same fit by position among all hypotheses, and why those that are not `live` have no part in it."""
    coefficients = np.full((len(n_labels), 5), np.nan)
    coefficients[live] = fit.coefficients
    reasons = {int(live[j]): why for j, why in fit.reasons.items()}
    for j in set(range(len(n_labels))) - set(live.tolist()):
        few = f"it has a label on {n_labels[j]} of {n} rows, fewer than half"
        reasons[j] = few if n_labels[j] else "it has no usable label"
    return Fit(coefficients, reasons, fit.metrics, fit.notes)


def _table(labels: Floats, target: Floats, fit: Fit, alpha: float) -> pd.DataFrame:
    width = int(labels.shape[1])
    known = ~np.isnan(labels)
    alone = [separation(labels[known[:, j], j], target[known[:, j]]) for j in range(width)]
    n = known.sum(axis=0)
    table = pd.DataFrame({"hypothesis_id": range(width)})
    table["n"] = n
    table["feature_prevalence"] = (labels == 1).sum(axis=0) / np.where(n > 0, n, np.nan)
    for name in ("score", "se", "ci_low", "ci_high", "pval"):
        table[f"separation_{name}"] = np.array([getattr(one, name) for one in alone], dtype=np.float64)
    for i, name in enumerate(("coef", "se", "ci_low", "ci_high", "pval")):
        table[f"regression_{name}"] = fit.coefficients[:, i]
    table["significant"] = fit.coefficients[:, 4] < alpha / max(width, 1)
    table["note"] = [_note(alone[j], fit.reasons.get(j)) for j in range(width)]
    return table


def _note(alone: Separation, reason: str | None) -> str:
    return "; ".join(part for part in (alone.note, f"no coefficient: {reason}" if reason else "") if part)


def _counts(table: pd.DataFrame, n_regression: int, alpha: float, n: int) -> dict[str, float]:
    return {
        "n": n,
        "n_regression": n_regression,
        "n_hypotheses": len(table),
        "n_significant": int(table["significant"].sum()),
        "alpha": alpha,
        "alpha_per_test": alpha / max(len(table), 1),
    }


def _notes(n_incomplete: int, fit: Fit) -> list[str]:
    """One sentence per reason, however many hypotheses it concerns."""
    concerned: dict[str, list[int]] = {}
    for j, reason in sorted(fit.reasons.items()):
        concerned.setdefault(reason, []).append(j)
    notes = [f"no coefficient for {', '.join(f'#{j}' for j in js)}: {why}" for why, js in concerned.items()]
    if n_incomplete:
        notes.insert(0, f"{n_incomplete} rows with a missing label are left out of the regression")
    return notes + fit.notes
