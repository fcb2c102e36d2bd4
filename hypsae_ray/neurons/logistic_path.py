"""The L1 logistic model with a given number of coefficients, found on its path of penalties.

1. Start at the penalty at which the first coefficient leaves 0, and lower it by a tenth at a time.
2. At each penalty keep the columns that the sequential strong rule (Tibshirani et al. 2012) leaves, fit them,
   and add those that the gradient over all columns shows to be missing.
3. A fit is Newton's method: each quadratic model, with what has no penalty solved for, is a linear lasso on
   the Gram matrix of the columns kept (Friedman, Hastie and Tibshirani 2010), which an active set solves
   exactly. Steps are halved until the loss falls.
4. Stop at the first penalty with enough coefficients, and bisect between it and the one before.

Columns stay sparse: dense are the Gram matrix of the columns kept, and a few numbers per row.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from hypsae_ray.data.arrays import Bools, Floats, Ints

_RATIO = 0.9
_WEAKEST = 1e-6  # of the penalty at which the path starts
_CLOSEST = 1e-9  # penalties whose logarithms differ by less are one
_TOLERANCE = 1e-6  # of the penalty: how far a gradient may be from its optimum
_NEWTON_STEPS = 100
_HALVINGS = 30
# Of a quadratic model. scikit-learn's LARS stops early at ties, which rare columns have.
_SETTLED = 1e-9  # of the penalty, as above
_RIDGE = 1e-12  # of the mean of the Gram matrix's diagonal: it makes any active set regular
_EXCHANGES = 100


@dataclass(frozen=True)
class _Model:
    """What is fitted.

    Attributes:
        columns: (n, m), with a penalty on the size of their coefficients.
        free: (n, c) columns without a penalty, a constant among them.
        target: (n,) of 0 and 1.
        weights: (n,).
        penalty: of coefficients of size 1.
    """

    columns: sp.csc_matrix
    free: Floats
    target: Floats
    weights: Floats
    penalty: float = 0.0

    def unexplained(self, linear: Floats) -> Floats:
        """Derivatives (n,) of the log-likelihood by the log-odds of the rows."""
        return self.weights * (self.target - expit(linear))


@dataclass(frozen=True)
class _Point:
    """Coefficients (m,) and free ones (c,); the log-odds (n,) and the penalised loss that they give."""

    coefficients: Floats
    free: Floats
    linear: Floats
    loss: float

    @staticmethod
    def of(model: _Model, coefficients: Floats, free: Floats) -> "_Point":
        linear = model.columns @ coefficients + model.free @ free
        losses = model.weights * (np.logaddexp(0, linear) - model.target * linear)
        loss = losses.sum() + model.penalty * np.abs(coefficients).sum()
        return _Point(coefficients, free, linear, float(loss))

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.coefficients))


@dataclass(frozen=True)
class _Stop:
    """A stop on the path: the optimum at a penalty, and the gradient (m,) of the log-likelihood there."""

    penalty: float
    point: _Point
    gradient: Floats


def logistic_path_to(
    columns: sp.csc_matrix,
    target: Floats,
    n_select: int,
    free: Floats | None = None,
    weights: Floats | None = None,
) -> Floats:
    """Return coefficients (m,) where the path of the L1 logistic model first has n_select that are not 0.

    The least dense model above, if no penalty gives exactly n_select; the densest, if none gives so many. Of
    copies of a column one has a coefficient.

    Args:
        columns: (n, m), of one scale. Centring them would change nothing: the constant has no penalty.
        target: (n,) of 0 and 1, both of them present.
        n_select: number of coefficients.
        free: (n, c) columns without a penalty, of full rank, a constant first; None: a constant.
        weights: (n,) of rows, with a mean of 1; None: all equal.
    """
    ones = np.ones(len(target))
    fixed = ones[:, None] if free is None else free
    model = _Model(columns, fixed, target, ones if weights is None else weights)
    sparser = denser = _first(model)
    wanted, weakest = min(n_select, columns.shape[1]), denser.penalty * _WEAKEST
    while denser.point.count < wanted and denser.penalty > weakest:
        sparser, denser = denser, _fit(replace(model, penalty=denser.penalty * _RATIO), denser)
    while denser.point.count > wanted and np.log(sparser.penalty / denser.penalty) > _CLOSEST:
        middle = float(np.sqrt(sparser.penalty * denser.penalty))
        between = _fit(replace(model, penalty=middle), sparser)
        if between.point.count >= wanted:
            denser = between
        else:
            sparser = between
    return denser.point.coefficients


def _first(model: _Model) -> _Stop:
    """The stop at which all coefficients are still 0."""
    share = np.average(model.target, weights=model.weights)
    start = np.zeros(model.free.shape[1])
    start[0] = np.log(share / (1 - share))
    nothing = np.zeros(model.columns.shape[1])
    # The unit of the gradient of one row: small next to any penalty of a path over many.
    unit = replace(model, penalty=1.0)
    point = _fit_kept(unit, nothing != 0, _Point.of(unit, nothing, start))
    gradient = model.columns.T @ model.unexplained(point.linear)
    return _Stop(float(np.abs(gradient).max()), point, gradient)


def _fit(model: _Model, near: _Stop) -> _Stop:
    """The stop at the model's penalty, from one at a stronger penalty."""
    kept = (near.point.coefficients != 0) | (np.abs(near.gradient) >= 2 * model.penalty - near.penalty)
    point = near.point
    while True:
        point = _fit_kept(model, kept, point)
        gradient = model.columns.T @ model.unexplained(point.linear)
        missing = (np.abs(gradient) > model.penalty * (1 + _TOLERANCE)) & ~kept
        if not missing.any():
            return _Stop(model.penalty, point, gradient)
        kept = kept | missing


