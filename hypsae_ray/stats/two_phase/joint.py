"""Coefficients of the joint model, corrected by proxies of all rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.stats.regression.algebra import inverse
from hypsae_ray.stats.regression.collinear import find_independent
from hypsae_ray.stats.regression.design import Design, Rows, make_design
from hypsae_ray.stats.regression.estimates import Fit, wald
from hypsae_ray.stats.regression.glm import average_effects
from hypsae_ray.stats.regression.likelihood import LINEAR, LOGIT, Family, Problem, information, maximise
from hypsae_ray.stats.regression.linear import Moments, sum_moments
from hypsae_ray.stats.sample import Drawn, LabelArray, Sample, add_by_group, sum_by_group
from hypsae_ray.stats.separation import Contrast
from hypsae_ray.stats.two_phase.debias import Phases, correct, over_groups, over_rows


@dataclass(frozen=True)
class _Model:
    """A model at its maximum: its rows and columns, and beta (k,) with the inverse of its information."""

    design: Design
    family: Family
    beta: Floats
    bread: Floats

    @property
    def units(self) -> Floats:
        """What turns beta into coefficients of the data's own columns, (k, k)."""
        design, matrix = self.design, np.diag(1 / self.design.scale)
        if "constant" in design.kept_names[:1]:
            first, centres = 1, design.covariate_scale[0]
            means = dict(zip(range(first, first + len(centres)), centres, strict=True))
            shift = np.array([means.get(int(j), 0.0) for j in design.kept])
            matrix[0] -= shift / design.scale
        return matrix

    @property
    def coefficients(self) -> Floats:
        """Coefficients (k,) of the data's own columns."""
        found = self.units @ self.beta
        found[:1] += self.design.centre * ("constant" in self.design.kept_names[:1])
        return found

    def influences(self, *, inflated: bool) -> Iterator[tuple[Rows, Floats]]:
        """Yield rows with their influence (m, k) on the coefficients.

        `inflated`: over 1 - leverage, so that it is what leaving the row out changes, as in HC3.
        """
        units = self.units.T
        for rows in self.design.rows():
            mu, moves = self.family.mean(rows.X @ self.beta), rows.X @ self.bread
            found = (moves @ units) * (rows.w * (rows.y - mu))[:, None]
            if inflated:
                curvature = rows.w * self.family.variance(mu)
                outside = 1 - (moves * rows.X).sum(axis=1) * curvature - rows.leverage
                found /= np.where(outside > 1e-8, outside, np.inf)[:, None]
            yield rows, found


@dataclass(frozen=True)
class Corrected:
    """A fit whose estimates proxies have corrected, and what their variances are made of."""

    fit: Fit
    phases: Phases


def correct_joint(design: Design, fit: Fit, family: Family, contrast: Contrast) -> Corrected | None:
    """Return the fit of the labels of drawn rows, with coefficients and errors corrected by proxies.

    None where that cannot be: the fit is no maximum of a likelihood, or the model of the proxies has none.
    """
    drawn = design.sample.drawn
    assert drawn is not None
    if drawn.all_rows is None or not fit.model.endswith((LINEAR.name, "maximum likelihood")):
        return None
    kept = design.keep(fit.columns)
    beta = fit.estimates.value * kept.scale
    labelled = _Model(kept, family, beta, inverse(information(kept, family, beta)))
    models = _models_of_proxies(labelled, drawn, drawn.all_rows)
    return None if models is None else _corrected(fit, labelled, models, drawn, contrast)


def _models_of_proxies(labelled: _Model, drawn: Drawn, all_rows: Sample) -> tuple[_Model, _Model] | None:
    """Fit proxies in place of labels, on the drawn rows and on all; None where either has no maximum."""
    sample, family = labelled.design.sample, labelled.family
    labels = np.concatenate([one for _, one in sample.dose_blocks()])
    proxies = LabelArray(np.where(np.isnan(labels), np.nan, drawn.proxies()))
    samples = (replace(sample, labels=proxies, doses=None), all_rows)
    designs = [make_design(one, labelled.design.live, centred=family is LINEAR) for one in samples]
    columns: Ints = labelled.design.kept
    for design in designs:  # a proxy may be the same on all rows, or what other proxies make up
        moments = sum_moments(design)[0]
        names = [design.names[j] for j in columns]
        independent = find_independent(moments.gram[np.ix_(columns, columns)], names, moments.weight)
        columns = columns[list(independent.kept)]
    if not len(columns):
        return None
    fitted = [_fit(design.keep(columns), family) for design in designs]
    return None if fitted[0] is None or fitted[1] is None else (fitted[0], fitted[1])


