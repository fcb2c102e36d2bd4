"""Time hypothesaes' SAE training and ours to the same validation loss, side by side, on planted data.

    OMP_NUM_THREADS=2 python jobs/bench_sae.py --rows 20000 --dim 384 --neurons 256 --k 8 --prefixes 32 256

Embeddings are sums of a few of --concepts random directions plus noise, scaled to length 1. hypothesaes runs
with its own defaults and the validation rows. Both models are judged by `common_loss`, on the same rows.
hypothesaes is given all its seconds as the time to its final loss; ours is timed to the end of the first
epoch whose common loss is not above that. Seconds are of the wall clock; CPU seconds, over all threads, say
more where the machine does other work. The last line of output is one JSON object.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesaes.sae
import numpy as np
import torch
from hypothesaes.quickstart import train_sae

from hypsae_ray.config import TrainSae
from hypsae_ray.sae.model import SparseAutoencoder, from_hypothesaes
from hypsae_ray.sae.training import Progress, WorkerRows, train


def planted(rows: int, dim: int, concepts: int, rng: np.random.Generator) -> np.ndarray:
    """Return unit-norm embeddings (rows, dim) float32, each the sum of about five concepts and noise."""
    directions = rng.normal(size=(concepts, dim)) / dim**0.5
    shares = 1 / np.arange(1, concepts + 1) ** 0.7
    present = rng.random((rows, concepts)) < np.minimum(0.5, 5 * shares / shares.sum())
    x = (present * rng.uniform(0.5, 1.5, present.shape)) @ directions + rng.normal(size=dim) / dim**0.5
    x += 0.5 * rng.normal(size=x.shape) / dim**0.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@torch.no_grad()
def common_loss(sae: SparseAutoencoder, val: np.ndarray) -> float:
    """Return the Matryoshka loss of the weights on validation rows, as dense products in float64."""
    x, b_in, encoder, decoder = (
        t.double() for t in (torch.from_numpy(val), sae.b_in, sae.encoder, sae.decoder)
    )
    top = ((x - b_in) @ encoder.T + sae.b_neuron).topk(sae.k)
    dense = x.new_zeros(len(x), len(encoder)).scatter(1, top.indices, top.values.relu())
    errors = [(x - b_in - dense[:, :p] @ decoder[:p]).square().sum() for p in sae.prefix_lengths]
    return float(torch.stack(errors).mean() / (x - x.mean(0)).square().sum())


def as_ours(sae: hypothesaes.sae.SparseAutoencoder) -> SparseAutoencoder:
    """Return a model of hypothesaes as one of ours, through its checkpoint file."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        return from_hypothesaes(Path(sae.save(f"{folder}/sae.pt")).read_bytes())


class Clock:
    """Wall-clock and CPU seconds since it was made, without the parts that are paused."""

    def __init__(self) -> None:
        self._start = self._now()

    def read(self) -> np.ndarray:
        """Return (2,): wall-clock seconds, CPU seconds."""
        return self._now() - self._start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is done inside."""
        before = self._now()
        yield
        self._start += self._now() - before

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])


def run_theirs(x: np.ndarray, val: np.ndarray, options: TrainSae) -> tuple[np.ndarray, float]:
    """Return the seconds (2,) that hypothesaes took, and its final common loss."""
    clock = Clock()
    with contextlib.redirect_stdout(sys.stderr):
        sae = train_sae(
            x,
            *options.shape[:2],
            matryoshka_prefix_lengths=list(options.shape.prefix_lengths),
            val_embeddings=val,
            n_epochs=options.max_epochs,
        )
    return clock.read(), common_loss(as_ours(sae), val)


def run_ours(x: np.ndarray, val: np.ndarray, options: TrainSae) -> list[tuple[np.ndarray, float]]:
    """Return (seconds (2,) so far, common loss) after each epoch; judging is not timed."""
    points: list[tuple[np.ndarray, float]] = []
    clock = Clock()

    def judge(progress: Progress) -> None:
        seconds = clock.read()
        with clock.paused():
            points.append((seconds, common_loss(progress.sae, val)))

    train(WorkerRows.of(x), WorkerRows.of(val), options, on_epoch=judge)
    return points


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    sizes = {"rows": 20_000, "dim": 384, "neurons": 256, "k": 8, "concepts": 300, "seed": 0, "epochs": 100}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--prefixes", type=int, nargs="+", default=[32, 256])
    return parser.parse_args()


def main() -> None:
    """Run both and print the comparison."""
    args = parse()
    torch.manual_seed(args.seed)
    x = planted(args.rows + args.rows // 10, args.dim, args.concepts, np.random.default_rng(args.seed))
    x, val = x[: args.rows], x[args.rows :]
    # hypothesaes' defaults where ours differ: at most 100 epochs, patience 3.
    options = TrainSae(
        n_neurons=args.neurons,
        k=args.k,
        prefix_lengths=tuple(args.prefixes),
        seed=args.seed,
        max_epochs=args.epochs,
        patience=3,
    )
    theirs, target = run_theirs(x, val, options)
    points = run_ours(x, val, options)
    reached = next((i for i, (_, loss) in enumerate(points) if loss <= target), None)
    ours = np.full(2, np.nan) if reached is None else points[reached][0]
    result = {
        **vars(args),
        "hypothesaes_seconds": round(theirs[0], 2),
        "hypothesaes_cpu_seconds": round(theirs[1], 2),
        "hypothesaes_loss": round(target, 5),
        "our_seconds_to_that_loss": round(ours[0], 2),
        "our_cpu_seconds_to_that_loss": round(ours[1], 2),
        "our_epochs_to_that_loss": None if reached is None else reached + 1,
        "our_seconds": round(points[-1][0][0], 2),
        "our_cpu_seconds": round(points[-1][0][1], 2),
        "our_epochs": len(points),
        "our_loss": round(min(loss for _, loss in points), 5),
        "ratio": round(theirs[0] / ours[0], 2),
        "cpu_ratio": round(theirs[1] / ours[1], 2),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
