"""Are neurons that other seeds find again those that mean something? On the demo, whose truth is known.

    python jobs/bench_stability.py --seeds 3 --runs 3      # 2 minutes; --texts, --select, --keep FOLDER

Of each run, `seeds` SAEs are trained on the same reviews, and the neurons of the first one are looked for in
the others, by activation (`neurons.stability`) and by decoder: the highest cosine of its direction with any
of theirs, on average. A neuron carries a planted concept if where it fires has an F1 of 0.6 or more against
it. Printed are the share of neurons that carry one, in the stabler half and in the other; the rank
correlation of stability with a neuron's best F1; and how many of the 12 concepts a selection finds, of all
neurons and of those above a limit.

The last line of output is one JSON object.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

import hypsae_ray as hr
from hypsae_ray.config import Select, TrainSae
from hypsae_ray.demo import grammar
from hypsae_ray.neurons.selection import select
from hypsae_ray.neurons.stability import stability

GOOD_F1 = 0.6
LIMITS = (0.0, 0.5, 0.6, 0.7, 0.8)
METHODS = ("correlation", "lasso", "forward")


def firing_f1(fired: sp.csr_matrix, truth: np.ndarray) -> np.ndarray:
    """Return the F1 of where each of M neurons fires against each of C concepts (n, C): (M, C)."""
    fires = sp.csr_matrix(fired > 0, dtype=np.float64)
    both = fires.T @ truth
    return 2 * both / np.maximum(np.ravel(fires.sum(axis=0))[:, None] + truth.sum(axis=0), 1)


def by_decoder(first: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Return the highest cosine of each row of `first` with rows of another matrix, on average over them."""
    return np.mean([(first @ other.T).max(axis=1) for other in others], axis=0)


def found(fired: sp.csr_matrix, target: np.ndarray, f1: np.ndarray, kept: np.ndarray, by: Select) -> int:
    """Return how many concepts the selection of some neurons finds."""
    chosen = kept[select(fired[:, kept], target, by, "regression").neurons]
    return int((f1[chosen] >= GOOD_F1).any(axis=0).sum())


def describe(name: str, value: np.ndarray, f1: np.ndarray) -> dict[str, object]:
    """Return what stable and unstable neurons carry, by one measure of stability (M,)."""
    best, alive = f1.max(axis=1), ~np.isnan(value)
    stable = value >= np.nanmedian(value)
    shares = [float((best[alive & half] >= GOOD_F1).mean()) for half in (stable, ~stable)]
    order = float(pd.Series(value).corr(pd.Series(best), method="spearman"))
    return {"measure": name, "stabler half": shares[0], "other half": shares[1], "rank correlation": order}


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--select", type=int, default=12)
    parser.add_argument("--keep", type=Path, default=Path("kept"), help="folder of the embeddings")
    options = parser.parse_args()
    demo = grammar.generate(options.texts, 1, 0)
    truth = demo.truth.set_index("id").loc[demo.train["id"]].to_numpy(np.float64)
    target = demo.train["stars"].to_numpy(np.float64)
    file = options.keep / f"demo-{options.texts}.npy"
    if not file.exists():
        options.keep.mkdir(parents=True, exist_ok=True)
        np.save(file, hr.embed(demo.train["text"].tolist()))
    vectors = np.load(file)
    n_val = options.texts // 10

    @cache
    def trained(seed: int) -> tuple[sp.csr_matrix, np.ndarray]:
        sae = hr.train_sae(vectors[n_val:], vectors[:n_val], TrainSae(seed=seed, batch_size=64))
        return hr.activations(sae, vectors), sae.decoder.detach().numpy()

    carried, chosen = [], []
    for run in range(options.runs):
        (fired, decoder), *others = (trained(run * options.seeds + i) for i in range(options.seeds))
        f1 = firing_f1(fired, truth)
        measures = {
            "activation": stability(fired, [other for other, _ in others]),
            "decoder": by_decoder(decoder, [other for _, other in others]),
        }
        carried += [describe(name, value, f1) for name, value in measures.items()]
        for limit in LIMITS:
            kept = np.flatnonzero(measures["activation"] >= limit)
            counts = {m: found(fired, target, f1, kept, Select(method=m, n=options.select)) for m in METHODS}
            chosen.append({"limit": limit, "neurons": len(kept), **counts})
    tables = [pd.DataFrame(carried).groupby("measure"), pd.DataFrame(chosen).groupby("limit")]
    means = [table.mean().round(2).reset_index() for table in tables]
    print("\n\n".join(table.to_string(index=False) for table in means))
    print(json.dumps({"carried": means[0].to_dict("records"), "selected": means[1].to_dict("records")}))


if __name__ == "__main__":
    main()
