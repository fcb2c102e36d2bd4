"""The rows of a holdout as the statistics read them: labels in blocks, all else in memory.

Labels (n, H) may be far larger than memory. They are read a block at a time, as often as a method needs, and
what a method keeps of them are sums. One number per row (target, group, weight, covariate) stays in memory: 8
bytes a row each. Data in memory are the special case of labels whose blocks are slices of an array, so that
there is one code for both.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hypsae_ray.data.arrays import BLOCK_ROWS, Floats, Ints

Features = Floats | sp.csr_matrix
# Columns whose sums by group are held at once: a few arrays of (G, columns) in this many bytes.
GROUP_BYTES = 1 << 30


class Labels(Protocol):
    """A table of labels (n, H): 0 and 1 (or -1, 0 and 1 for pairs of texts), NaN where there is none."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and hypotheses."""
        ...

    def blocks(self) -> Iterator[Floats]:
        """Yield the rows in order, BLOCK_ROWS at a time; the last block may be shorter."""
        ...


@dataclass(frozen=True)
class LabelArray:
    """Labels that are in memory, (n, H)."""

    values: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and hypotheses."""
        return int(self.values.shape[0]), int(self.values.shape[1])

    def blocks(self) -> Iterator[Floats]:
        """Yield slices."""
        for start in range(0, len(self.values), BLOCK_ROWS):
            yield self.values[start : start + BLOCK_ROWS]


@dataclass(frozen=True)
class Sample:
    """Labels, and what else is known of each row.

    Attributes:
        labels: (n, H).
        target: (n,) finite.
        groups: (n,) codes from 0 of what belongs together (documents, authors); None: rows are independent.
        weights: (n,) positive, of a survey for instance; None: all equal.
        covariates: (n, C) finite, to be held fixed in the joint model.
        covariate_names: (C,).
        effects: (n, F) codes from 0 of the levels of fixed effects.
        doses: (n, H) how much of a property each row has, for the joint model, NaN where labels are; None: as
            the labels say.
        drawn: how its rows were drawn from all rows; None: they are all. Weights hold one over the
            probability then, where this is not the same for all.
        features: name to (n, d): what the hypotheses were made from, in the order in which signal may get
            lost; (m, d) of the first m rows, where n do not fit memory.
        activations: (n, H) sparse, how strongly the neuron of each hypothesis fires; None: not known.
        groupings: name to (n,) codes from 0: groups that rows might belong to, which nobody named.
    """

    labels: Labels
    target: Floats
    groups: Ints | None = None
    weights: Floats | None = None
    covariates: Floats | None = None
    covariate_names: tuple[str, ...] = ()
    effects: Ints | None = None
    doses: Labels | None = None
    drawn: "Drawn | None" = None
    features: Mapping[str, Features] = field(default_factory=dict[str, Features])
    activations: sp.csc_matrix | None = None
    groupings: Mapping[str, Ints] = field(default_factory=dict[str, Ints])

    def __post_init__(self) -> None:
        n = self.labels.shape[0]
        for name in ("target", "groups", "weights", "covariates", "effects"):
            values = getattr(self, name)
            if values is not None and len(values) != n:
                raise ValueError(f"{name} has {len(values)} rows, the labels have {n}")
        # Columns of the joint model go by these names.
        if taken := [name for name in self.covariate_names if name == "constant" or name.startswith("#")]:
            raise ValueError(f"a covariate cannot be called {taken[0]!r}: rename it")

    @property
    def n(self) -> int:
        """Rows."""
        return self.labels.shape[0]

    @property
    def n_hypotheses(self) -> int:
        """Columns of the labels."""
        return self.labels.shape[1]

    @property
    def n_groups(self) -> int:
        """Groups, those of rows that were not drawn included; 0 without any."""
        if self.drawn is not None and self.drawn.all_rows is not None:
            return self.drawn.all_rows.n_groups
        return 0 if self.groups is None or not self.n else int(self.groups.max()) + 1

    def of_class(self, code: float) -> "Sample":
        """Return the rows with a target of 1 where theirs is a code, else 0."""
        drawn = self.drawn
        if drawn is not None and drawn.all_rows is not None:
            drawn = replace(drawn, all_rows=drawn.all_rows.of_class(code))
        return replace(self, target=(self.target == code).astype(np.float64), drawn=drawn)

    def weight(self, rows: slice) -> Floats:
        """Return the weights of some rows, ones where there are none."""
        if self.weights is None:
            return np.ones(int(rows.stop) - int(rows.start))
        return self.weights[rows]

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Yield the labels of some rows after another, each with the slice of rows it holds."""
        return _with_slices(self.labels)

    def dose_blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Yield what enters the joint model, as `blocks` does."""
        return _with_slices(self.labels if self.doses is None else self.doses)


@dataclass(frozen=True)
class Drawn:
    """Rows that were drawn to be labelled, from N rows.

    Attributes:
        n_all: N.
        probability: (n,) of each drawn row, to be drawn.
        uniform: (n,) bool, rows that were drawn with one probability for all, whatever they hold.
        positions: (n,) of the drawn rows among the N, ascending.
        all_rows: the N rows, with proxies of labels in place of labels: what a cheap model expects them to
            be, from 0 to 1, none of them NaN, and made without the label of the row. None: there are none.
    """

    n_all: int
    probability: Floats
    uniform: npt.NDArray[np.bool_]
    positions: Ints
    all_rows: Sample | None = None

    def proxies(self) -> Floats:
        """Return the proxies (n, H) of the drawn rows."""
        assert self.all_rows is not None
        found = np.zeros((len(self.positions), self.all_rows.n_hypotheses))
        for rows, proxies in self.all_rows.blocks():
            first, end = np.searchsorted(self.positions, (rows.start, rows.stop))
            found[first:end] = proxies[self.positions[first:end] - rows.start]
        return found


def drawn_sample(whole: Sample, labels: Labels, drawn: Drawn) -> Sample:
    """Return the rows of a sample that were drawn, with their labels (n, H), for estimates of all its rows.

    Weights become those of the sample over the probability to be drawn, of a mean of 1; none where all are
    equal.
    """
    at = drawn.positions
    weights = whole.weight(slice(0, whole.n))[at] / drawn.probability
    parts = {name: values[at] for name in _BY_ROW if (values := getattr(whole, name)) is not None}
    equal = bool(np.ptp(weights) <= 1e-9 * weights.max(initial=0))
    parts["weights"] = None if equal else weights / weights.mean()
    return Sample(labels, covariate_names=whole.covariate_names, drawn=drawn, **parts)


_BY_ROW = ("target", "groups", "covariates", "effects")


def _with_slices(labels: Labels) -> Iterator[tuple[slice, Floats]]:
    start = 0
    for values in labels.blocks():
        yield slice(start, start + len(values)), values
        start += len(values)


def slices(n: int, size: int, most: int) -> Iterator[slice]:
    """Cut n things into slices: as many in each as `most` holds of this size, and at least one."""
    step = max(1, most // max(size, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def add_by_group(total: Floats, groups: Ints, values: Floats) -> None:
    """Add the rows of values (m, k), of the groups with codes (m,), to the rows of these in total (G, k)."""
    if not len(groups):
        return
    # Only the groups of this block: a sparse product over all of them would cost G x k per block.
    present, code = np.unique(groups, return_inverse=True)
    shape = (len(present), len(groups))
    member = sp.csr_matrix((np.ones(len(groups)), (code, np.arange(len(groups)))), shape=shape)
    total[present] += member @ values


def sum_by_group(groups: Ints, n_groups: int, values: Floats) -> Floats:
    """Return the sums (G, k) of values (n, k) by the codes (n,) of their groups."""
    total = np.zeros((n_groups, values.shape[1]))
    add_by_group(total, groups, values)
    return total
