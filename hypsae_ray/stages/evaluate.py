"""Stage `evaluate`: test every hypothesis on the holdout, and trace where its signal comes from."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from hypsae_ray.config import Chunk, Config
from hypsae_ray.data.arrays import Ints, codes_of
from hypsae_ray.data.chunks import combine_activations, documents_of, mean_vectors, starts_of
from hypsae_ray.data.rows import few_texts
from hypsae_ray.errors import StageError
from hypsae_ray.labels.read import DocumentLabels, StoredLabels
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.stats.evaluate import evaluate, note_mask
from hypsae_ray.stats.prediction.cross_fit import rows_that_fit
from hypsae_ray.stats.sample import Sample
from hypsae_ray.store.artifacts import Folder, Outcome
from hypsae_ray.store.stage_tables import in_order, read_activations

KEPT = ["hypothesis_id", "neuron_idx", "interpretation", "f1_fidelity_score", "f1_ci_low", "f1_ci_high"]


def run(work: Workspace) -> Outcome:
    """Write one row of statistics per hypothesis, and tables of details; facts: metrics and notes."""
    options, data = work.config.evaluate, work.inputs["data"]
    hypotheses = work.inputs["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    labels = StoredLabels(work.inputs["annotate"], hypotheses["threshold"].to_numpy())
    rows = _holdout(data, labels.row_ids(), work.config)
    notes = [] if (chunk := work.config.data.chunk) is None else [chunk_note(labels, chunk)]
    sample = make_sample(labels, rows, work.config)
    sources = _sources(work, rows, labels.row_ids(), hypotheses["neuron_idx"].to_numpy())
    pa.default_memory_pool().release_unused()  # Arrow keeps what it read: 100 MB at a million rows
    try:
        result = evaluate(replace(sample, **sources), work.facts("data")["task"], options)
    except ValueError as error:
        raise StageError(f"evaluate: {error}") from None
    result = note_mask(result, labels.unasked())
    table = hypotheses[KEPT].rename(columns={"interpretation": "hypothesis"})
    table = table.merge(result.table, on="hypothesis_id", validate="one_to_one")
    for name, one in {"evaluation": table, **result.details}.items():
        work.write(f"{name}.parquet", one)
    notes += [*result.notes, *repeat_notes(rows["text_id"])]
    return Outcome(len(table), facts={"metrics": dict(result.metrics), "notes": notes})


def repeat_notes(text_ids: pd.Series) -> list[str]:
    """Return a note if few texts stand in many rows."""
    distinct = text_ids.nunique()
    if not few_texts(len(text_ids), distinct):
        return []
    counts = f"{len(text_ids)} rows hold only {distinct} distinct texts"
    return [f"{counts}: rows with one text are not independent evidence"]


def _holdout(data: Folder, row_ids: np.ndarray, config: Config) -> pd.DataFrame:
    """Return all columns but the text of the annotated rows, in their order, indexed by row_id.

    Of chunks, those of their documents, indexed by the row of these.
    text_id is a hash of 8 bytes: a million of the stored ones, as texts, take 90 MB.
    """
    columns = ["row_id", "text_id", "target", "group", "weight"]
    columns += [f"covariate_{name}" for name in config.data.covariates]
    tables = [_with_short_ids(table) for table in data.tables("holdout-", columns)]
    rows = pa.concat_tables(tables).to_pandas().set_index("row_id")
    rows = rows if np.array_equal(rows.index, row_ids) else rows.loc[row_ids]  # which copies them
    return rows if config.data.chunk is None else _to_documents(rows)


def _to_documents(chunks: pd.DataFrame) -> pd.DataFrame:
    documents = documents_of(chunks.index.to_numpy())
    starts = starts_of(documents)
    # The sum is the same for documents of the same chunks.
    text_ids = np.add.reduceat(chunks["text_id"].to_numpy(), starts)
    return chunks.iloc[starts].assign(text_id=text_ids).set_index(documents[starts]).rename_axis("row_id")


def chunk_note(chunks: StoredLabels, chunk: Chunk) -> str:
    """Return how many documents are tested, and how many of their labels are missing, in a sentence."""
    combined = DocumentLabels(chunks, chunk.labels)
    missing = sum(int(np.isnan(labels).sum()) for labels in combined.blocks())
    lacking = (
        f"; {missing} of {math.prod(combined.shape)} labels of documents are missing, as chunks have none"
    )
    return (
        f"tests are on {combined.shape[0]} documents in {chunks.shape[0]} chunks of {chunk.words} words, "
        f"their labels combined by {chunk.labels}{lacking if missing else ''}"
    )


def _with_short_ids(table: pa.Table) -> pa.Table:
    ids = table["text_id"].to_numpy()
    short = pa.array(pd.util.hash_array(ids, categorize=False))
    return table.set_column(table.column_names.index("text_id"), "text_id", short)


def make_sample(labels: StoredLabels, rows: pd.DataFrame, config: Config) -> Sample:
    """Return the holdout as the statistics read it; of chunks, `rows` are their documents."""
    groups = codes_of(rows["group"]) if config.data.group is not None else None
    names = config.data.covariates if config.evaluate.covariates else ()
    covariates = rows[[f"covariate_{name}" for name in names]].to_numpy(np.float64) if names else None
    chunk = config.data.chunk
    return Sample(
        labels if chunk is None else DocumentLabels(labels, chunk.labels),
        rows["target"].to_numpy(np.float64),
        groups=groups,
        weights=rows["weight"].to_numpy(np.float64) if config.data.weight is not None else None,
        covariates=covariates,
        covariate_names=names,
        effects=groups[:, None] if config.evaluate.absorb_group and groups is not None else None,
        doses=None if chunk is None else DocumentLabels(labels, chunk.labels, doses=True),
    )


def _groupings(rows: pd.DataFrame, data: Folder) -> dict[str, Ints]:
    """Return groups that rows, indexed by row_id, might belong to, by name; for where none was named."""
    found: dict[str, Ints] = {}
    if rows["text_id"].duplicated().any():
        found["repeated text"] = codes_of(rows["text_id"])
    if data.has("possible_groups.parquet"):
        table = data.read_table("possible_groups.parquet").to_pandas().set_index("row_id").loc[rows.index]
        found |= {str(name): codes_of(table[name]) for name in table.columns}
    return found


def _sources(
    work: Workspace, rows: pd.DataFrame, labelled: np.ndarray, neurons: np.ndarray
) -> dict[str, Any]:
    """Return `features` of as many rows as fit memory, `activations` and `groupings` of a `Sample`.

    `labelled` are ids of the annotated rows, which are chunks of the tested ones if the config splits texts.
    """
    out, n_neurons = work.inputs["embed_holdout"], work.facts("train_sae")["n_neurons"]
    row_ids, fired = read_activations(out, "holdout", n_neurons)
    fired = in_order(fired, np.searchsorted(row_ids, labelled))
    vectors = _read_vectors(out, labelled)
    if (chunk := work.config.data.chunk) is not None:
        starts = starts_of(documents_of(labelled))
        fired = combine_activations(fired, starts, chunk.labels)
        ends = np.append(starts, len(labelled))
        whole = int((ends[1:] <= len(vectors)).sum())  # documents of which every chunk was read
        vectors = mean_vectors(vectors[: ends[whole]], ends[:whole])
    selection = work.inputs["select"].read_table("selection.parquet").to_pandas()
    selected = selection.dropna(subset="rank").sort_values("rank")["neuron_idx"].to_numpy()
    active = fired[: len(vectors)]
    features = {"embedding": vectors, "neurons": active, "selected neurons": active[:, selected]}
    grouped = work.config.data.group is not None
    return {
        "features": features,
        "activations": sp.csc_matrix(fired[:, neurons]),
        "groupings": {} if grouped else _groupings(rows, work.inputs["data"]),
    }


def _read_vectors(folder: Folder, row_ids: np.ndarray) -> np.ndarray:
    """Return the embeddings of the first rows (m, d) float32, as many as fit memory."""
    names = folder.names("holdout-", ".parquet")
    dim = folder.read_table(names[0])["embedding"].type.list_size
    first = row_ids[: rows_that_fit(dim)]
    vectors = np.zeros((len(first), dim), dtype=np.float32)
    position, left = pd.Series(np.arange(len(first)), index=first), len(first)
    for name in names:
        if not left:
            break
        table = folder.read_table(name)
        mine = position.reindex(table["row_id"].to_numpy())
        there = mine.notna().to_numpy()
        left -= int(there.sum())
        if there.any():
            vectors[mine[there].to_numpy(np.int64)] = to_vectors(table)[there]
    return vectors