def _fit(design: Design, family: Family) -> _Model | None:
    moments = sum_moments(design)[0]
    if family is LINEAR:
        bread = inverse(moments.gram)
        return _Model(design, family, bread @ moments.cross, bread)
    try:
        top = maximise(Problem(design, family), _start(moments, family))
    except np.linalg.LinAlgError:
        return None
    return _Model(design, family, top.beta, inverse(top.information)) if top.settled else None


def _start(moments: Moments, family: Family) -> Floats:
    start, mean = np.zeros(len(moments.cross)), moments.total / moments.weight
    start[0] = np.log(mean / (1 - mean)) if family is LOGIT else np.log(mean)
    return start


def _corrected(
    fit: Fit, labelled: _Model, models: tuple[_Model, _Model], drawn: Drawn, contrast: Contrast
) -> Corrected:
    design, sample = labelled.design, labelled.design.sample
    grouped = sample.groups is not None
    is_hc3 = not grouped and fit.covariance.effective is not None
    theta, of_drawn = (_influences(one, inflated=is_hc3) for one in (labelled, models[0]))
    everywhere, square = _of_all(models[1], drawn, sample.n_groups, inflated=is_hc3)
    if sample.groups is None:
        sums = over_rows(theta, of_drawn, everywhere, square)
    else:
        of_groups = partial(sum_by_group, sample.groups, sample.n_groups)
        sums = over_groups(of_groups(theta), of_groups(of_drawn), everywhere)
    position = {int(column): i for i, column in enumerate(models[0].design.kept)}
    own = np.array([position.get(int(column), -1) for column in design.kept])
    found = correct(sums, models[0].coefficients - models[1].coefficients, own, design.n)
    usual, back = fit.covariance, inverse(labelled.units)
    # The labels alone have the covariance of the fit: of few groups, or as its model says, it is another one.
    alone = np.diag(labelled.units @ usual.matrix @ labelled.units.T)
    with np.errstate(invalid="ignore"):  # below 0 by rounding where one row alone decides: no error is known
        stretch = np.sqrt(alone / np.diag(sums.theta))
    matrix = found.matrix * np.outer(stretch, stretch)
    covariance = replace(usual, matrix=back @ matrix @ back.T)
    beta = labelled.beta - back @ found.shift
    effects = None
    if labelled.family is not LINEAR:
        effects = average_effects(design, labelled.family, beta, covariance, contrast)
    left = (theta - of_drawn @ found.omega.T) * stretch * found.stretch
    phases = Phases(drawn.probability, np.diag(sums.theta) * stretch**2, theta * stretch, left)
    return Corrected(
        replace(
            fit,
            estimates=wald(beta, covariance).scaled(1 / design.scale),
            covariance=covariance,
            errors=f"{fit.errors}, corrected by proxies",
            effects=effects,
        ),
        phases,
    )


def _influences(model: _Model, *, inflated: bool) -> Floats:
    """Return the influence of each row of the sample (n, k); 0 for rows without every label."""
    found = np.zeros((model.design.sample.n, len(model.beta)))
    for rows, values in model.influences(inflated=inflated):
        found[rows.index] = values
    return found


def _of_all(model: _Model, drawn: Drawn, n_groups: int, *, inflated: bool) -> tuple[Floats, Floats]:
    """Return the influence of the drawn rows (n, k), or by group (G, k); and the products of all (k, k).

    `inflated` as those on gamma of the drawn rows, or both would differ where nearly all rows are drawn.
    """
    sample, k = model.design.sample, len(model.beta)
    found, square = np.zeros((n_groups or len(drawn.positions), k)), np.zeros((k, k))
    for rows, values in model.influences(inflated=inflated):
        square += values.T @ values
        if sample.groups is not None:
            add_by_group(found, sample.groups[rows.index], values)
        else:
            first, end = np.searchsorted(drawn.positions, (rows.index[0], rows.index[-1] + 1))
            found[first:end] = values[drawn.positions[first:end] - rows.index[0]]
    return found, square
