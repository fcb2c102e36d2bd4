"""Choose the neurons that predict the target.

1. Sort neurons into alive, dead (fire on no row) and constant (one value on every row).
2. Score every alive neuron by the configured method, given what is held fixed (`given.py`); a score that does
   not exist is NaN.
3. Rank by the size of the score, ties to the lower index, or by forward selection, and keep the first n.

Activations stay sparse throughout. Neither rows x neurons nor a copy of it is ever dense: correlation and
separation score need sums over the stored values, the linear lasso the neurons x neurons Gram matrix, the
logistic one scaled sparse columns and the Gram matrix of few of them, a custom score one column at a time.
"""

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lars_path_gram

from hypsae_ray.config import Select
from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.errors import ConfigError
from hypsae_ray.neurons.forward import forward
from hypsae_ray.neurons.given import NOTHING, Given, Left, interactions
from hypsae_ray.neurons.logistic_path import logistic_path_to

Task = Literal["regression", "classification"]


@dataclass(frozen=True)
class Selection:
    """The neurons chosen, and what is known about all M of them.

    Attributes:
        neurons: (n_selected,) int64, best first. Fewer than asked for if fewer have a usable score.
        scores: (M,) float64, signed: correlation, separation score, lasso coefficient (of standardised
            columns; log-odds in classification) or the custom score. NaN where there is none.
        prevalence: (M,) float64, the share of rows on which the neuron fires.
        state: (M,) str, "alive", "dead" or "constant".
        turns_with: (M,) str, the covariate with which the effect turns that the score measures; "" for the
            effect itself.
    """

    neurons: Ints
    scores: Floats
    prevalence: Floats
    state: npt.NDArray[np.str_]
    turns_with: npt.NDArray[np.str_]


def select(
    activations: sp.csr_matrix, target: Floats, options: Select, task: Task, given: Given | None = None
) -> Selection:
    """Rank neurons against the target.

    Args:
        activations: (n, M); a neuron fires where it is above 0. Of pairs, those of the first text minus those
            of the second.
        target: (n,) float64, finite; 0 and 1 in classification.
        options: method, number of neurons and the method's own settings.
        task: decides between the linear and the logistic lasso; the other methods do not look at it.
        given: what is held fixed; None: nothing. A custom function sees nothing of it. With fixed effects the
            lasso is the linear one.

    Raises:
        ConfigError: the custom function cannot be imported, or returns something else than a number.
        ValueError: activations and target differ in their number of rows.
    """
    columns = _columns(activations)
    y = np.asarray(target, dtype=np.float64)
    if columns.shape[0] != len(y):
        raise ValueError(f"{columns.shape[0]} rows of activations, but {len(y)} target values")
    state = _states(columns)
    scores, turns_with = np.full(columns.shape[1], np.nan), np.full(columns.shape[1], "", dtype=object)
    alive = np.flatnonzero(state == "alive")
    if len(alive) and options.method == "custom":
        scores[alive] = _custom(columns[:, alive], y, options.function or "")
    elif len(alive) and np.ptp(y) > 0 and given is None:
        scores[alive] = _score(columns[:, alive], y, options, task)
    elif len(alive) and np.ptp(y) > 0 and given is not None:
        scores[alive], turns_with[alive] = _score_given(columns[:, alive], y, options, task, given)
    prevalence = np.diff(columns.indptr) / max(columns.shape[0], 1)
    if options.method == "forward":
        neurons = _forward(columns, y, options.n, scores, given)
    else:
        neurons = _best(_merit(scores, options), options.n)
    return Selection(neurons, scores, prevalence, state, turns_with.astype(np.str_))


def _merit(scores: Floats, options: Select) -> Floats:
    if options.method == "custom":
        return scores
    return np.abs(np.where(scores == 0, np.nan, scores) if options.method == "lasso" else scores)


def _forward(columns: sp.csc_matrix, target: Floats, n: int, scores: Floats, given: Given | None) -> Ints:
    usable = np.flatnonzero(~np.isnan(scores))
    known = Given(np.zeros((len(target), 0))) if given is None else given
    return usable[forward(columns[:, usable], target, n, known)]


def _columns(activations: sp.csr_matrix) -> sp.csc_matrix:
    """Column-major float64 copy in which exactly the firing entries are stored."""
    columns = sp.csc_matrix(activations, dtype=np.float64, copy=True)
    columns.sum_duplicates()
    columns.eliminate_zeros()
    return columns


def _states(columns: sp.csc_matrix) -> npt.NDArray[np.str_]:
    n, m = columns.shape
    firing = np.diff(columns.indptr)
    low, high = (
        np.asarray(f(axis=0).todense()).ravel() if n else np.zeros(m) for f in (columns.min, columns.max)
    )
    state = np.full(m, "alive", dtype="<U8")
    state[(low == high) & (firing > 0)] = "constant"
    state[firing == 0] = "dead"
    return state


