"""What sampling labels costs where the holdout is large, and what it is worth on real labels.

`--rows N`: a small run with keywords is finished, then its holdout is replaced by N rows. Seconds and peak
memory of `hypsae run` with `annotate.sample` on it: it draws, labels and evaluates (`rows_per_s` says which
part is left if a model labels). Proxies are from activations; `--embeddings` takes embeddings too.

`--run FOLDER`: a finished run whose holdout is labelled whole. Samples of a seventh to a third of the rows
are drawn again and again; how often does the interval hold the coefficient of all rows, and how many labels
drawn plainly are as good, by what proxies are made from? Intervals are of the design alone: all rows are the
population. `--small FOLDER` names what `hypsae annotate` wrote for the same holdout and hypotheses by a small
LLM. With `--half-width W` such a width is asked for instead. One line of JSON at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats

from hypsae_ray import pipeline
from hypsae_ray.config import Evaluate, loading
from hypsae_ray.demo import grammar
from hypsae_ray.labels.read import StoredLabels, find_annotations
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.stats.analysis import Analysis, analyse, method_of
from hypsae_ray.stats.sample import Drawn, LabelArray, Sample, drawn_sample
from hypsae_ray.stats.two_phase.probabilities import allocate, pooled, rows_for, spread_of_influence
from hypsae_ray.stats.two_phase.proxied import use_proxies
from hypsae_ray.stats.two_phase.proxies import Clues, folds_of, learn, predict
from hypsae_ray.store.artifacts import Folder, Manifest
from hypsae_ray.store.stage_tables import read_activations

FIRST = 400  # as by default
QUICK = Evaluate(folds=0, n_bootstrap=0, n_permutations=0)
TABLE_ROWS = 100_000
CONFIG = """
data: {{train: {place}/train.jsonl, holdout: {place}/holdout.jsonl, target: stars, near_copy: null}}
embed: {{replicas: {{min: 0, max: 0}}}}
train_sae: {{n_neurons: 64, k: 4, prefix_lengths: [64], max_epochs: 5}}
select: {{n: {hypotheses}}}
llm: {{engine: keywords, replicas: {{min: 0, max: 0}}}}
annotate: {{sample: {{rows: 50, proxies: [{proxies}]}}}}
evaluate: {{folds: 0, n_permutations: 0}}
"""


def scale(place: Path, n_rows: int, n_labelled: int, n_hypotheses: int, proxies: str) -> dict[str, float]:
    """Time a run whose holdout has many rows, from the drawing of rows to the report."""
    grammar.write(grammar.generate(600, 300, seed=0), place)
    config, out = place / "c.yaml", place / "run"
    config.write_text(CONFIG.format(place=place, hypotheses=n_hypotheses, proxies=proxies))
    arguments = ["run", "--config", str(config), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "hypsae_ray.cli", *arguments], check=True, capture_output=True)
    steps = pipeline.plan(loading.load(str(config), {}), Folder.at(str(out)))
    folders = {step.stage.name: step.folder for step in steps}
    started = time.monotonic()
    replace(folders["data"], folders["embed_holdout"], n_rows, embeddings="embeddings" in proxies)
    print(f"{n_rows:,} rows written in {time.monotonic() - started:.0f} s", file=sys.stderr)
    sampled = [*arguments, "--annotate.sample.rows", str(n_labelled), "--annotate.sample.first", "2000"]
    code = f"from hypsae_ray import cli; assert cli.main({sampled!r}) == 0"
    code += "; print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - started
    print(done.stdout, file=sys.stderr)
    metrics = json.loads((out / "metrics.json").read_text())["main"]
    return {
        "rows": metrics["n_all"],
        "labelled": metrics["n"],
        "hypotheses": n_hypotheses,
        "effective_labels": round(metrics["effective_labels"]),
        "seconds": round(seconds, 1),
        "peak_mb": int(done.stdout.split()[-1]) // 1024,
    }


def replace(data: Folder, embedded: Folder, n_rows: int, *, embeddings: bool) -> None:
    """Put many rows in place of the holdout of a finished run, with texts that differ."""
    kinds = [(data, "holdout-"), (embedded, "activations-holdout-")]
    kinds += [(embedded, "holdout-")] if embeddings else []
    for folder, prefix in kinds:
        few = folder.read_tables(prefix)
        for name in folder.names(prefix, ".parquet"):
            folder.remove(name)
        for number, start in enumerate(range(0, n_rows, TABLE_ROWS)):
            ids = np.arange(start, min(start + TABLE_ROWS, n_rows))
            table = few.take(ids % len(few)).set_column(0, "row_id", pa.array(ids))
            if folder is data:
                table = _apart(table, ids)
            folder.write_table(f"{prefix}{number:05d}.parquet", table)


def _apart(table: pa.Table, ids: np.ndarray) -> pa.Table:
    """Give each row a text, an id of it and a target of its own."""
    noise = np.random.default_rng(int(ids[0])).normal(size=len(ids))
    columns = {
        "text_id": [f"{i:032x}" for i in ids],
        "text": [f"{text} {i}" for text, i in zip(table["text"].to_pylist(), ids, strict=True)],
        "target": table["target"].to_numpy() + noise,
    }
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table


@dataclass(frozen=True)
class Labelled:
    """A holdout that is labelled whole: its target, labels (N, H), folds, and clues for proxies by name."""

    target: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    clues: Mapping[str, Clues]


def read_run(run: str, small: str | None) -> Labelled:
    """Read a finished run, and what a small LLM said about the same rows and hypotheses."""
    folders = RunFolder.at(run).folders()
    hypotheses = folders["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    labels = StoredLabels(folders["annotate"], hypotheses["threshold"].to_numpy())
    values = np.concatenate(list(labels.blocks()))
    usable = np.flatnonzero(~np.isnan(values).all(axis=0))
    rows = folders["data"].read_tables("holdout-", ["row_id", "text_id", "target"]).to_pandas()
    rows = rows.set_index("row_id").loc[labels.row_ids()]
    manifest = Manifest.load(folders["train_sae"])
    assert manifest is not None
    neurons = hypotheses["neuron_idx"].to_numpy()[usable]
    n_neurons = manifest.outcome.facts["n_neurons"]
    ids, fired = read_activations(folders["embed_holdout"], "holdout", n_neurons, neurons)
    fired = fired[np.searchsorted(ids, rows.index)].toarray()
    vectors = pa.concat_tables(folders["embed_holdout"].tables("holdout-"))
    order = np.argsort(vectors["row_id"].to_numpy())
    embeddings = to_vectors(vectors)[order][np.searchsorted(ids, rows.index)].astype(np.float64)
    clues = {"activation": Clues(activations=fired), "probe": Clues(embeddings)}
    said = None
    if small is not None:
        stored = StoredLabels(find_annotations(small), 0.5)
        said = np.concatenate([p for _, p in stored.tables()])[:, usable].astype(np.float64)
        said = np.where(np.isnan(said), np.nanmean(said, axis=0), said)
        clues["small LLM"] = Clues(p_yes=said)
    clues["stacked"] = Clues(embeddings, fired, said)
    folds = folds_of(pd.util.hash_array(rows["text_id"].to_numpy(), categorize=False))
    return Labelled(rows["target"].to_numpy(np.float64), values[:, usable], folds, clues)


def resample(data: Labelled, draws: int) -> dict[str, Any]:
    """Draw samples of the rows that have every label, by every kind of proxies, and compare with all rows."""
    data = _complete(data)
    truth = _fit(Sample(LabelArray(data.labels), data.target)).fit.estimates.value[1:]
    found: dict[str, Any] = {"rows": len(data.target), "hypotheses": len(truth)}
    plain = np.zeros(0)
    with ProcessPoolExecutor() as processes:
        for design in ("uniform", "active"):
            for name in data.clues:
                one = partial(_draw, data, name, design)
                kept = [
                    drawn for drawn in processes.map(one, range(draws), chunksize=20) if drawn is not None
                ]
                value, margin, alone, sizes = map(np.array, zip(*kept, strict=True))
                plain = alone - truth if design == "uniform" else plain
                worth = (plain**2).mean(axis=0) / ((value - truth) ** 2).mean(axis=0)
                found[f"{design}, {name}"] = {
                    "draws": len(kept),
                    "labelled": round(float(sizes.mean()), 1),
                    "covers": round(100 * float((np.abs(value - truth) <= margin).mean()), 2),
                    "effective": round(float(np.exp(np.mean(np.log(worth)))), 3),
                    "least": round(float(worth.min()), 3),
                    "most": round(float(worth.max()), 3),
                }
                print(f"{design}, {name}: {found[f'{design}, {name}']}", file=sys.stderr)
    return found


def _draw(
    data: Labelled, name: str, design: str, draw: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None:
    """Corrected coefficients, half their intervals by the design, those of labels alone, rows labelled."""
    rng, clues, n_all = np.random.default_rng([draw, design == "active"]), data.clues[name], len(data.target)
    n = int(rng.integers(n_all // 7, n_all // 3 + 1))
    n_first = n if design == "uniform" else n // 2
    at = np.sort(rng.choice(n_all, n_first, replace=False))
    chance, first = np.full(n_all, n_first / n_all), at
    if design == "active":
        wave = _corrected(data, clues, at, chance, at)
        if wave.phases is None:
            return None
        share = n_first / n_all
        assert wave.sample.drawn is not None and wave.sample.drawn.all_rows is not None
        later = allocate(spread_of_influence(wave, wave.sample.drawn.all_rows), (n - n_first) / (1 - share))
        at = np.union1d(at, np.flatnonzero(rng.random(n_all) < later))
        chance = pooled(share, later)
    analysis = _corrected(data, clues, at, chance, first)
    if analysis.phases is None:
        return None
    left, p = analysis.phases.left, chance[at]
    margin = stats.t.ppf(0.975, analysis.fit.covariance.df)
    margin = (margin * np.sqrt(((1 - p)[:, None] * left**2).sum(axis=0)))[1:]
    labelled = _fit(
        drawn_sample(
            Sample(LabelArray(data.labels), data.target),
            LabelArray(data.labels[at]),
            Drawn(n_all, p, np.isin(at, first), at),
        )
    )
    alone = labelled.fit.estimates.value[1:]
    value = analysis.fit.estimates.value[1:]
    return (value, margin, alone, len(at)) if len(value) == len(alone) == data.labels.shape[1] else None


def widths(data: Labelled, half_width: float, draws: int) -> dict[str, Any]:
    """Ask for a half width again and again: rows that it took, half widths, and how often they are enough."""
    data, found = _complete(data), []
    n_all = len(data.target)
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        first = np.sort(rng.choice(n_all, min(FIRST, n_all), replace=False))
        clues, share = data.clues["stacked"], len(first) / n_all
        wave = _corrected(data, clues, first, np.full(n_all, share), first)
        assert wave.sample.drawn is not None and wave.sample.drawn.all_rows is not None
        size = spread_of_influence(wave, wave.sample.drawn.all_rows)
        n = rows_for(wave, size, half_width)
        later = allocate(size, (n - len(first)) / max(1 - share, 1e-9)) if n < n_all else np.ones(n_all)
        at = np.union1d(first, np.flatnonzero(rng.random(n_all) < later))
        analysis = _corrected(data, clues, at, pooled(share, later), first)
        low, high = analysis.fit.estimates.interval(0.95)[1:].T
        found.append((len(at), np.nanmax(high - low) / 2, np.nanmedian(high - low) / 2))
    rows, widest, median = np.array(found).T
    low, high = _fit(Sample(LabelArray(data.labels), data.target)).fit.estimates.interval(0.95)[1:].T
    return {
        "rows": n_all,
        "hypotheses": data.labels.shape[1],
        "asked": half_width,
        "by_all_rows": round(float(np.nanmax(high - low) / 2), 4),
        "draws": draws,
        "took": [round(float(q)) for q in np.quantile(rows, (0.05, 0.5, 0.95))],
        "widest": [round(float(q), 4) for q in np.quantile(widest, (0.05, 0.5, 0.95))],
        "median": round(float(np.median(median)), 4),
        "narrow_enough": round(100 * float((widest <= half_width).mean()), 1),
    }


def _complete(data: Labelled) -> Labelled:
    """Return the rows that have every label."""
    rows = np.flatnonzero(~np.isnan(data.labels).any(axis=1))
    clues = {name: one.rows(rows) for name, one in data.clues.items()}
    return Labelled(data.target[rows], data.labels[rows], data.folds[rows], clues)


def _corrected(
    data: Labelled, clues: Clues, at: np.ndarray, chance: np.ndarray, first: np.ndarray
) -> Analysis:
    models = learn(clues.rows(at), data.labels[at], data.folds[at])
    whole = Sample(LabelArray(predict(models, clues, data.folds)), data.target)
    drawn = Drawn(len(data.target), chance[at], np.isin(at, first), at, whole)
    return use_proxies(
        _fit(drawn_sample(whole, LabelArray(data.labels[at]), drawn)), np.random.default_rng(0)
    )


def _fit(sample: Sample) -> Analysis:
    return analyse(sample, method_of("regression", sample, "auto"), QUICK)


def main() -> None:
    """Measure one of both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--labelled", type=int, default=20_000)
    parser.add_argument("--hypotheses", type=int, default=20)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--run", help="finished run folder; then samples are drawn of its labels")
    parser.add_argument("--small", help="folder of annotations of the same holdout by a small LLM")
    parser.add_argument("--half-width", type=float, help="with --run: ask for it, over so many draws")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    if options.run:
        data = read_run(options.run, options.small)
        wide = options.half_width
        print(json.dumps(widths(data, wide, options.draws) if wide else resample(data, options.draws)))
        return
    proxies = "activations, embeddings" if options.embeddings else "activations"
    with tempfile.TemporaryDirectory() as place:
        found = scale(Path(place), options.rows, options.labelled, options.hypotheses, proxies)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
