"""Time the selection of neurons, ours next to hypothesaes', and compare what is chosen.

    python jobs/bench_select.py --rows 20000 --neurons 1024 --k 16 --select 20
    python jobs/bench_select.py --rows 114000 --neurons 4096 --k 32 --systems ours   # full size, no rivals
    python jobs/bench_select.py --truth --seeds 20     # what is found of planted effects next to covariates
    python jobs/bench_select.py --copies --seeds 20    # what is found where several neurons say the same

Activations are sparse: --k neurons fire in a row, some much more often than others, and the target is made
from 30 of them. `bisection` is how we chose by logistic lasso before: liblinear at one penalty after another.
hypothesaes takes activations as a dense table.

--truth plants effects next to two covariates with effects of their own: neurons with an effect, neurons whose
effect the covariate hides, neurons that follow the covariate and have none, and, with --turning, neurons
whose effect has the sign of the covariate. As many neurons are selected as have an effect, and counted by
kind.

--copies plants 20 concepts, each with one to three neurons that fire on most of its rows, and neurons that
fire on two concepts; with --paired, concepts occur in pairs. It counts the concepts for which a selected
neuron has an F1 of 0.6 or more, each neuron for the concept that fits it best. `passing over` ranks by
correlation and leaves out neurons that correlate above a limit with one chosen before.

The last line of output is one JSON object.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from hypothesaes.select_neurons import select_neurons
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hypsae_ray.config import Select
from hypsae_ray.neurons.given import Given
from hypsae_ray.neurons.selection import Task, select

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


@dataclass(frozen=True)
class Truth:
    """Activations (n, M), a target (n,), what is known, and the kind of each neuron, (M,)."""

    fired: sp.csr_matrix
    target: np.ndarray
    given: Given
    kinds: np.ndarray


KINDS = ("direct", "hidden", "turning", "confounded", "idle")


def plant(rng: np.random.Generator, turning: int, rows: int = 5000, neurons: int = 300) -> Truth:
    """Draw a sample with 12 direct, 6 hidden, some turning and 18 confounded neurons; the others are idle."""
    counts = (12, 6, turning, 18, neurons - 36 - turning)
    kinds = np.repeat(KINDS, counts)
    direct, hidden, turns, confounded = (kinds == kind for kind in KINDS[:-1])
    age, new = rng.normal(size=rows), (rng.random(rows) < 0.4).astype(np.float64)
    share, pull = rng.uniform(0.01, 0.3, neurons), np.zeros(neurons)
    pull[hidden] = rng.uniform(0.5, 0.9, hidden.sum())
    pull[confounded] = rng.uniform(0.4, 1, confounded.sum()) * rng.choice([-1, 1], confounded.sum())
    fires = rng.random((rows, neurons)) < expit(np.log(share / (1 - share)) + age[:, None] * pull)
    effects, turned = np.zeros(neurons), np.zeros(neurons)
    effects[direct] = rng.uniform(0.25, 0.6, direct.sum()) * rng.choice([-1, 1], direct.sum())
    effects[hidden] = -rng.uniform(0.35, 0.6, hidden.sum())
    turned[turns] = rng.uniform(0.5, 0.8, turns.sum())
    target = fires @ effects + age * (fires @ turned) + age + 0.5 * new + rng.normal(size=rows)
    fired = sp.csr_matrix(fires * rng.gamma(4, 0.25, fires.shape))
    return Truth(fired, target, Given(np.column_stack([age, new]), ("age", "new")), kinds)


def found_of(truth: Truth, options: Select, given: Given | None, task: Task) -> list[int]:
    """Return how many neurons of each kind are selected."""
    target = truth.target
    if task == "classification":
        target = (target > np.median(target)).astype(np.float64)
    neurons = select(truth.fired, target, options, task, given).neurons
    return [int((truth.kinds[neurons] == kind).sum()) for kind in KINDS]


def recover(seeds: int, turning: int) -> dict[str, dict[str, float]]:
    """Return the mean number of neurons found by kind, for each way to select."""
    n = 18 + turning
    found: dict[str, list[list[int]]] = {}
    for seed in range(seeds):
        truth = plant(np.random.default_rng(seed), turning)
        for method, task in (("correlation", ""), ("lasso", "linear"), ("lasso", "logistic")):
            kind: Task = "classification" if task == "logistic" else "regression"
            options = Select.model_validate({"method": method, "n": n})
            for known, given in (("", None), (", given", truth.given)):
                found.setdefault(f"{task} {method}{known}".strip(), []).append(
                    found_of(truth, options, given, kind)
                )
        options = Select(n=n, interactions=True)
        found.setdefault("correlation, given, interactions", []).append(
            found_of(truth, options, truth.given, "regression")
        )
    means = {name: np.mean(counts, axis=0) for name, counts in found.items()}
    table = {
        name: {kind: round(float(mean), 2) for kind, mean in zip(KINDS, one, strict=True)}
        | {"true": round(float(one[:3].sum()), 2), "of": n}
        for name, one in means.items()
    }
    for name, one in table.items():
        print(f"{name}: {one}", flush=True)
    return table


def plant_copies(
    rng: np.random.Generator, paired: bool, rows: int = 5000, neurons: int = 300
) -> tuple[np.ndarray, ...]:
    """Return dense activations (rows, neurons), a target (rows,), and concepts (rows, 20) of 0 and 1."""
    concepts = rng.random((rows, 20)) < rng.uniform(0.02, 0.3, 20)
    if paired:  # on 0.6 of the rows each second concept is there where the one before it is
        follows = rng.random((rows, 10)) < 0.6
        concepts[:, 1::2] = np.where(follows, concepts[:, ::2], concepts[:, 1::2])
    target = concepts @ (rng.uniform(0.1, 0.8, 20) * rng.choice([-1, 1], 20)) + rng.normal(size=rows)
    copied = np.repeat(np.arange(20), rng.integers(1, 4, 20))
    near = concepts[:, copied] & (rng.random((rows, len(copied))) < rng.uniform(0.6, 1, len(copied)))
    near |= rng.random(near.shape) < 0.005
    broad = [concepts[:, rng.choice(20, 2, replace=False)].any(axis=1) for _ in range(6)]
    idle = rng.random((rows, neurons - near.shape[1] - 6)) < rng.uniform(
        0.01, 0.3, neurons - near.shape[1] - 6
    )
    fires = np.column_stack([near, *broad, idle])
    return fires * rng.gamma(4, 0.25, fires.shape), target, concepts


def pass_over(fired: np.ndarray, ranked: list[int], limit: float, n: int) -> np.ndarray:
    """Return the first n neurons that correlate with none before them above a limit."""
    chosen: list[int] = []
    between = np.corrcoef(fired.T)
    for neuron in ranked:
        if len(chosen) < n and not (np.abs(between[neuron, chosen]) > limit).any():
            chosen.append(neuron)
    return np.array(chosen)


def f1_of(fires: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """Return the F1 (C, H) of columns (n, H) for concepts (n, C)."""
    both = concepts.T.astype(np.float64) @ fires
    return 2 * both / (concepts.sum(axis=0)[:, None] + fires.sum(axis=0))


COMPARED = ("correlation", "lasso", "forward")


def recover_copies(seeds: int, paired: bool) -> dict[str, float]:
    """Return the mean number of concepts of 20 that are found, for each way to select."""
    found: dict[str, list[int]] = {}
    for seed in range(seeds):
        fired, target, concepts = plant_copies(np.random.default_rng(seed), paired)
        sparse = sp.csr_matrix(fired)
        ranked = select(sparse, target, Select(n=300), "regression").neurons.tolist()
        for n in (12, 20):
            options = [Select.model_validate({"method": one, "n": n}) for one in COMPARED]
            ways = {one.method: select(sparse, target, one, "regression").neurons for one in options}
            ways |= {f"passing over {limit}": pass_over(fired, ranked, limit, n) for limit in (0.3, 0.5, 0.7)}
            for way, neurons in ways.items():
                f1 = f1_of(fired[:, neurons] > 0, concepts)
                reached = f1.argmax(axis=0)[f1.max(axis=0) >= 0.6]
                found.setdefault(f"{way}, {n}", []).append(len(np.unique(reached)))
    return {way: round(float(np.mean(counts)), 2) for way, counts in found.items()}


def main() -> None:
    """Time every method, or look for planted effects, and print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in {"rows": 20_000, "neurons": 1024, "k": 16, "select": 20, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--truth", action="store_true", help="look for planted effects; nothing is timed")
    parser.add_argument("--copies", action="store_true", help="look for concepts; nothing is timed")
    parser.add_argument("--paired", action="store_true", help="of --copies: concepts occur in pairs")
    parser.add_argument("--seeds", type=int, default=20, help="of --truth and --copies")
    parser.add_argument("--turning", type=int, default=0, help="of --truth: effects that turn")
    args = parser.parse_args()
    if args.truth or args.copies:
        found = recover(args.seeds, args.turning) if args.truth else recover_copies(args.seeds, args.paired)
        print(json.dumps({"seeds": args.seeds, "found": found}))
        return
    warnings.simplefilter("ignore")  # of liblinear's, about penalties on the way
    data = planted(args.rows, args.neurons, args.k, np.random.default_rng(args.seed))
    result = {method: compare(method, data, args) for method in args.methods}
    print(json.dumps({**vars(args), **result, "load_average": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
