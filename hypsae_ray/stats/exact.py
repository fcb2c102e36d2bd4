"""Tests that hold where a cell is too small for a t distribution.

- Permutations of who is on which side: exact whatever the target's distribution, as long as it is the same on
  both sides. The statistic is Welch's t, with which the test also holds asymptotically where only the means
  are equal (Janssen 1997). The interval inverts it: the shifts of one side that would not be rejected.
- Fisher's exact test (1922) for a target of two values, with Newcombe's hybrid score interval (1998).
- Sign flips of group scores: the wild cluster bootstrap of Cameron, Gelbach and Miller (2008), with scores as
  the hypothesis tested has them: around the means of both sides they would add up to 0.
"""

import math
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.sample import slices

_ALPHA = 1 - 0.95  # of the intervals
# Up to this many ways to choose the smaller side, all are tried.
_ALL = 50_000
_ALL_FLIPS = 12
# Signs at once, 80 MB as numbers, and of one test: about 20 seconds.
_SIGNS_AT_ONCE = 10_000_000
_MOST_SIGNS = 2_000_000_000


@dataclass(frozen=True)
class Result:
    """A p-value, and a 95 % interval, which may have no end (infinite) or not be known (NaN)."""

    pval: float
    ci_low: float = math.nan
    ci_high: float = math.nan


def permutation_test(yes: Floats, no: Floats, rng: np.random.Generator, draws: int) -> Result:
    """Test whether the targets (n1,) and (n0,) of two sides, of one text or more, differ in their mean.

    The interval is that of the mean of `yes` minus the mean of `no`. So many permutations are drawn, unless
    there are so few that all are tried.
    """
    if len(yes) > len(no):
        turned = permutation_test(no, yes, rng, draws)
        return Result(turned.pval, -turned.ci_high, -turned.ci_low)
    pool, size = np.concatenate([yes, no]), len(yes)
    pool = pool - pool.mean()
    if math.comb(len(pool), size) <= _ALL:
        chosen = np.array(list(combinations(range(len(pool)), size)))
    else:
        chosen = np.vstack([np.arange(size), _subsets(len(pool), size, rng, draws)])
    test = _Permutations.of(pool, chosen)
    if size < 2:
        return Result(test.p_value(0.0))
    score = float(yes.mean() - no.mean())
    reach = abs(score) + 10 * float(pool.std()) + 1e-300
    return Result(test.p_value(0.0), test.end(score, -reach), test.end(score, reach))


def _subsets(n: int, size: int, rng: np.random.Generator, draws: int) -> npt.NDArray[np.int64]:
    """Random subsets (draws, size) without replacement: those drawn with an element twice are drawn anew."""
    chosen = rng.integers(0, n, size=(draws, size))
    while len(again := np.flatnonzero((np.diff(np.sort(chosen, axis=1), axis=1) == 0).any(axis=1))):
        chosen[again] = rng.integers(0, n, size=(len(again), size))
    return chosen


