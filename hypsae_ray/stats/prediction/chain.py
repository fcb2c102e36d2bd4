"""How well the target is predicted, from the embedding down to the hypotheses: where signal is lost."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hypsae_ray.config import Evaluate
from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.analysis import Analysis
from hypsae_ray.stats.prediction.cross_fit import (
    Judge,
    Measured,
    cross_fit_glm,
    cross_fit_linear,
    rows_that_fit,
)
from hypsae_ray.stats.prediction.features import cross_fit_features
from hypsae_ray.stats.regression.design import Design, make_design
from hypsae_ray.stats.regression.likelihood import LINEAR
from hypsae_ray.stats.regression.linear import Moments, sum_moments
from hypsae_ray.stats.sample import Features

HYPOTHESES, CEILING = "hypotheses", "embedding"
# Features that come after the hypotheses in the chain.
_LAST = ("keywords",)


@dataclass(frozen=True)
class Value:
    """How well the hypotheses predict: metrics, the chain (empty without features), and notes."""

    metrics: dict[str, float]
    chain: pd.DataFrame
    notes: list[str]


def predictive_value(analysis: Analysis, features: Mapping[str, Features], options: Evaluate) -> Value:
    """Measure the cross-fitted prediction by the hypotheses, and by features of the same rows.

    Features are those of `Sample`.

    Returns:
        Metrics r2_cross_fitted, r2_ci_low and r2_ci_high, or the same of auc and auprc; share_of_ceiling if
        there is an embedding; NaN where folds cannot be judged; none without folds.
    """
    if not options.folds:
        return Value({}, pd.DataFrame(), [])
    predicted = _by_hypotheses(analysis, options)
    inside = np.isfinite(predicted)
    judge = _judge(analysis, inside, options)
    if judge is None:
        measures = ("auc", "auprc") if analysis.method.classes else ("r2",)
        return Value(_numbers(dict.fromkeys(measures, Measured()), "_cross_fitted"), pd.DataFrame(), [])
    metrics = _numbers(judge.judge(predicted[inside]), "_cross_fitted")
    chain, notes = _chain(analysis, features, predicted, options)
    if len(chain) and CEILING in set(chain["features"]):
        metrics["share_of_ceiling"] = _share(chain, analysis.method.classes)
    return Value(metrics, chain, notes)


def _without_levels(analysis: Analysis, options: Evaluate) -> tuple[Design, list[Moments]]:
    """The design for predictions: levels of fixed effects say nothing of the rows of other levels."""
    if analysis.sample.effects is None:
        return analysis.design, analysis.moments
    sample = replace(analysis.sample, effects=None)
    design = make_design(sample, analysis.design.live, centred=analysis.method.family is LINEAR)
    return design, sum_moments(design, analysis.folds, options.folds)


def _by_hypotheses(analysis: Analysis, options: Evaluate) -> Floats:
    design, moments = _without_levels(analysis, options)
    if not len(design.live) or min(part.n for part in moments) == 0:
        return np.full(analysis.sample.n, np.nan)
    if analysis.method.family is LINEAR:
        return cross_fit_linear(design, analysis.folds, moments)
    predictor = cross_fit_glm(design, analysis.method.family, analysis.folds, options.folds)
    return predictor if analysis.method.classes else analysis.method.family.mean(predictor)


def _numbers(found: Mapping[str, Measured], suffix: str = "") -> dict[str, float]:
    """Return each measure, its name followed by `suffix`, with its interval."""
    numbers: dict[str, float] = {}
    for name, one in found.items():
        numbers |= {f"{name}{suffix}": one.value, f"{name}_ci_low": one.low, f"{name}_ci_high": one.high}
    return numbers


def _judge(analysis: Analysis, inside: npt.NDArray[np.bool_], options: Evaluate) -> Judge | None:
    """None where the target does not vary, and where the rarer of two classes cannot be in every fold."""
    sample, classes = analysis.sample, analysis.method.classes
    target = sample.target[inside]
    least = min(target.sum(), len(target) - target.sum()) if classes else len(target)
    if least < options.folds or np.ptp(target) == 0:
        return None
    weights = np.ones(sample.n) if sample.weights is None else sample.weights
    groups = None if sample.groups is None else sample.groups[inside]
    known = (target, analysis.folds[inside], groups, weights[inside])
    return Judge(*known, classes, options.n_bootstrap, options.random_state)


def _chain(
    analysis: Analysis, features: Mapping[str, Features], predicted: Floats, options: Evaluate
) -> tuple[pd.DataFrame, list[str]]:
    """One row per kind of features, all judged on the same rows and folds."""
    if not features:
        return pd.DataFrame(), []
    first = min(values.shape[0] for values in features.values())
    widths = [values.shape[1] for values in features.values() if not sp.issparse(values)]
    first = min(first, rows_that_fit(max(widths, default=0)))
    inside = np.isfinite(predicted) & (np.arange(analysis.sample.n) < first)
    judge = _judge(analysis, inside, options)
    if judge is None:
        return pd.DataFrame(), []
    before = [name for name in features if name not in _LAST]
    rows: list[dict[str, Any]] = []
    for name in [*before, HYPOTHESES, *(name for name in features if name in _LAST)]:
        guess, width = predicted[inside], len(analysis.design.live)
        if name != HYPOTHESES:
            # Nearly always all of the first rows: a slice of an array is no copy.
            values = features[name][slice(first) if inside[:first].all() else np.flatnonzero(inside)]
            width = int(values.shape[1])
            known = {"classes": judge.classes, "groups": judge.groups, "weights": judge.weights}
            guess = cross_fit_features(values, judge.target, judge.folds, **known)
        rows.append({"features": name, "n_features": width, **_numbers(judge.judge(guess))})
    left = int(np.isfinite(predicted).sum() - inside.sum())
    notes = [f"embedding and neurons are compared on the first {inside.sum()} rows: more do not fit memory"]
    return pd.DataFrame(rows), notes if left else []


def _share(chain: pd.DataFrame, classes: bool) -> float:
    """The share of what the embedding predicts that the hypotheses predict; NaN if it predicts nothing."""
    measure, nothing = ("auc", 0.5) if classes else ("r2", 0.0)
    by_name = chain.set_index("features")[measure] - nothing
    ceiling = float(by_name[CEILING])
    return float(by_name[HYPOTHESES]) / ceiling if ceiling > 0 else float("nan")
