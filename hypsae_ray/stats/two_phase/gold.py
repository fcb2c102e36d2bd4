"""Labels of people on some rows, which correct what is estimated from labels of a model on all of them.

What people say is the truth, z; the model's P(yes) is known of all rows, and is the proxy m of
predict-then-debias (`debias`). Nothing is assumed of the model's errors: their rates may differ by hypothesis
and by the target. A hypothesis that people did not label keeps the model's labels, taken as right.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hypsae_ray.data.arrays import Bools, Floats, Ints
from hypsae_ray.stats.analysis import Analysis, Method
from hypsae_ray.stats.prevalence import intervals, prevalences
from hypsae_ray.stats.regression.design import Design, make_design
from hypsae_ray.stats.regression.estimates import Fit
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.likelihood import LINEAR
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import Drawn, LabelArray, Sample, drawn_sample
from hypsae_ray.stats.separation import PRESENCE, SMALL_CELL, sum_sides
from hypsae_ray.stats.two_phase.alone import PREVALENCE, correct_alone
from hypsae_ray.stats.two_phase.joint import correct_joint
from hypsae_ray.stats.two_phase.probabilities import spread_of_influence
from hypsae_ray.stats.two_phase.proxies import fill
from hypsae_ray.stats.two_phase.raters import accuracy, coder_kappas, kappas

LEAST_CHANCE = 0.1
"""That a label is 1 where P(yes) is 0, or 0 where it is 1: models are too sure of themselves."""

NO_COEFFICIENT = "no corrected coefficient"
"""How a note begins that says why there is none."""


@dataclass(frozen=True)
class Gold:
    """Labels of people.

    Attributes:
        positions: (n,) of the rows that have one, among the N that the model labelled; ascending.
        probability: (n,) with which each was drawn from them.
        coders: (C, n, H) what each of C people says: 0, 1, NaN where nothing.
    """

    positions: Ints
    probability: Floats
    coders: Floats

    @property
    def labels(self) -> Floats:
        """What most people say, (n, H); NaN where none does, or as many say 1 as say 0."""
        yes, said = np.nansum(self.coders, axis=0), (~np.isnan(self.coders)).sum(axis=0)
        return np.where(2 * yes == said, np.nan, (2 * yes > said).astype(np.float64))

    @property
    def n_ties(self) -> int:
        """Pairs of row and hypothesis of which as many people say 1 as say 0."""
        return int((np.isnan(self.labels) & ~np.isnan(self.coders).all(axis=0)).sum())


@dataclass(frozen=True)
class Corrections:
    """What labels of people change.

    Attributes:
        table: a row per hypothesis that people labelled. hypothesis_id (position); n_gold (rows with a label
            of people); n_joint (those that the corrected coefficient rests on); raw_coef and corrected_coef
            of the joint model; raw_prevalence and corrected_prevalence (shares); sensitivity and specificity
            of the model's labels (shares), kappa of them with people's; each with + _ci_low and + _ci_high,
            95 %; coder_kappa (mean of all pairs of people; NaN without any).
        notes: what was left out, and why, in words.
    """

    table: pd.DataFrame
    notes: list[str]


@dataclass(frozen=True)
class _Case:
    """N rows with labels and P(yes) (N, H) of the model, how they are analysed, and labels of people."""

    whole: Sample
    p_yes: Floats
    method: Method
    gold: Gold

    @property
    def own(self) -> Ints:
        """The hypotheses that people labelled."""
        return np.flatnonzero((~np.isnan(self.gold.labels)).any(axis=0))

    @property
    def chosen(self) -> Bools:
        """Whose labels of people the joint model takes, (H,): those on half of the people's rows or more."""
        n = (~np.isnan(self.gold.labels)).sum(axis=0)
        return (n > 0) & (2 * n >= len(self.gold.positions))

    @property
    def complete(self) -> Bools:
        """Rows with a label of people for each chosen hypothesis, (n,)."""
        return np.asarray((~np.isnan(self.gold.labels[:, self.chosen])).all(axis=1))

    def sample(self, labels: Floats, proxies: Floats, which: Bools) -> Sample:
        """Return some of the people's rows, with labels (n, h) and their proxies (N, h)."""
        gold, everyone = self.gold, replace(self.whole, labels=LabelArray(proxies))
        drawn = Drawn(
            self.whole.n,
            gold.probability[which],
            np.zeros(int(which.sum()), dtype=bool),
            gold.positions[which],
            everyone,
        )
        return drawn_sample(self.whole, LabelArray(labels[which]), drawn)


