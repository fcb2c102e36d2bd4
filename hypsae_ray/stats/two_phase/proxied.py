"""An analysis of labelled rows, corrected by what proxies say of all rows."""

from dataclasses import replace

import numpy as np

from hypsae_ray.stats.analysis import Analysis
from hypsae_ray.stats.prevalence import Values
from hypsae_ray.stats.sample import Drawn, LabelArray, Sample
from hypsae_ray.stats.separation import PRESENCE, SMALL_CELL, Separation, separations, sum_sides
from hypsae_ray.stats.two_phase.alone import PREVALENCE, SEPARATION, correct_alone
from hypsae_ray.stats.two_phase.joint import correct_joint


def use_proxies(analysis: Analysis, rng: np.random.Generator) -> Analysis:
    """Return an analysis whose estimates are of all rows, where these were not all labelled.

    Unchanged where all rows were labelled, or where no proxy is known. What rests on an exact test stays as
    it is: proxies help where labels are many.
    """
    sample, drawn = analysis.sample, analysis.sample.drawn
    if drawn is None or len(drawn.positions) == drawn.n_all:
        return analysis
    analysis = _exact_on_uniform_rows(analysis, drawn, rng)
    if drawn.all_rows is None or sample.doses is not None or analysis.method.contrast is not PRESENCE:
        return analysis
    scores, shares = correct_alone(sample, (SEPARATION, PREVALENCE))
    separated = [_separation(one, scores, j) for j, one in enumerate(analysis.separations)]
    analysis = replace(analysis, separations=separated, prevalence=shares)
    method = analysis.method
    joint = correct_joint(analysis.design, analysis.fit, method.family, method.contrast)
    if joint is None:
        return analysis
    return replace(analysis, fit=joint.fit, phases=joint.phases)


def _separation(one: Separation, found: Values, j: int) -> Separation:
    """The corrected score with the degrees of freedom of the labels, unless an exact test stands for it."""
    value, se = float(found.value[j]), float(np.sqrt(found.variance[j]))
    return one.around(value, se) if np.isfinite(one.df) and se > 0 else one


def _exact_on_uniform_rows(analysis: Analysis, drawn: Drawn, rng: np.random.Generator) -> Analysis:
    """Test by the rows that were drawn with one probability what few labels of unequal weight stand for."""
    sample, sides = analysis.sample, analysis.sides
    few = np.flatnonzero(np.minimum(sides.yes.effective, sides.no.effective) < SMALL_CELL)
    if not len(few) or np.ptp(drawn.probability) == 0 or not drawn.uniform.any():
        return analysis
    uniform = _uniform_rows(sample, drawn)
    found = separations(uniform, sum_sides(uniform, analysis.method.contrast), rng)
    tested = {int(j): found[j] for j in few}
    return replace(analysis, separations=[tested.get(j, one) for j, one in enumerate(analysis.separations)])


def _uniform_rows(sample: Sample, drawn: Drawn) -> Sample:
    """The rows of the uniform draw, with the weights that they have in a survey, if they have any."""
    rows, weights = drawn.uniform, None
    if sample.weights is not None:
        weights = (sample.weights * drawn.probability)[rows]
        weights = None if np.allclose(weights, weights[:1]) else weights
    labels = np.concatenate([values for _, values in sample.blocks()])[rows]
    groups = None if sample.groups is None else sample.groups[rows]
    return Sample(LabelArray(labels), sample.target[rows], groups, weights)
