"""What the numbers rest on, where it does not hold, what was done instead, and what to do about it: in words.

Each note is one sentence per reason, however many hypotheses it concerns.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.analysis import Analysis, inflation
from hypsae_ray.stats.regression.covariance import FEW, FEW_OF_GROUPS, FEW_OF_ROWS, is_few
from hypsae_ray.stats.regression.likelihood import LOGIT
from hypsae_ray.stats.separation import SMALL_CELL

_MISSING = 0.05
_INFLATED = 10.0
_EVENTS = 10.0
_DISPERSED = 1.5
_ALIKE = 0.01


def notes_of(analysis: Analysis) -> list[str]:
    """Return the notes on one analysis."""
    parts = (
        _drawn, _rows, _columns, _fit, _small_cells, _groups, _few, _weights, _overlap, _events, _dispersion,
    )  # fmt: skip
    return [note for part in parts for note in part(analysis)]


def _names(positions: Iterable[int]) -> str:
    return ", ".join(f"#{j}" for j in positions)


def _drawn(analysis: Analysis) -> Iterator[str]:
    """Rows that were drawn to be labelled, and what proxies of all rows are worth."""
    drawn, n = analysis.sample.drawn, analysis.sample.n
    if drawn is None or n == drawn.n_all:
        return
    what = f"{n:,} of {drawn.n_all:,} rows were labelled, drawn at random; estimates are of all of them"
    effective = analysis.effective()
    if not np.isnan(effective).all():
        low, median, high = np.nanquantile(effective, (0, 0.5, 1))
        what += (
            ". With what was predicted of the others, coefficients are as precise as by "
            f"{median:,.0f} labels drawn plainly (median of hypotheses; {low:,.0f} to {high:,.0f})"
        )
    yield what


def _rows(analysis: Analysis) -> Iterator[str]:
    """Rows that the joint model leaves out, and fixed effects that it absorbs."""
    n, levels = analysis.sample.n, analysis.design.levels
    missing = n - analysis.design.n - (levels.alone if levels else 0)
    if missing:
        yield f"{missing} rows with a missing label are left out of the regression"
    if missing > _MISSING * n:
        yield (
            f"that is {missing / n:.0%} of the rows: the results hold if what is missing has nothing to do "
            "with the target; look at which texts have no label"
        )
    if levels:
        yield f"{levels.df} levels of fixed effects are absorbed; R2 is that within levels"
    if levels and levels.alone:
        yield f"{levels.alone} rows are the only one of their level, and say nothing about differences within"


def _columns(analysis: Analysis) -> Iterator[str]:
    """Columns of the joint model without a coefficient, or without a standard error."""
    names, fit, which = analysis.design.names, analysis.fit, analysis.design.hypotheses
    concerned: dict[str, list[int]] = {}
    for j, reason in sorted(analysis.reasons().items()):
        concerned.setdefault(reason, []).append(j)
    for why, js in concerned.items():
        yield f"no coefficient for {_names(js)}: {why}"
    for j, why in fit.reasons.items():
        if which[j] < 0 and names[j] != "constant":
            yield f"covariate {names[j]} is left out: {why}"
    unsure = [names[j] for j in sorted(fit.unsure) if names[j] != "constant"]
    if unsure:
        why = fit.covariance.reason
        yield f"no standard error for {', '.join(unsure)}: {why}; read the separation score and its test"


def _fit(analysis: Analysis) -> list[str]:
    return analysis.fit.notes


_INSTEAD = {
    "Fisher": "a cell of fewer than 10 texts: Fisher's exact test stands in for Welch's",
    "permutation": "fewer than 10 texts on one side: a permutation test stands in for Welch's",
    "sign flips": "texts of fewer than 10 groups on one side: sign flips of groups stand in for the "
    "cluster-robust test",
}


def _small_cells(analysis: Analysis) -> Iterator[str]:
    tests = [one.test for one in analysis.separations]
    for test, why in _INSTEAD.items():
        if test in tests:
            yield f"{_names(j for j, one in enumerate(tests) if one == test)}: {why}"


def _groups(analysis: Analysis) -> Iterator[str]:
    if analysis.sample.groups is None:
        return
    n, G = analysis.sample.n, len(np.unique(analysis.sample.groups))
    alike, size = _intraclass(analysis.sample.target, analysis.sample.groups)
    if alike > _ALIKE and size > 1.05:
        effective = n / (1 + (size - 1) * alike)
        yield (
            f"rows of one group are alike (intraclass correlation of the target {alike:.2f}): for its mean, "
            f"{n} rows in {G} groups count as {effective:.0f} independent ones; errors are cluster-robust"
        )
    if G == 1:
        yield "all rows are of one group, so that there are no cluster-robust errors"
    elif G < FEW:
        yield f"only {G} groups: cluster-robust errors want some 30; take p-values near the level with care"


def _few(analysis: Analysis) -> Iterator[str]:
    """Hypotheses whose coefficient counts few effective groups, or texts, in place of all."""
    if analysis.fit.covariance.effective is None:
        return
    design, grouped = analysis.design, analysis.method.cov_type == "cluster"
    n, share = (design.n_groups, FEW_OF_GROUPS) if grouped else (design.n, FEW_OF_ROWS)
    effective = analysis.by_hypothesis(analysis.fit.covariance.effective)
    effective[list(analysis.unsure())] = np.nan
    few = np.flatnonzero(is_few(effective, n, share)).tolist()
    if not few:
        return
    least = f"as few as {np.nanmin(effective):.0f} effective ones"
    if grouped:
        why = f"held by few groups ({least}), so that joint errors and p-values are those of as many groups"
        yield f"{_names(few)}: {why}; texts of more would help"
    else:
        why = f"few texts hold it, or do not ({least}), so that joint p-values are those of as many texts"
        yield f"{_names(few)}: {why}; more would help"


def _intraclass(y: Floats, groups: Ints) -> tuple[float, float]:
    """Intraclass correlation of the target by analysis of variance (Donner 1986); mean group size."""
    counts = np.bincount(groups)
    size = counts[counts > 0].astype(np.float64)
    n, G = len(y), len(size)
    if G < 2 or n <= G:
        return 0.0, 1.0
    sums = np.bincount(groups, y - y.mean())
    between = float((sums[counts > 0] ** 2 / size).sum())
    within = float(((y - y.mean()) ** 2).sum()) - between
    usual = (n - float((size**2).sum()) / n) / (G - 1)
    mean_between, mean_within = between / (G - 1), within / (n - G)
    denominator = mean_between + (usual - 1) * mean_within
    correlation = (mean_between - mean_within) / denominator if denominator > 0 else 0.0
    return correlation, float((size**2).sum()) / n


def _weights(analysis: Analysis) -> Iterator[str]:
    w, drawn = analysis.sample.weights, analysis.sample.drawn
    if w is None:
        return
    by_design = drawn is not None and np.ptp(drawn.probability) > 0
    if not by_design:
        effective = float(w.sum()) ** 2 / float((w**2).sum())
        yield f"weights: {len(w)} rows count as {effective:.0f} of equal weight (Kish)"
    elif drawn is not None and drawn.uniform.any():
        return  # such rows are tested exactly
    smaller = np.minimum(analysis.sides.yes.n, analysis.sides.no.n)
    small = np.flatnonzero((smaller > 0) & (smaller < SMALL_CELL)).tolist()
    if small:
        yield f"{_names(small)}: fewer than 10 texts on one side, and with weights no exact test"


def _overlap(analysis: Analysis) -> Iterator[str]:
    factors = inflation(analysis)
    high = np.flatnonzero(factors > _INFLATED).tolist()
    if high:
        yield (
            f"{_names(high)}: overlap with the other hypotheses blows up the variance of the coefficient "
            f"{np.nanmax(factors):.0f} times at most: read separation and the groups that say the same, not "
            "the coefficient alone"
        )


def _events(analysis: Analysis) -> Iterator[str]:
    if analysis.method.family is not LOGIT or not len(analysis.fit.columns):
        return
    y = analysis.sample.target[analysis.design.complete]
    events = float(min(y.sum(), len(y) - y.sum())) / max(len(analysis.fit.columns) - 1, 1)
    if events < _EVENTS:
        yield (
            f"only {events:.1f} outcomes of the rarer kind per coefficient (10 are usual): the logit's "
            "coefficients tend away from 0; fewer hypotheses or more texts would help"
        )


def _dispersion(analysis: Analysis) -> Iterator[str]:
    times = analysis.fit.metrics.get("dispersion", 0.0)
    if times > _DISPERSED:
        yield f"counts vary {times:.1f} times as much as a Poisson model says; the robust errors allow for it"


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
