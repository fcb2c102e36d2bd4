"""The statistics at scale: 10 million rows x 50 hypotheses in a million groups, from stored shards.

1. Shards of annotations are written, labels and effects known.
2. They are evaluated from disk, in a process of its own, whose memory is watched.
3. A sample of the rows is evaluated from disk and from memory: the largest difference of any number.

One line of JSON at the end.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import hypsae_ray
from hypsae_ray.labels.annotations import to_columns
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.stats.evaluate import Task
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status

SHARD_ROWS = 50_000


@dataclass(frozen=True)
class Size:
    """How many rows, hypotheses and groups, and where the shards are."""

    rows: int
    hypotheses: int
    groups: int
    folder: str


def effects(size: Size) -> np.ndarray:
    """True effects: a tenth of the hypotheses matter."""
    return np.where(np.arange(size.hypotheses) % 10 == 0, 0.1, 0.0)


def write(size: Size, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Write shards of annotations, some of them without a label; return target and group of each row."""
    rng, folder = np.random.default_rng(0), Folder.at(size.folder).sub("annotations")
    groups = rng.integers(0, size.groups, size.rows)
    signal = rng.normal(0, 0.5, size.groups)[groups]
    for number, start in enumerate(range(0, size.rows, SHARD_ROWS)):
        rows = slice(start, min(start + SHARD_ROWS, size.rows))
        scores = draw(rows.stop - start, size, rng)
        columns = {"row_id": pa.array(np.arange(start, rows.stop)), **to_columns(scores)}
        table = pa.table(columns, schema=schema.annotations(size.hypotheses))
        folder.write_table(f"annotations-{number:05d}.parquet", table)
        signal[rows] += (scores.p_yes >= 0.5) @ effects(size)
    if task == "regression":
        return signal + rng.normal(size=size.rows), groups
    return (rng.random(size.rows) < 1 / (1 + np.exp(0.5 - signal))).astype(float), groups


def draw(n: int, size: Size, rng: np.random.Generator) -> Annotations:
    """Draw annotations (n, H); in one row of 1,000 a label is missing."""
    prevalence = np.geomspace(0.002, 0.4, size.hypotheses)
    yes = rng.random((n, size.hypotheses)) < prevalence
    p_yes = (np.where(yes, 0.5, 0.0) + 0.4999 * rng.random(yes.shape)).astype(np.float32)
    failed = rng.random(yes.shape) < 0.001 / size.hypotheses
    status = np.where(failed, Status.UNPARSABLE, Status.OK).astype(np.int8)
    return Annotations(p_yes, np.zeros_like(p_yes), status)


def evaluate(size: Size, task: Task) -> dict[str, float]:
    """Evaluate the shards; return seconds, peak memory, and how many intervals hold the true effect."""
    folder = Path(size.folder)
    target, groups = np.load(folder / "target.npy"), np.load(folder / "groups.npy")
    before = peak_gib()
    started = time.monotonic()
    found = hypsae_ray.evaluate_hypotheses(size.folder, target, task=task, groups=groups)
    table, truth = found.table, effects(size)
    inside = (table["regression_ci_low"] <= truth) & (truth <= table["regression_ci_high"])
    return {
        "seconds": round(time.monotonic() - started, 1),
        "peak_gib": round(peak_gib(), 2),
        "before_gib": round(before, 2),
        "n_regression": found.metrics["n_regression"],
        "significant": found.metrics["n_significant"],
        "intervals_that_hold": int(inside.sum()),
    }


def peak_gib() -> float:
    """Return the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def difference(size: Size, task: Task) -> float:
    """Return the largest difference of any number between shards and memory, relative to its size."""
    folder = Path(size.folder)
    target, groups = np.load(folder / "target.npy"), np.load(folder / "groups.npy")
    labels = hypsae_ray.load_annotations(size.folder).to_numpy(np.float64)
    stored = hypsae_ray.evaluate_hypotheses(size.folder, target, task=task, groups=groups)
    held = hypsae_ray.evaluate_hypotheses(labels, target, task=task, groups=groups)
    worst = [_differ(stored.table, held.table)]
    worst += [
        abs(value - held.metrics[name]) / max(abs(value), 1)
        for name, value in stored.metrics.items()
        if isinstance(value, float)
    ]
    return float(np.nanmax(worst))


def _differ(one: pd.DataFrame, other: pd.DataFrame) -> float:
    a, b = (table.select_dtypes("number").to_numpy(dtype=float, na_value=np.nan) for table in (one, other))
    return float(np.nanmax(np.abs(a - b) / np.maximum(np.abs(a), 1)))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def save(size: Size, task: str) -> None:
    """Write shards, targets and groups."""
    target, groups = write(size, task)
    np.save(Path(size.folder) / "target.npy", target)
    np.save(Path(size.folder) / "groups.npy", groups)


def main() -> None:
    """Write, evaluate, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--hypotheses", type=int, default=50)
    parser.add_argument("--groups", type=int, default=1_000_000)
    parser.add_argument("--task", choices=("regression", "classification"), default="regression")
    parser.add_argument("--sample", type=int, default=200_000, help="rows of the comparison")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        whole = Size(options.rows, options.hypotheses, options.groups, f"{place}/whole")
        share = max(options.sample * options.groups // options.rows, 1)
        part = Size(options.sample, options.hypotheses, share, f"{place}/part")
        for size in (whole, part):
            apart(save, size, options.task)
            print(f"{size.rows:,} rows are written", file=sys.stderr)
        result = apart(evaluate, whole, options.task)
        print(result, file=sys.stderr)
        worst = apart(difference, part, options.task)
    shape = {"rows": whole.rows, "hypotheses": whole.hypotheses, "groups": whole.groups, "task": options.task}
    print(json.dumps({**shape, **result, "sample": part.rows, "largest_difference": worst}))


if __name__ == "__main__":
    main()