def draw_size(analysis: Analysis, whole: Sample, p_yes: Floats, chosen: Bools) -> Floats:
    """Return in proportion to what rows (N,) are to be drawn for people to label: by what a label tells.

    Args:
        analysis: of the model's labels.
        whole: its rows.
        p_yes: (N, H) of the model, NaN where there is none.
        chosen: (H,) the hypotheses that people label; of others the model's labels are taken as right.
    """
    chance = LEAST_CHANCE + (1 - 2 * LEAST_CHANCE) * fill(p_yes)
    certain = np.rint(fill(_all_labels(whole)))
    expected = np.where(chosen, chance, certain)
    return spread_of_influence(analysis, replace(whole, labels=LabelArray(expected)))


def _all_labels(sample: Sample) -> Floats:
    return np.concatenate([labels for _, labels in sample.blocks()])


def correct_by_gold(whole: Sample, p_yes: Floats, method: Method, gold: Gold) -> Corrections:
    """Correct estimates from labels of a model by labels of people on some rows.

    Args:
        whole: the N rows that the model labelled, with its labels; weights are one over the probability of
            rows that were drawn for the model. It stands for all rows: `drawn` is not used.
        p_yes: (N, H) of the model, NaN where there is none.
        method: of the analysis.
        gold: labels of people on n of these rows.
    """
    case = _Case(replace(whole, drawn=None, doses=None), p_yes, method, gold)
    raw_design, raw = _fit(case.whole, method, None)
    corrected, why = _corrected(case, raw_design.live)
    own = case.own
    columns: dict[str, object] = {"hypothesis_id": own, "n_gold": (~np.isnan(gold.labels)).sum(axis=0)[own]}
    columns["n_joint"] = np.where(case.chosen[own] & (corrected is not None), case.complete.sum(), 0)
    columns |= _coefficients("raw_coef", case, (raw_design, raw))
    columns |= _coefficients("corrected_coef", case, corrected)
    columns |= _prevalences(case) | _agreement(case)
    return Corrections(pd.DataFrame(columns), [*_notes(case, raw_design.live), *why])


def _fit(sample: Sample, method: Method, live: Ints | None) -> tuple[Design, Fit]:
    """Fit the joint model on the `live` hypotheses; None: on those with labels on half of the rows."""
    if live is None:
        n = sum((~np.isnan(labels)).sum(axis=0) for _, labels in sample.blocks())
        live = np.flatnonzero((n > 0) & (2 * n >= sample.n))
    design = make_design(sample, live, centred=method.family is LINEAR)
    moments = sum_moments(design)[0]
    return design, fit_joint(design, moments, method.cov_type, method.family, method.contrast)


def _corrected(case: _Case, live: Ints) -> tuple[tuple[Design, Fit] | None, list[str]]:
    """Return the joint model with labels of people in place of the model's; or why there is none."""
    which, method = case.complete, case.method
    if not len(np.intersect1d(np.flatnonzero(case.chosen), live)) or not which.any():
        return None, [f"{NO_COEFFICIENT}: no hypothesis of the regression has labels of people"]
    said = fill(_all_labels(case.whole))
    proxies = np.where(case.chosen, fill(case.p_yes), said)
    labels = np.where(case.chosen, case.gold.labels, said[case.gold.positions])
    design, fit = _fit(case.sample(labels, proxies, which), method, live)
    found = correct_joint(design, fit, method.family, method.contrast) if len(fit.columns) else None
    if found is None:
        return None, [f"{NO_COEFFICIENT}: {_why_not(fit)} ({int(which.sum())} rows that people labelled)"]
    return (design, found.fit), []


def _why_not(fit: Fit) -> str:
    if not len(fit.columns):
        return fit.notes[0].removeprefix("no joint regression: ")
    separated = "their outcomes are separated, which labels of more texts may mend"
    return separated if fit.model.endswith("Firth") else "P(yes) fits no model of the target"


