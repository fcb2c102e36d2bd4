"""Separation scores and prevalences, corrected by proxies of all rows.

Proxies between 0 and 1 count in part as texts with the property, and in part as texts without.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hypsae_ray.data.arrays import Bools, Floats
from hypsae_ray.stats.prevalence import Values
from hypsae_ray.stats.sample import Drawn, Sample, add_by_group, sum_by_group
from hypsae_ray.stats.two_phase.debias import Influences, correct, over_groups, over_rows


@dataclass(frozen=True)
class SideSums:
    """Weight, and weighted target, of texts with a property (first) and without.

    (2, U, H) of U rows, or groups of them; (2, H) of all together.
    """

    weight: Floats
    target: Floats

    @classmethod
    def of_rows(cls, weight: Floats, target: Floats, values: Floats) -> "SideSums":
        """Take rows of weight (m,), target (m,), and values (m, H) that are NaN where there is no label."""
        there = np.where(np.isnan(values), 0.0, weight[:, None])
        yes = np.nan_to_num(values) * there
        weights = np.stack([yes, there - yes])
        return cls(weights, weights * target[:, None])

    @classmethod
    def over_all(cls, sample: Sample) -> "SideSums":
        """Return the sums over all rows of a sample, read block by block."""
        total = cls(*np.zeros((2, 2, sample.n_hypotheses)))
        for rows, values in sample.blocks():
            total += cls.of_rows(sample.weight(rows), sample.target[rows], values).together()
        return total

    def by_group(self, sample: Sample) -> "SideSums":
        """Return the sums by group of the sample whose rows these are."""
        assert sample.groups is not None
        sums = ([sum_by_group(sample.groups, sample.n_groups, one) for one in part] for part in self._both)
        return SideSums(*map(np.stack, sums))

    def together(self) -> "SideSums":
        """Return the sums over all."""
        return SideSums(*(part.sum(axis=1) for part in self._both))

    @property
    def _both(self) -> tuple[Floats, Floats]:
        return self.weight, self.target

    def __add__(self, other: "SideSums") -> "SideSums":
        """Return the sums of both."""
        return SideSums(self.weight + other.weight, self.target + other.target)


@dataclass(frozen=True)
class Measure:
    """What is estimated of sums (2, H), and the influence (U, H) on it of each unit that these are sums of.

    With True, the influence is as leaving the unit out would show it.
    """

    value: Callable[[SideSums], Floats]
    influence: Callable[[SideSums, SideSums, bool], Floats]


def _separation(total: SideSums) -> Floats:
    yes, no = total.target / total.weight
    return yes - no


def _moves_separation(total: SideSums, units: SideSums, inflated: bool) -> Floats:
    """By 1 / sqrt(1 - h), as in Welch's test and in CR2."""
    moves = (units.target - (total.target / total.weight)[:, None] * units.weight) / total.weight[:, None]
    if inflated:
        moves /= np.sqrt(np.maximum(1 - units.weight / total.weight[:, None], 1e-12))
    return moves[0] - moves[1]


def _prevalence(total: SideSums) -> Floats:
    return total.weight[0] / total.weight.sum(axis=0)


def _moves_prevalence(total: SideSums, units: SideSums, inflated: bool) -> Floats:
    """By n / (n - 1), as the variance of a mean is."""
    either = units.weight.sum(axis=0)
    moves = (units.weight[0] - _prevalence(total) * either) / total.weight.sum(axis=0)
    n = (either > 0).sum(axis=0)
    return moves * np.sqrt(n / np.maximum(n - 1, 1)) if inflated else moves


SEPARATION = Measure(_separation, _moves_separation)
PREVALENCE = Measure(_prevalence, _moves_prevalence)


def correct_alone(
    sample: Sample, drawn: Drawn, all_rows: Sample, total: SideSums, measure: Measure
) -> Values:
    """Return a measure of the labels of a sample, corrected by the proxies of all rows, of a total (2, H).

    NaN for a hypothesis that all labelled rows have, or none.
    """
    labels = np.concatenate([values for _, values in sample.blocks()])
    rows = _rows(sample, labels)
    of_proxies = _rows(sample, np.where(np.isnan(labels), np.nan, drawn.proxies()))
    with np.errstate(divide="ignore", invalid="ignore"):
        theta, gamma = (_influences(measure, one, sample) for one in (rows, of_proxies))
        tells = _vary(of_proxies)  # the influence of one that does not vary is rounding
        gamma = np.where(tells, np.nan_to_num(gamma), 0.0)
        products = _against_all(measure, theta, gamma, tells, total, drawn, all_rows)
        difference = measure.value(of_proxies.together()) - measure.value(total)
        difference = np.where(tells, np.nan_to_num(difference), 0.0)
        fixed = correct(products, difference, np.arange(sample.n_hypotheses), sample.n)
        return Values(measure.value(rows.together()) - fixed.shift, np.diag(fixed.matrix))


def _rows(sample: Sample, values: Floats) -> SideSums:
    return SideSums.of_rows(sample.weight(slice(0, sample.n)), sample.target, values)


def _influences(measure: Measure, rows: SideSums, sample: Sample) -> Floats:
    units = rows if sample.groups is None else rows.by_group(sample)
    return measure.influence(rows.together(), units, True)


def _vary(rows: SideSums) -> Bools:
    """Which proxies (H,) are not the same on all labelled rows."""
    there = rows.weight.sum(axis=0)
    share = np.where(there > 0, rows.weight[0] / np.where(there > 0, there, 1), np.nan)
    return np.nanmax(share, axis=0, initial=0) - np.nanmin(share, axis=0, initial=1) > 1e-9


def _against_all(
    measure: Measure,
    theta: Floats,
    gamma: Floats,
    tells: Bools,
    total: SideSums,
    drawn: Drawn,
    all_rows: Sample,
) -> Influences:
    """Return products of influences, those of the proxies of all rows on what their total says."""
    found, square = np.zeros_like(gamma), np.zeros((all_rows.n_hypotheses, all_rows.n_hypotheses))
    for rows, values in all_rows.blocks():
        sides = SideSums.of_rows(all_rows.weight(rows), all_rows.target[rows], values)
        moves = np.where(tells, np.nan_to_num(measure.influence(total, sides, False)), 0.0)
        square += moves.T @ moves
        if all_rows.groups is not None:
            add_by_group(found, all_rows.groups[rows], moves)
        else:
            first, end = np.searchsorted(drawn.positions, (rows.start, rows.stop))
            found[first:end] = moves[drawn.positions[first:end] - rows.start]
    if all_rows.groups is not None:
        return over_groups(theta, gamma, found)
    return over_rows(theta, gamma, found, square)
