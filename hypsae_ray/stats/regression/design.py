"""The joint model's rows: a constant or absorbed fixed effects, covariates, hypotheses, read in blocks.

Rows with a missing label are left out. Fixed effects are absorbed: within each of their levels, means are
taken off every column (Frisch and Waugh 1933), so that a million levels cost no column. One set of levels is
absorbed as blocks are read; several sets by least squares on their indicators (LSMR, Fong and Saunders 2011),
in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import lsmr

from hypsae_ray.data.arrays import BLOCK_ROWS, Floats, Ints
from hypsae_ray.stats.sample import Sample, add_by_group

_SETTLED = 1e-14
_STEPS = 100_000


@dataclass(frozen=True)
class Rows:
    """Some rows of the joint model, with m rows and k columns.

    Attributes:
        index: (m,) their positions in the sample.
        X: (m, k) columns of the model.
        y: (m,) target.
        w: (m,) weights.
        leverage: (m,) what absorbed fixed effects add to each row's leverage.
    """

    index: Ints
    X: Floats
    y: Floats
    w: Floats
    leverage: Floats


@dataclass(frozen=True)
class Levels:
    """Absorbed fixed effects: what to take off, and what they cost.

    Attributes:
        means: (L, columns) weighted mean of each column and of the target, last, by level.
        weight: (L,) sum of weights of each level.
        df: how many coefficients they stand for.
        nested: whether each level lies within one group.
        alone: complete rows that are left out, as the only one of their level.
    """

    means: Floats
    weight: Floats
    df: int
    nested: bool
    alone: int


@dataclass(frozen=True)
class Design:
    """Complete rows of a sample, with the columns of the joint model.

    Attributes:
        sample: the rows.
        live: (h,) the hypotheses in the model, by position.
        names: of the columns: "constant" (unless fixed effects are absorbed), covariates, "#3".
        kept: (k,) the columns that blocks hold, by position in names.
        complete: (n,) bool, rows that have every label.
        centre: taken off the target.
        covariate_scale: (2, C) mean and standard deviation of each covariate, which are taken out of it.
        levels: absorbed fixed effects.
        held: all rows, if there are few enough to keep them.
    """

    sample: Sample
    live: Ints
    names: tuple[str, ...]
    kept: Ints
    complete: npt.NDArray[np.bool_]
    centre: float
    covariate_scale: Floats
    levels: Levels | None = None
    held: tuple[Rows, ...] | None = None

    @property
    def hypotheses(self) -> Ints:
        """Which hypothesis each of `names` is, -1 for constant and covariates."""
        others = np.full(len(self.names) - len(self.live), -1, dtype=np.int64)
        return np.concatenate([others, self.live])

    @property
    def n(self) -> int:
        """Complete rows."""
        return int(self.complete.sum())

    @property
    def n_groups(self) -> int:
        """Groups that have a complete row."""
        groups = self.sample.groups
        return 0 if groups is None else len(np.unique(groups[self.complete]))

    @property
    def kept_names(self) -> list[str]:
        """Names of the columns that blocks hold."""
        return [self.names[j] for j in self.kept]

    def keep(self, columns: Sequence[int] | Ints) -> "Design":
        """Return the design with these columns only, by position in `names`."""
        kept = np.asarray(columns, dtype=np.int64)
        if self.held is None:
            return replace(self, kept=kept)
        positions = np.searchsorted(self.kept, kept)
        held = tuple(replace(rows, X=np.ascontiguousarray(rows.X[:, positions])) for rows in self.held)
        return replace(self, kept=kept, held=held)

    def rows(self) -> Iterable[Rows]:
        """Return the complete rows, block by block."""
        return self.held if self.held is not None else _read(self)

    @property
    def scale(self) -> Floats:
        """What each kept column was divided by, (k,): 1, but for covariates their standard deviation."""
        scale = np.ones(len(self.names))
        first = 1 if self.names[:1] == ("constant",) else 0
        scale[first : first + self.covariate_scale.shape[1]] = self.covariate_scale[1]
        return scale[self.kept]


def make_design(sample: Sample, live: Ints, *, centred: bool) -> Design:
    """Lay out the joint model of the target on covariates and the `live` hypotheses, by position.

    `centred`: the mean is taken off the target, for a linear model.
    """
    covariates = sample.covariates if sample.covariates is not None else np.zeros((sample.n, 0))
    spread = covariates.std(axis=0) if sample.n else np.ones(covariates.shape[1])
    # The deviation of 0.1 on every row is not 0 but of the size of rounding.
    spread = np.where((covariates == covariates[:1]).all(axis=0), 0.0, spread)
    scale = np.stack([covariates.mean(axis=0) if sample.n else spread, np.where(spread > 0, spread, 1.0)])
    absorbs = sample.effects is not None and sample.effects.shape[1] > 0
    constant = () if absorbs else ("constant",)
    names = (*constant, *sample.covariate_names, *(f"#{j}" for j in live))
    kept = np.arange(len(names))
    complete = np.ones(sample.n, dtype=bool)
    for rows, labels in sample.dose_blocks():
        complete[rows] = ~np.isnan(labels[:, live]).any(axis=1)
    centre = float(sample.target[complete].mean()) if centred and complete.any() else 0.0
    design = Design(sample, live, names, kept, complete, centre, scale)
    if absorbs:
        design = _absorb(design)
    elif sample.n <= BLOCK_ROWS:
        design = replace(design, held=tuple(_read(design)))
    return design


def _read(design: Design) -> Iterator[Rows]:
    sample, levels = design.sample, design.levels
    for block, labels in sample.dose_blocks():
        inside = design.complete[block]
        index = block.start + np.flatnonzero(inside).astype(np.int64)
        weights = sample.weight(block)[inside]
        y = sample.target[index] - design.centre
        columns = _columns(design, index, labels[inside])
        leverage = np.zeros(len(index))
        if levels is not None and sample.effects is not None:
            level = sample.effects[index, 0]
            columns = columns - levels.means[level][:, design.kept]
            y = y - levels.means[level, -1]
            leverage = weights / levels.weight[level]
        yield Rows(index, columns, y, weights, leverage)


def _columns(design: Design, index: Ints, labels: Floats) -> Floats:
    """The kept columns of some rows, (m, k)."""
    parts: list[Floats] = []
    if "constant" in design.names[:1]:
        parts.append(np.ones((len(index), 1)))
    if design.sample.covariates is not None:
        parts.append(
            (design.sample.covariates[index] - design.covariate_scale[0]) / design.covariate_scale[1]
        )
    parts.append(labels[:, design.live])
    X = np.concatenate(parts, axis=1)
    return X if len(design.kept) == X.shape[1] else X[:, design.kept]


def _absorb(design: Design) -> Design:
    """Take the means within the levels of fixed effects off all columns; levels of one row are left out."""
    sample = design.sample
    assert sample.effects is not None
    complete = design.complete.copy()
    while True:  # a row that is left out may leave another one alone in its level
        alone = np.zeros(sample.n, dtype=bool)
        for effect in sample.effects.T:
            alone |= complete & (
                np.bincount(effect[complete], minlength=int(effect.max(initial=-1)) + 1)[effect] == 1
            )
        if not alone.any():
            break
        complete &= ~alone
    n_alone = design.n - int(complete.sum())
    design = replace(design, complete=complete)
    df = _df_of(sample.effects[complete])
    nested = sample.groups is not None and all(
        _is_nested(effect[complete], sample.groups[complete]) for effect in sample.effects.T
    )
    if sample.effects.shape[1] == 1:
        means, weight = _level_means(design)
        design = replace(design, levels=Levels(means, weight, df, nested, n_alone))
        return replace(design, held=tuple(_read(design))) if sample.n <= BLOCK_ROWS else design
    held = _outside_levels(list(_read(design)), sample.effects)
    return replace(design, held=held, levels=Levels(np.zeros((0, 0)), np.zeros(0), df, nested, n_alone))


def _df_of(effects: Ints) -> int:
    """Coefficients that sets of levels stand for: exact for one and two sets, an upper bound for more."""
    counts = [len(np.unique(effect)) for effect in effects.T]
    if len(counts) == 2:
        ones = np.ones(len(effects))
        _, first = np.unique(effects[:, 0], return_inverse=True)
        _, second = np.unique(effects[:, 1], return_inverse=True)
        links = sp.coo_matrix((ones, (first, counts[0] + second)), shape=(sum(counts), sum(counts)))
        return sum(counts) - int(connected_components(links, directed=False)[0])
    return sum(counts) - (len(counts) - 1)


def _is_nested(effect: Ints, groups: Ints) -> bool:
    pairs = np.unique(np.stack([effect, groups]), axis=1)
    return pairs.shape[1] == len(np.unique(effect))


def _level_means(design: Design) -> tuple[Floats, Floats]:
    assert design.sample.effects is not None
    effect = design.sample.effects[:, 0]
    n_levels = int(effect.max()) + 1 if len(effect) else 0
    sums = np.zeros((n_levels, len(design.names) + 2))
    for rows in _read(design):
        values = np.column_stack([rows.X, rows.y, np.ones(len(rows.y))]) * rows.w[:, None]
        add_by_group(sums, effect[rows.index], values)
    weight = sums[:, -1]
    return sums[:, :-1] / np.where(weight > 0, weight, 1)[:, None], weight


def _outside_levels(blocks: list[Rows], effects: Ints) -> tuple[Rows, ...]:
    """What several sets of levels leave of all columns and the target.

    Means taken off by turns would settle too slowly where few rows link the levels.
    """
    index, w = (np.concatenate([getattr(rows, name) for rows in blocks]) for name in ("index", "w"))
    values = np.concatenate([np.column_stack([rows.X, rows.y]) for rows in blocks])
    root = np.sqrt(w)
    member = sp.hstack([_indicators(effect[index], w) for effect in effects.T], format="csr")
    for column in values.T:
        found = lsmr(member, root * column, atol=_SETTLED, btol=_SETTLED, conlim=0, maxiter=_STEPS)[0]
        column -= (member @ found) / root
    return (Rows(index, values[:, :-1], values[:, -1], w, np.zeros(len(w))),)


def _indicators(effect: Ints, w: Floats) -> sp.csr_matrix:
    """A column per level, (m, L), of length 1 and weighted by the root of w."""
    levels, code = np.unique(effect, return_inverse=True)
    share = np.sqrt(w / np.bincount(code, w, len(levels))[code])
    return sp.csr_matrix((share, (np.arange(len(code)), code)), shape=(len(code), len(levels)))