@dataclass(frozen=True)
class _Permutations:
    """The texts that each of B permutations puts on the smaller side; the first one is the data.

    Attributes:
        pool: (n,) all targets, those of the smaller side first.
        size: texts on the smaller side.
        target: (B,) sum of the target of these texts.
        square: (B,) of its square.
        own: (B,) how many of them are on that side in the data.
        own_target: (B,) sum of the target of those: what a shift of that side changes.
    """

    pool: Floats
    size: int
    target: Floats
    square: Floats
    own: Floats
    own_target: Floats

    @classmethod
    def of(cls, pool: Floats, chosen: npt.NDArray[np.int64]) -> "_Permutations":
        """Add up chosen texts (B, size)."""
        picked, own = pool[chosen], chosen < chosen.shape[1]
        counts = own.sum(axis=1).astype(np.float64)
        sums = (picked.sum(axis=1), (picked**2).sum(axis=1), counts, (picked * own).sum(axis=1))
        return cls(pool, chosen.shape[1], *sums)

    def p_value(self, shift: float) -> float:
        """Return the p-value after `shift` is taken off the smaller side's target."""
        values = self._statistic(shift)
        seen = float(values[0])
        return int((values >= seen - 1e-9 * (1 + abs(seen))).sum()) / len(values)

    def end(self, score: float, reach: float) -> float:
        """Return one end of the interval: the p-value of a shift falls from 1 at `score` as it goes away."""
        if self.p_value(score + reach) > _ALPHA:
            return math.copysign(math.inf, reach)
        inside, outside = score, score + reach
        while abs(outside - inside) >= 1e-6 * abs(reach):
            middle = (inside + outside) / 2
            rejected = self.p_value(middle) <= _ALPHA
            inside, outside = (inside, middle) if rejected else (middle, outside)
        return (inside + outside) / 2

    def _statistic(self, shift: float) -> Floats:
        """Absolute Welch's t of the drawn texts against the others; of means alone if only one is drawn."""
        pool, size, rest = self.pool, self.size, len(self.pool) - self.size
        sums = self.target - shift * self.own
        squares = self.square - 2 * shift * self.own_target + shift**2 * self.own
        total = pool.sum() - shift * size
        total_square = (pool**2).sum() - 2 * shift * pool[:size].sum() + shift**2 * size
        others, other_squares = total - sums, total_square - squares
        difference = np.abs(sums / size - others / rest)
        if size < 2 or rest < 2:
            return difference
        scale = total_square / len(pool) + 1e-300
        variance = np.maximum(squares - sums**2 / size, 0) / (size * (size - 1))
        variance += np.maximum(other_squares - others**2 / rest, 0) / (rest * (rest - 1))
        return difference / np.sqrt(np.maximum(variance, 1e-14 * scale))


def fisher_test(ones_yes: int, n_yes: int, ones_no: int, n_no: int) -> Result:
    """Compare two shares, ones_yes / n_yes and ones_no / n_no; neither n is 0."""
    table = np.array([[ones_yes, n_yes - ones_yes], [ones_no, n_no - ones_no]])
    low, high = confint_proportions_2indep(ones_yes, n_yes, ones_no, n_no, method="newcomb", compare="diff")
    return Result(float(stats.fisher_exact(table).pvalue), float(low), float(high))


def flip_test(effect: float, scores: Floats, slopes: Floats, rng: np.random.Generator, draws: int) -> Result:
    """Compare an effect with what comes of flipping the signs of groups at random.

    Args:
        effect: the estimate.
        scores: (G,) what each group would add to it if there were no effect.
        slopes: (G,) by how much less, for each unit of the effect that is taken off the target; at least 0.
        rng: decides the signs, unless there are so few groups that all are tried.
        draws: how many are drawn.

    Returns:
        The two-sided p-value, and the interval of effects that would not be rejected. With A and B the sums
        of scores and slopes with some signs, a true effect d makes these as far out where
        (effect - d)^2 <= (A - d B)^2. For |B| < 1 that is an interval around `effect`, whose ends are roots;
        of other signs (nearly all as they are, or turned) it is taken to be so everywhere.
    """
    held = np.flatnonzero((scores != 0) | (slopes != 0))
    A, B = _flipped_sums(np.column_stack([scores[held], slopes[held]]), rng, draws).T
    as_far = np.abs(A) >= abs(effect) * (1 - 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.stack([(effect - A) / (1 - B), (effect + A) / (1 + B)])
    roots[:, np.abs(B) > 1 - 1e-9] = [[-np.inf], [np.inf]]
    rejected = int(_ALPHA * len(A))  # where so many sums, and no more, are as far out
    low, high = np.sort(roots.min(axis=0)), np.sort(roots.max(axis=0))
    return Result(float(as_far.mean()), float(low[rejected]), float(high[-1 - rejected]))


def _flipped_sums(values: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Sums (B, 2) of values (G, 2) with signs at random, or all signs; those as they are among them."""
    n = len(values)
    if n <= _ALL_FLIPS:
        return np.array(list(product((1.0, -1.0), repeat=n))).reshape(-1, n) @ values
    draws = min(draws, max(_MOST_SIGNS // n, 999))
    total, sums = values.sum(axis=0), [values.sum(axis=0, keepdims=True)]
    for part in slices(draws, n, _SIGNS_AT_ONCE):
        heads = rng.integers(0, 2, size=(part.stop - part.start, n), dtype=np.int8)
        sums.append(2 * (heads @ values) - total)
    return np.concatenate(sums)