def _fit_kept(model: _Model, kept: Bools, start: _Point) -> _Point:
    """The optimum with the other coefficients held at 0, which they are at the start."""
    part = replace(model, columns=model.columns[:, np.flatnonzero(kept)])
    point = _newton(part, _Point.of(part, start.coefficients[kept], start.free))
    coefficients = np.zeros(len(kept))
    coefficients[kept] = point.coefficients
    return replace(point, coefficients=coefficients)


def _newton(model: _Model, point: _Point) -> _Point:
    for _ in range(_NEWTON_STEPS):
        rest = model.unexplained(point.linear)
        gradient, free_gradient = model.columns.T @ rest, model.free.T @ rest
        off = _off(gradient, np.sign(point.coefficients), model.penalty)
        if max(off, np.abs(free_gradient).max()) <= _TOLERANCE * model.penalty:
            break
        lower = _descend(model, point, *_step(model, point, gradient, free_gradient))
        if lower is None:  # the loss has no more digits
            break
        point = lower
    return point


def _descend(model: _Model, point: _Point, step: Floats, free_step: Floats) -> _Point | None:
    """The first of ever shorter steps to a lower loss; None if there is none."""
    for halving in range(_HALVINGS):
        share = 0.5**halving
        tried = _Point.of(model, point.coefficients + share * step, point.free + share * free_step)
        if tried.loss < point.loss:
            return tried
    return None


def _off(gradient: Floats, signs: Floats, penalty: float) -> float:
    """How far gradients are from an optimum, at most: equal to the penalty with a sign, no larger without."""
    off = np.where(signs == 0, np.abs(gradient) - penalty, np.abs(gradient - penalty * signs))
    return float(off.max(initial=0))


def _step(model: _Model, point: _Point, gradient: Floats, free_gradient: Floats) -> tuple[Floats, Floats]:
    """The step to the optimum of the quadratic model at a point, of coefficients and free ones.

    The free ones are solved for: what they take of the Gram matrix and the gradient is taken off.
    """
    p = expit(point.linear)
    curved = sp.diags_array(model.weights * p * (1 - p))
    X, Z = model.columns, model.free
    weighted = sp.csc_matrix(curved @ X)
    across = np.asarray(weighted.T @ Z)
    of_free = np.asarray(Z.T @ (curved @ Z))
    solved = np.linalg.solve(of_free, np.column_stack([across.T, free_gradient]))
    gram = np.asarray(sp.csc_matrix(X.T @ weighted).toarray() - across @ solved[:, :-1], dtype=np.float64)
    products = gradient - across @ solved[:, -1] + gram @ point.coefficients
    step = _solve(gram, products, model.penalty, point.coefficients) - point.coefficients
    return step, solved[:, -1] - solved[:, :-1] @ step


def _solve(gram: Floats, products: Floats, penalty: float, start: Floats) -> Floats:
    """Minimise b'gram b / 2 - products'b + penalty |b|_1 from a start near by.

    With the signs of an active set held, the optimum is that of a linear system. The way there ends where a
    coefficient comes to 0, which leaves the set. At the optimum of a set the column with the largest gradient
    enters. Of copies only one gets in: the gradients of the others are then no larger than the penalty.
    """
    solution, signs = start.copy(), np.sign(start)
    if not len(start):
        return solution
    ridge = _RIDGE * gram.diagonal().mean()
    for _ in range(_EXCHANGES + 10 * len(start)):
        gradient, active = products - gram @ solution, signs != 0
        if _off(gradient[active], signs[active], penalty) <= _SETTLED * penalty:
            entering = int(np.argmax(np.where(active, 0, np.abs(gradient))))
            if active[entering] or abs(gradient[entering]) <= penalty * (1 + _SETTLED):
                break
            signs[entering] = np.sign(gradient[entering])
        moved = np.flatnonzero(signs)
        system = gram[np.ix_(moved, moved)] + ridge * np.eye(len(moved))
        _advance(solution, signs, moved, np.linalg.solve(system, gradient[moved] - penalty * signs[moved]))
    return solution


def _advance(solution: Floats, signs: Floats, moved: Ints, move: Floats) -> None:
    """Move some coefficients, in place, until the first of them would change its sign."""
    before = solution[moved]
    crossing = (before + move) * signs[moved] < 0
    shares = np.where(crossing, -before / np.where(crossing, move, 1), 1.0)
    share = shares.min(initial=1.0)
    solution[moved] = before + share * move
    left = moved[crossing & (shares <= share)]
    solution[left] = signs[left] = 0
