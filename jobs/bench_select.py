"""Time the selection of neurons, ours next to hypothesaes', and compare what is chosen.

    python jobs/bench_select.py --rows 20000 --neurons 1024 --k 16 --select 20
    python jobs/bench_select.py --rows 114000 --neurons 4096 --k 32 --systems ours   # full size, no rivals

Activations are sparse: --k neurons fire in a row, some much more often than others, and the target is made
from 30 of them. `bisection` is how we chose by logistic lasso before: liblinear at one penalty after another.
hypothesaes takes activations as a dense table. The last line of output is one JSON object.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from hypothesaes.select_neurons import select_neurons
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hypsae_ray.config import Select
from hypsae_ray.neurons.selection import select

PLANTED = 30
METHODS = {"correlation": False, "linear lasso": False, "logistic lasso": True}  # classification or not
SYSTEMS = ("ours", "bisection", "hypothesaes")


def planted(rows: int, neurons: int, k: int, rng: np.random.Generator) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return activations (rows, neurons) with at most k stored values a row, and a signal (rows,)."""
    shares = (1 + np.arange(neurons)) ** -0.5
    fires = rng.choice(neurons, (rows, k), p=shares / shares.sum())
    row = np.repeat(np.arange(rows), k)
    values = rng.gamma(2, 1, rows * k)
    fired = sp.csr_matrix((values, (row, fires.ravel())), shape=(rows, neurons))
    effects = np.zeros(neurons)
    effects[rng.choice(neurons, PLANTED, replace=False)] = rng.normal(size=PLANTED)
    signal = np.asarray(fired @ effects)
    return fired, signal - signal.mean()


def bisection(fired: sp.csr_matrix, target: np.ndarray, n: int) -> list[int]:
    """Return n neurons by liblinear, at inverse penalties up to a million times that of the first neuron."""
    # StandardScaler centres nothing here, and leaves neurons that never fire as they are.
    scaled = sp.csr_matrix(StandardScaler(with_mean=False).fit_transform(fired))
    low = -np.log(np.abs(scaled.T @ (target - target.mean())).max())
    high = low + np.log(1e6)
    best = _liblinear(scaled, target, float(np.exp(high)))
    for _ in range(60):
        if np.count_nonzero(best) <= n or high - low < 1e-9:
            break
        middle = (low + high) / 2
        found = _liblinear(scaled, target, float(np.exp(middle)))
        if np.count_nonzero(found) >= n:
            best, high = found, middle
        else:
            low = middle
    order = np.argsort(-np.abs(best), kind="stable")[:n]
    return order[best[order] != 0].tolist()


def _liblinear(scaled: sp.csr_matrix, target: np.ndarray, inverse_penalty: float) -> np.ndarray:
    options = {"tol": 1e-6, "max_iter": 1000, "intercept_scaling": 10_000, "random_state": 0}
    model = LogisticRegression(l1_ratio=1, solver="liblinear", C=inverse_penalty, **options)
    return model.fit(scaled, target).coef_.ravel()


def choosers(method: str, n: int) -> dict[str, Callable[[sp.csr_matrix, np.ndarray], list[int]]]:
    """Return what chooses n neurons by a method, by system."""
    short, classification = method.split()[-1], METHODS[method]
    options = Select.model_validate({"method": short, "n": n})
    task = "classification" if classification else "regression"
    by_system: dict[str, Callable[[sp.csr_matrix, np.ndarray], list[int]]] = {
        "ours": lambda fired, target: select(fired, target, options, task).neurons.tolist(),
        "hypothesaes": lambda fired, target: select_neurons(
            fired.toarray(), target, n, short, classification
        )[0],
    }
    if classification:
        by_system["bisection"] = lambda fired, target: bisection(fired, target, n)
    return by_system


def compare(
    method: str, data: tuple[sp.csr_matrix, np.ndarray], args: argparse.Namespace
) -> dict[str, object]:
    """Return seconds of each system for a method, and how many of its neurons are ours."""
    fired, signal = data
    noise = np.random.default_rng(args.seed + 1)
    target = signal + noise.normal(size=len(signal)) * signal.std()
    if METHODS[method]:
        target = (noise.random(len(signal)) < expit(signal)).astype(np.float64)
    result: dict[str, object] = {}
    chosen: dict[str, list[int]] = {}
    for system, choose in choosers(method, args.select).items():
        if system in args.systems:
            start = time.perf_counter()
            chosen[system] = choose(fired, target)
            result[f"{system}_seconds"] = round(time.perf_counter() - start, 2)
            result[f"{system}_neurons"] = len(chosen[system])
            result[f"{system}_also_ours"] = len({*chosen[system]} & {*chosen.get("ours", [])})
            print(f"{method}, {system}: {result[f'{system}_seconds']} s", flush=True)
    return result


def main() -> None:
    """Time every method and print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in {"rows": 20_000, "neurons": 1024, "k": 16, "select": 20, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of liblinear's, about penalties on the way
    data = planted(args.rows, args.neurons, args.k, np.random.default_rng(args.seed))
    result = {method: compare(method, data, args) for method in args.methods}
    print(json.dumps({**vars(args), **result, "load_average": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