def _score(columns: sp.csc_matrix, target: Floats, options: Select, task: Task) -> Floats:
    if options.method in ("correlation", "forward"):
        return _correlations(columns, target)
    if options.method == "separation_score":
        return _separations(columns, target, options.n_top)
    if task == "classification":
        return _logistic_lasso(columns, target, options.n)
    return _linear_lasso(columns, target, options.n)


def _score_given(
    columns: sp.csc_matrix, target: Floats, options: Select, task: Task, given: Given
) -> tuple[Floats, npt.NDArray[np.object_]]:
    """Scores of what is left of the columns; with which covariate the effect turns where they are of that."""
    left, residual = Left.of(columns, given), given.residual(target)
    scores, turns_with = np.full(columns.shape[1], np.nan), np.full(columns.shape[1], "", dtype=object)
    usable = np.flatnonzero(~np.isnan(left.sizes))
    if not len(usable) or (residual**2).mean() <= NOTHING * target.var():
        return scores, turns_with
    if options.method in ("correlation", "forward"):
        scores = left.correlations(residual)
        if options.interactions and given.names:  # none where each covariate is the same in all rows
            turning, which = interactions(columns, left, given, residual)
            stronger = np.abs(turning) > np.abs(scores)
            scores = np.where(stronger, turning, scores)
            turns_with = np.where(stronger, np.array(given.names, dtype=object)[which], "")
    elif options.method == "separation_score":
        scores = _separations(columns, residual / given.roots, options.n_top, given.roots**2)
    else:
        scores[usable] = _lasso_given(columns[:, usable], target, options.n, task, given)
    return scores, turns_with


def _best(merit: Floats, n: int) -> Ints:
    """Positions of the n largest values, best first, ties to the lower position, NaN never."""
    order = np.argsort(-merit, kind="stable")
    return order[~np.isnan(merit[order])][:n].astype(np.int64)


def _moments(columns: sp.csc_matrix) -> tuple[Floats, Floats]:
    """Mean and standard deviation (divisor n) of each column, over silent rows too.

    The silent rows of a column all lie the mean away from it, so that deviations of the stored values are
    enough; sums of squares minus squared sums would cancel for columns that vary little.
    """
    n, m = columns.shape
    firing = np.diff(columns.indptr)
    column_of = np.repeat(np.arange(m), firing)
    mean = np.bincount(column_of, weights=columns.data, minlength=m) / n
    squares = np.bincount(column_of, weights=(columns.data - mean[column_of]) ** 2, minlength=m)
    return mean, np.sqrt((squares + (n - firing) * mean**2) / n)


def _correlations(columns: sp.csc_matrix, target: Floats) -> Floats:
    _, spread = _moments(columns)
    covariance = columns.T @ (target - target.mean()) / len(target)
    return np.clip(covariance / (spread * target.std()), -1, 1)


def _separations(columns: sp.csc_matrix, target: Floats, n_top: int, weights: Floats | None = None) -> Floats:
    """Mean target of the rows that fire most minus that of the silent rows; NaN if no row is silent.

    Of pairs, half the difference between those whose first text fires most ahead of the second, and those
    where it is most behind; NaN where there are none of one kind. Weights (n,) are those of the means.
    """
    each = np.ones(len(target)) if weights is None else weights
    product = each * (target - np.average(target, weights=weights))
    if (columns.data < 0).any():
        ahead, behind = (_mean_of_top(one, product, each, n_top) for one in (columns, -columns))
        return (ahead - behind) / 2
    n, m = columns.shape
    scores = np.full(m, np.nan)
    for j in range(m):
        part = slice(columns.indptr[j], columns.indptr[j + 1])
        rows = columns.indices[part]
        if len(rows) < n:
            top = rows[np.argsort(-columns.data[part], kind="stable")[:n_top]]
            silent = -product[rows].sum() / (each.sum() - each[rows].sum())
            scores[j] = product[top].sum() / each[top].sum() - silent
    return scores


def _mean_of_top(columns: sp.csc_matrix, product: Floats, weights: Floats, n_top: int) -> Floats:
    """Mean target of the up to n_top rows with the largest values above 0 of each column, (M,), or NaN.

    product (n,) is the target times the weights (n,).
    """
    means = np.full(columns.shape[1], np.nan)
    for j in range(columns.shape[1]):
        part = slice(columns.indptr[j], columns.indptr[j + 1])
        top = np.argsort(-columns.data[part], kind="stable")[:n_top]
        if len(ahead := top[columns.data[part][top] > 0]):
            rows = columns.indices[part][ahead]
            means[j] = product[rows].sum() / weights[rows].sum()
    return means


