"""What the numbers rest on, where it does not hold, what was done instead, and what to do about it: in words.

Each note is one sentence per reason, however many hypotheses it concerns.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.analysis import Analysis, inflation
from hypsae_ray.stats.regression.covariance import FEW, FEW_OF_GROUPS, FEW_OF_ROWS, is_few
from hypsae_ray.stats.regression.likelihood import LOGIT, POISSON

_MISSING = 0.05
_INFLATED = 10.0
_EVENTS = 10.0
_DISPERSED = 1.5
_ALIKE = 0.01


def notes_of(analysis: Analysis) -> list[str]:
    """Return the notes on one analysis."""
    return [
        *_missing(analysis),
        *_absorbed(analysis),
        *_reasons(analysis.reasons()),
        *_controls(analysis),
        *_unsure(analysis),
        *analysis.fit.notes,
        *_small_cells(analysis),
        *_groups(analysis),
        *_few(analysis),
        *_weights(analysis),
        *_overlap(analysis),
        *_events(analysis),
        *_dispersion(analysis),
    ]


def _names(positions: Iterable[int]) -> str:
    return ", ".join(f"#{j}" for j in positions)


def _missing(analysis: Analysis) -> list[str]:
    notes: list[str] = []
    left_out = analysis.sample.n - analysis.design.n - _alone(analysis)
    if left_out:
        notes.append(f"{left_out} rows with a missing label are left out of the regression")
    if left_out > _MISSING * analysis.sample.n:
        notes.append(
            f"that is {left_out / analysis.sample.n:.0%} of the rows: the results hold if what is missing "
            "has nothing to do with the target; look at which texts have no label"
        )
    return notes


def _alone(analysis: Analysis) -> int:
    return 0 if analysis.design.levels is None else analysis.design.levels.alone


def _absorbed(analysis: Analysis) -> list[str]:
    if analysis.design.levels is None:
        return []
    alone = _alone(analysis)
    notes = [
        f"{analysis.design.levels.freedom} levels of fixed effects are absorbed; R2 is that within levels"
    ]
    if alone:
        notes.append(
            f"{alone} rows are the only one of their level, and say nothing about differences within"
        )
    return notes


def _reasons(reasons: Mapping[int, str]) -> list[str]:
    concerned: dict[str, list[int]] = {}
    for j, reason in sorted(reasons.items()):
        concerned.setdefault(reason, []).append(j)
    return [f"no coefficient for {_names(js)}: {why}" for why, js in concerned.items()]


def _unsure(analysis: Analysis) -> list[str]:
    names, unsure = analysis.design.names, analysis.fit.unsure
    who = [names[column] for column in sorted(unsure) if names[column] != "constant"]
    if not who:
        return []
    why = next(iter(unsure.values()))
    return [f"no standard error for {', '.join(who)}: {why}; read the separation score and its test"]


def _controls(analysis: Analysis) -> list[str]:
    which, names = analysis.design.hypotheses, analysis.design.names
    left_out = {
        names[j]: why for j, why in analysis.fit.reasons.items() if which[j] < 0 and names[j] != "constant"
    }
    return [f"covariate {name} is left out: {why}" for name, why in left_out.items()]


_INSTEAD = {
    "Fisher": "a cell of fewer than 10 texts: Fisher's exact test stands in for Welch's",
    "permutation": "fewer than 10 texts on one side: a permutation test stands in for Welch's",
    "sign flips": "texts of fewer than 10 groups on one side: sign flips of groups stand in for the "
    "cluster-robust test",
}


def _small_cells(analysis: Analysis) -> list[str]:
    notes: list[str] = []
    for test, why in _INSTEAD.items():
        concerned = [j for j, one in enumerate(analysis.separations) if one.test == test]
        if concerned:
            notes.append(f"{_names(concerned)}: {why}")
    return notes


def _groups(analysis: Analysis) -> list[str]:
    if analysis.sample.groups is None:
        return []
    notes: list[str] = []
    n, G = analysis.sample.n, len(np.unique(analysis.sample.groups))
    alike, size = _intraclass(analysis)
    if alike > _ALIKE and size > 1.05:
        effective = n / (1 + (size - 1) * alike)
        notes.append(
            f"rows of one group are alike (intraclass correlation of the target {alike:.2f}): for its mean, "
            f"{n} rows in {G} groups count as {effective:.0f} independent ones; errors are cluster-robust"
        )
    if G == 1:
        notes.append("all rows are of one group, so that there are no cluster-robust errors")
    elif G < FEW:
        notes.append(
            f"only {G} groups: cluster-robust errors want some 30; take p-values near the level with care"
        )
    return notes


def _few(analysis: Analysis) -> list[str]:
    """Hypotheses whose coefficient counts few effective groups, or texts, in place of all."""
    if analysis.fit.effective is None:
        return []
    design, grouped = analysis.design, analysis.kind.cov_type == "cluster"
    n, share = (design.n_groups, FEW_OF_GROUPS) if grouped else (design.n, FEW_OF_ROWS)
    spread = analysis.place(analysis.fit.effective)
    spread[list(analysis.unsure())] = np.nan
    few = np.flatnonzero(is_few(spread, n, share)).tolist()
    if not few:
        return []
    least = f"as few as {np.nanmin(spread):.0f} effective ones"
    if grouped:
        return [
            f"{_names(few)}: held by few groups ({least}), so that joint errors and p-values are those of as "
            "many groups; texts of more would help"
        ]
    return [
        f"{_names(few)}: few texts hold it, or do not ({least}), so that joint p-values are those of as many "
        "texts; more would help"
    ]


def _intraclass(analysis: Analysis) -> tuple[float, float]:
    """Intraclass correlation of the target by analysis of variance (Donner 1986); mean group size."""
    y, groups = analysis.sample.target, analysis.sample.groups
    assert groups is not None
    size = np.bincount(groups).astype(np.float64)
    size = size[size > 0]
    n, G = len(y), len(size)
    if G < 2 or n <= G:
        return 0.0, 1.0
    sums = np.bincount(groups, y - y.mean())
    counts = np.bincount(groups)
    between = float((sums[counts > 0] ** 2 / size).sum())
    within = float(((y - y.mean()) ** 2).sum()) - between
    usual = (n - float((size**2).sum()) / n) / (G - 1)
    mean_between, mean_within = between / (G - 1), within / (n - G)
    denominator = mean_between + (usual - 1) * mean_within
    correlation = (mean_between - mean_within) / denominator if denominator > 0 else 0.0
    return correlation, float((size**2).sum()) / n


def _weights(analysis: Analysis) -> list[str]:
    w = analysis.sample.weights
    if w is None:
        return []
    effective = float(w.sum()) ** 2 / float((w**2).sum())
    notes = [f"weights: {len(w)} rows count as {effective:.0f} of equal weight (Kish)"]
    small = [j for j in range(analysis.sample.n_hypotheses) if 0 < _smaller(analysis)[j] < 10]
    if small:
        notes.append(f"{_names(small)}: fewer than 10 texts on one side, and with weights no exact test")
    return notes


def _smaller(analysis: Analysis) -> Floats:
    return np.minimum(analysis.sides.yes.n, analysis.sides.no.n)


def _overlap(analysis: Analysis) -> list[str]:
    factors = inflation(analysis)
    high = [j for j in range(len(factors)) if factors[j] > _INFLATED]
    if not high:
        return []
    return [
        f"{_names(high)}: overlap with the other hypotheses blows up the variance of the coefficient "
        f"{np.nanmax(factors):.0f} times at most: read separation and the groups that say the same, not the "
        "coefficient alone"
    ]


def _events(analysis: Analysis) -> list[str]:
    coefficients = max(len(analysis.fit.columns) - 1, 1)
    y = analysis.sample.target[analysis.design.complete]
    if analysis.kind.family is not LOGIT or not len(analysis.fit.columns):
        return []
    rarer = float(min(y.sum(), len(y) - y.sum()))
    if rarer / coefficients >= _EVENTS:
        return []
    return [
        f"only {rarer / coefficients:.1f} outcomes of the rarer kind per coefficient (10 are usual): the "
        "logit's coefficients tend away from 0; fewer hypotheses or more texts would help"
    ]


def _dispersion(analysis: Analysis) -> list[str]:
    dispersion = analysis.fit.metrics.get("dispersion", np.nan)
    if analysis.kind.family is not POISSON or not dispersion > _DISPERSED:
        return []
    return [
        f"counts vary {dispersion:.1f} times as much as a Poisson model says; the robust errors allow for it"
    ]


def dependence_notes(table: pd.DataFrame, n_significant: int) -> list[str]:
    """Return what other groupings of the rows would change, one sentence each."""
    return [
        f"rows may belong together by {row['grouping']} ({row['n_groups']} groups), and none was named: "
        f"with it, standard errors are {row['se_ratio']:.2f} times as large and "
        + (
            "as many hypotheses are significant"
            if row["n_significant"] == n_significant
            else f"{row['n_significant']} hypotheses are significant instead of {n_significant}"
        )
        for row in table.to_dict("records")
    ]
