"""Is there any signal at all? A test of all hypotheses at once, by permutation of the fitted prediction.

The statistic is the R2 of a linear prediction by all hypotheses, beyond the covariates. Permuting and fitting
again gives its distribution where nothing predicts anything: with X'X at hand, a fit is one product.

- Independent rows: the target (what covariates leave of it; Freedman and Lane 1983) is permuted within blocks
  of rows.
- Groups: the scores of whole groups change sign at random, so that rows of a group stay together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.regression.algebra import inverse, solve
from hypsae_ray.stats.regression.collinear import find_independent
from hypsae_ray.stats.regression.design import Design, Rows
from hypsae_ray.stats.regression.linear import Moments
from hypsae_ray.stats.sample import add_by_group, slices

# Numbers in a block of permuted targets, or of signs: 16 MB.
_AT_ONCE = 2_000_000
# Rows x draws at the most, where draws are fewer than asked for: about two minutes.
_MOST = 10_000_000_000


@dataclass(frozen=True)
class Signal:
    """R2 of the fitted prediction, its p-value, and the number of permutations."""

    r2: float
    pval: float
    draws: int


@dataclass(frozen=True)
class _Residual:
    """The hypotheses and the target, less what constant and covariates say of them."""

    design: Design
    base: list[int]
    tested: list[int]
    by_base: Floats  # (base, tested + 1) coefficients
    inverse: Floats  # (tested, tested) of their sums of products
    spread: float
    score: Floats  # (tested,) sums of products with the target

    def r2(self, scores: Floats) -> Floats:
        """R2 of sums of products of hypotheses and target, (B, tested)."""
        return np.einsum("bi,ij,bj->b", scores, self.inverse, scores) / self.spread


def signal_test(design: Design, moments: Moments, draws: int, rng: np.random.Generator) -> Signal:
    """Test by so many permutations whether any hypothesis is associated with the target.

    In the design, the constant comes first, hypotheses after covariates; moments are those of all its rows.
    """
    residual = _residual(design, moments)
    if residual is None or not draws:
        return Signal(float("nan"), float("nan"), 0)
    draws = int(max(min(draws, _MOST // max(design.n, 1)), 99))
    seen = float(residual.r2(residual.score[None, :])[0])
    draw = _permute if design.sample.groups is None else _flip
    drawn = draw(residual, draws, rng)
    as_far = int((drawn >= seen * (1 - 1e-9)).sum())
    return Signal(seen, (as_far + 1) / (draws + 1), draws)


def _residual(design: Design, moments: Moments) -> _Residual | None:
    kept = find_independent(moments.gram, design.names, moments.weight).kept
    which = design.hypotheses
    base, tested = [j for j in kept if which[j] < 0], [j for j in kept if which[j] >= 0]
    if not tested or moments.n <= len(kept):
        return None
    gram, cross = moments.gram, moments.cross
    among = gram[np.ix_(base, base)]
    by_base = solve(among, np.column_stack([gram[np.ix_(base, tested)], cross[base]]))
    rest = gram[np.ix_(tested, tested)] - gram[np.ix_(tested, base)] @ by_base[:, :-1]
    spread = moments.square - float(cross[base] @ by_base[:, -1])
    if not spread > 1e-12 * moments.square:
        return None
    score = cross[tested] - gram[np.ix_(tested, base)] @ by_base[:, -1]
    return _Residual(design, base, tested, by_base, inverse(rest), spread, score)


def _parts(residual: _Residual) -> Iterator[tuple[Rows, Floats, Floats]]:
    """Yield rows with their weighted hypotheses (m, tested) and target (m,), less constant and covariates."""
    for rows in residual.design.rows():
        known = rows.X[:, residual.base] @ residual.by_base
        X = (rows.X[:, residual.tested] - known[:, :-1]) * rows.w[:, None]
        yield rows, X, rows.y - known[:, -1]


def _permute(residual: _Residual, draws: int, rng: np.random.Generator) -> Floats:
    scores = np.zeros((draws, len(residual.tested)))
    for _, X, y in _parts(residual):
        for part in slices(draws, len(y), _AT_ONCE):
            permuted = rng.permuted(np.broadcast_to(y, (part.stop - part.start, len(y))), axis=1)
            scores[part] += permuted @ X
    return residual.r2(scores)


def _flip(residual: _Residual, draws: int, rng: np.random.Generator) -> Floats:
    groups = residual.design.sample.groups
    assert groups is not None
    sums = np.zeros((residual.design.sample.n_groups, len(residual.tested)))
    for rows, X, y in _parts(residual):
        add_by_group(sums, groups[rows.index], X * y[:, None])
    total, scores = sums.sum(axis=0), np.zeros((draws, len(residual.tested)))
    for part in slices(draws, len(sums), _AT_ONCE):
        heads = rng.integers(0, 2, size=(part.stop - part.start, len(sums))).astype(np.float64)
        scores[part] = 2 * heads @ sums - total
    return residual.r2(scores)
