"""Separation scores and prevalences, corrected by proxies of all rows.

Proxies between 0 and 1 count in part as texts with the property, and in part as texts without.
"""

from collections.abc import Callable, Sequence
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
        there, missing = np.broadcast_to(weight[:, None], values.shape), np.isnan(values)
        if missing.any():  # proxies never are, and there are many of them
            there, values = np.where(missing, 0.0, there), np.where(missing, 0.0, values)
        yes = values * there
        weights = np.stack([yes, there - yes])
        return cls(weights, weights * target[:, None])

    @classmethod
    def over_all(cls, sample: Sample) -> "SideSums":
        """Return the sums over all rows of a sample of proxies, which are never NaN, block by block."""
        total = cls(*np.zeros((2, 2, sample.n_hypotheses)))
        for rows, proxies in sample.blocks():
            weight = sample.weight(rows)
            both = np.stack([weight, weight * sample.target[rows]])
            yes, every = both @ proxies.astype(np.float64), both.sum(axis=1)[:, None]
            total += cls(*np.stack([yes, every - yes], axis=1))
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


def correct_alone(sample: Sample, measures: Sequence[Measure]) -> list[Values]:
    """Return measures of the labels of drawn rows, corrected by the proxies of all rows.

    NaN for a hypothesis that all labelled rows have, or none.
    """
    drawn = sample.drawn
    assert drawn is not None and drawn.all_rows is not None
    total = SideSums.over_all(drawn.all_rows)
    labels = np.concatenate([values for _, values in sample.blocks()])
    rows = _rows(sample, labels)
    of_proxies = _rows(sample, np.where(np.isnan(labels), np.nan, drawn.proxies()))
    tells = _vary(of_proxies)  # the influence of one that does not vary is rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        influences = [
            (_influences(one, rows, sample), np.where(tells, _influences(one, of_proxies, sample), 0.0))
            for one in measures
        ]
        products = _against_all(measures, influences, tells, total, drawn)
        found = list[Values]()
        for measure, sums in zip(measures, products, strict=True):
            difference = measure.value(of_proxies.together()) - measure.value(total)
            difference = np.where(tells, difference, 0.0)
            fixed = correct(sums, difference, np.arange(sample.n_hypotheses), sample.n)
            found.append(Values(measure.value(rows.together()) - fixed.shift, np.diag(fixed.matrix)))
    return found


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
    measures: Sequence[Measure],
    influences: Sequence[tuple[Floats, Floats]],
    tells: Bools,
    total: SideSums,
    drawn: Drawn,
) -> list[Influences]:
    """Return products of influences, those of the proxies of all rows on what their total says."""
    all_rows = drawn.all_rows
    assert all_rows is not None
    found = [np.zeros_like(gamma) for _, gamma in influences]
    squares = [np.zeros((len(tells), len(tells))) for _ in measures]
    for rows, values in all_rows.blocks():
        sides = SideSums.of_rows(all_rows.weight(rows), all_rows.target[rows], values)
        first, end = np.searchsorted(drawn.positions, (rows.start, rows.stop))
        for measure, mine, square in zip(measures, found, squares, strict=True):
            moves = measure.influence(total, sides, False)
            moves[:, ~tells] = 0
            square += moves.T @ moves
            if all_rows.groups is not None:
                add_by_group(mine, all_rows.groups[rows], moves)
            else:
                mine[first:end] = moves[drawn.positions[first:end] - rows.start]
    if all_rows.groups is not None:
        return [over_groups(*both, mine) for both, mine in zip(influences, found, strict=True)]
    return [
        over_rows(*both, mine, square) for both, mine, square in zip(influences, found, squares, strict=True)
    ]