def _custom(columns: sp.csc_matrix, target: Floats, path: str) -> Floats:
    score = import_function(path)
    scores = np.full(columns.shape[1], np.nan)
    for j in range(columns.shape[1]):
        value = score(columns[:, [j]].toarray().ravel(), target)
        try:
            scores[j] = float(cast(float, value))
        except (TypeError, ValueError):
            raise ConfigError(f"select.function: {path} must return a number, not {value!r}") from None
    return scores


def import_function(path: str) -> Callable[[Floats, Floats], object]:
    """Return the function that "package.module:name" means.

    Raises:
        ConfigError: there is no such function.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigError(f'select.function: "{path}" is not of the form "package.module:name"')
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"select.function: cannot import {module_name}: {error}") from None
    function = getattr(module, name, None)
    if not callable(function):
        found = "is no function" if hasattr(module, name) else "does not exist"
        raise ConfigError(f"select.function: {name} {found} in module {module_name}")
    return cast(Callable[[Floats, Floats], object], function)


def _linear_lasso(columns: sp.csc_matrix, target: Floats, n_select: int) -> Floats:
    """Coefficients of standardised columns, n_select of them."""
    n = columns.shape[0]
    mean, spread = _moments(columns)
    scale = sp.diags_array(1 / spread)
    gram = (scale @ (columns.T @ columns) @ scale).toarray() - n * np.outer(mean / spread, mean / spread)
    # LARS compares with absolute limits: without this, a target of tiny values has no path.
    unit = (target - target.mean()) / target.std()
    return target.std() * _linear_path_to(gram, (columns.T @ unit) / spread, n, n_select)


def _linear_path_to(gram: Floats, products: Floats, n: int, n_select: int) -> Floats:
    """Coefficients where the lasso path first has n_select of them (LARS; Efron et al. 2004).

    The path is exact and piecewise linear, so each number of non-zero coefficients that occurs is found. gram
    (M, M) and products (M,) are of n rows, columns and target of which have a variance of 1.
    """
    most = 8 * min(n, len(products))
    steps = min(2 * n_select + 8, most)
    while True:
        path = _lars(products, gram, n, steps)
        counts = (path != 0).sum(axis=0)
        if (counts >= n_select).any() or path.shape[1] <= steps or steps >= most:
            return _keep_largest(path[:, _nearest(counts, n_select)], n_select)
        steps = min(4 * steps, most)


def _lasso_given(columns: sp.csc_matrix, target: Floats, n_select: int, task: Task, given: Given) -> Floats:
    """Coefficients of what is left of the columns, of variance 1; what is given has no penalty."""
    left, n = Left.of(columns, given), columns.shape[0]
    spread = left.sizes / np.sqrt(n)
    if task == "classification" and given.effects is None:
        scaled = sp.csc_matrix(columns @ sp.diags_array(1 / spread))
        weights = given.roots**2
        return _keep_largest(logistic_path_to(scaled, target, n_select, given.basis(), weights), n_select)
    residual = given.residual(target)
    unit = np.linalg.norm(residual) / np.sqrt(n)
    gram = left.gram() / np.outer(spread, spread)
    return unit * _linear_path_to(gram, (left.columns.T @ residual) / (spread * unit), n, n_select)


def _lars(products: Floats, gram: Floats, n: int, steps: int) -> Floats:
    """Coefficients half-way between the knots of the path, where none is passing through 0, and at its end.

    Shape (M, steps + 1), less if the path ends sooner.
    """
    with warnings.catch_warnings():
        # Raised for copies of a column, of which LARS rightly keeps one.
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = lars_path_gram(
            products,
            gram,
            n_samples=n,
            method="lasso",
            max_iter=steps,
            return_n_iter=False,
        )
    knots = np.asarray(result[2], dtype=np.float64)
    return np.column_stack([(knots[:, :-1] + knots[:, 1:]) / 2, knots[:, -1]])


def _nearest(counts: npt.NDArray[np.int_], n_select: int) -> int:
    """The first solution with n_select coefficients, else the least dense above, else the densest."""
    enough = counts[counts >= n_select]
    count = enough.min() if len(enough) else counts.max(initial=0)
    return int(np.argmax(counts == count))


def _keep_largest(coefficients: Floats, n_select: int) -> Floats:
    kept = np.zeros_like(coefficients)
    largest = _best(np.abs(coefficients), n_select)
    kept[largest] = coefficients[largest]
    return kept


def _logistic_lasso(columns: sp.csc_matrix, target: Floats, n_select: int) -> Floats:
    """Coefficients of the L1 logistic model with n_select of them.

    Columns are scaled but not centred: with a free constant, centring changes nothing and would fill them.
    """
    scaled = sp.csc_matrix(columns @ sp.diags_array(1 / _moments(columns)[1]))
    return _keep_largest(logistic_path_to(scaled, target, n_select), n_select)