def _coefficients(name: str, case: _Case, found: tuple[Design, Fit] | None) -> dict[str, Floats]:
    """Return the estimates of the hypotheses that people labelled, with their intervals."""
    values = np.full((3, case.whole.n_hypotheses), np.nan)
    if found is not None and len(found[1].columns):
        design, fit = found
        which = design.hypotheses[fit.columns]
        estimated = np.vstack([fit.estimates.value, fit.estimates.interval(0.95).T])
        values[:, which[which >= 0]] = estimated[:, which >= 0]
    if found is not None and name != "raw_coef":
        values[:, ~case.chosen] = np.nan  # not corrected for errors of its own
    return _with_ends(name, values[0, case.own], values[1:, case.own].T)


def _with_ends(name: str, value: Floats, ends: Floats) -> dict[str, Floats]:
    return {name: value, f"{name}_ci_low": ends[:, 0], f"{name}_ci_high": ends[:, 1]}


def _prevalences(case: _Case) -> dict[str, Floats]:
    """Prevalences by the model, and corrected: of each hypothesis by all of its rows, complete or not."""
    own, known = case.own, (~np.isnan(case.p_yes)).sum(axis=0).astype(np.float64)
    raw = prevalences(case.whole)
    ends = intervals(raw, known)
    columns = _with_ends("raw_prevalence", raw.value[own], ends[own])
    labels, proxies = case.gold.labels[:, own], fill(case.p_yes[:, own])
    sample = case.sample(labels, proxies, np.ones(len(labels), dtype=bool))
    (found,) = correct_alone(sample, [PREVALENCE])
    found = replace(found, value=np.clip(found.value, 0, 1))
    n = (~np.isnan(labels)).sum(axis=0).astype(np.float64)
    sides = sum_sides(sample, PRESENCE)
    df = np.minimum(sides.yes.effective, sides.no.effective) - 1
    return columns | _with_ends("corrected_prevalence", found.value, intervals(found, n, df))


def _agreement(case: _Case) -> dict[str, Floats]:
    """How the model's labels agree with people's, and people's with one another."""
    own, gold = case.own, case.gold
    labels = gold.labels[:, own]
    model = Drawn(case.whole.n, gold.probability, gold.probability > 1, gold.positions, case.whole)
    said = model.proxies()[:, own]
    sample = case.sample(labels, fill(case.p_yes[:, own]), np.ones(len(labels), dtype=bool))
    columns: dict[str, Floats] = {}
    for name, value in (("sensitivity", 1), ("specificity", 0)):
        columns |= _with_ends(name, *accuracy(sample, said, value))
    columns |= _with_ends("kappa", *kappas(sample, said))
    return columns | {"coder_kappa": coder_kappas(sample, gold.coders[:, :, own])}


def _notes(case: _Case, live: Ints) -> Iterator[str]:
    gold, chosen = case.gold, case.chosen
    n, joint = len(gold.positions), int(case.complete.sum())
    yield (
        f"{n} texts were labelled by people: coefficients corrected for what the model gets wrong are in the "
        "table gold"
    )
    if joint < n:
        yield f"{n - joint} of them have not every label, and are left out of the corrected coefficients"
    if gold.n_ties:
        yield f"{gold.n_ties} labels count as missing: as many people say yes as say no"
    few = np.setdiff1d(case.own, np.flatnonzero(chosen))
    if len(few):
        yield f"{_names(few)}: labelled on fewer than half of these texts: {NO_COEFFICIENT}"
    kept = live[~chosen[live]]
    if len(kept):
        yield f"{_names(kept)}: the model's labels are taken as right where others are corrected"
    yield from _small(case)


def _small(case: _Case) -> Iterator[str]:
    yes = (case.gold.labels[:, case.own] == 1).sum(axis=0)
    no = (case.gold.labels[:, case.own] == 0).sum(axis=0)
    rare = case.own[np.minimum(yes, no) < SMALL_CELL]
    if len(rare):
        yield (
            f"{_names(rare)}: people say yes, or no, to fewer than {SMALL_CELL} texts: take what is "
            "corrected with care; more texts would help"
        )


def _names(positions: Ints) -> str:
    return ", ".join(f"#{j}" for j in positions)
