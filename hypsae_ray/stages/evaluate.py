"""Stage `evaluate`: test every hypothesis on the holdout, and trace where its signal comes from."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from hypsae_ray.config import Data
from hypsae_ray.data.arrays import Ints, codes_of
from hypsae_ray.data.chunks import (
    combine_activations,
    combine_vectors,
    describe_chunks,
    documents_of,
    rows_of_documents,
    starts_of,
)
from hypsae_ray.data.rows import few_texts
from hypsae_ray.errors import StageError
from hypsae_ray.labels.read import DocumentLabels, StoredLabels
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.stages.gold import add_gold, read_gold
from hypsae_ray.stages.holdout import read_holdout
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.stats.evaluate import evaluate, name_classes, note_mask
from hypsae_ray.stats.prediction.cross_fit import rows_that_fit
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder, Outcome
from hypsae_ray.store.schema import Status
from hypsae_ray.store.stage_tables import read_activations

KEPT = ["hypothesis_id", "neuron_idx", "interpretation", "f1_fidelity_score", "f1_ci_low", "f1_ci_high"]


def run(work: Workspace) -> Outcome:
    """Write one row of statistics per hypothesis, and tables of details; facts: metrics and notes."""
    options, facts = work.config.evaluate, work.facts("data")
    hypotheses = work.inputs["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    labels = StoredLabels(work.inputs["annotate"], hypotheses["threshold"].to_numpy())
    coded = read_gold(options.gold, labels, hypotheses) if options.gold else None
    neurons = hypotheses["neuron_idx"].to_numpy()
    rows, sample = read_holdout(work, labels, neurons)
    notes = document_notes(labels, work.config.data)
    notes += facts.get("category_notes", []) if options.covariates else []
    sources = _sources(work, rows, labels.row_ids(), neurons)
    pa.default_memory_pool().release_unused()  # Arrow keeps what it read: 100 MB at a million rows
    try:
        result = evaluate(replace(sample, **sources), facts["task"], options)
    except ValueError as error:
        raise StageError(f"evaluate: {error}") from None
    result = note_mask(result, labels.unasked())
    if coded is not None:
        result = add_gold(result, sample, labels, coded, options)
    if classes := facts.get("classes"):
        notes += absent_notes(classes, sample.target)
        result = name_classes(result, np.array(classes, dtype=object))
    known = [*KEPT, *({schema.STABILITY.name} & set(hypotheses))]
    table = hypotheses[known].rename(columns={"interpretation": "hypothesis"})
    table = table.merge(result.table, on="hypothesis_id", validate="one_to_many" if classes else "one_to_one")
    for name, one in {"evaluation": table, **result.details}.items():
        work.write(f"{name}.parquet", one)
    notes += restating_notes(hypotheses)
    notes += [*result.notes, *_repeat_notes(rows, sample.groups, work.config.data)]
    return Outcome(len(hypotheses), facts={"metrics": dict(result.metrics), "notes": notes})


def repeat_notes(text_ids: pd.Series) -> list[str]:
    """Return a note if few texts stand in many rows."""
    distinct = text_ids.nunique()
    if not few_texts(len(text_ids), distinct):
        return []
    counts = f"{len(text_ids)} rows hold only {distinct} distinct texts"
    return [f"{counts}: rows with one text are not independent evidence"]


def _repeat_notes(rows: pd.DataFrame, groups: Ints | None, data: Data) -> list[str]:
    if data.rule == "difference":
        return shared_notes(rows["text_id"], groups)
    return repeat_notes(rows["text_id"])


def absent_notes(classes: Sequence[str], codes: np.ndarray) -> list[str]:
    """Return a note if classes have no row of codes (n,) in the holdout."""
    absent = [name for code, name in enumerate(classes) if not (codes == code).any()]
    if not absent:
        return []
    return [f"not tested, as no annotated row of the holdout is of the class: {', '.join(absent)}"]


def restating_notes(hypotheses: pd.DataFrame) -> list[str]:
    """Return a note if hypotheses say the target in other words."""
    restating = hypotheses.loc[hypotheses["status"] == Status.RESTATES.name.lower(), "hypothesis_id"]
    if restating.empty:
        return []
    which = "hypothesis" if len(restating) == 1 else "hypotheses"
    numbers = ", ".join(map(str, restating))
    return [f"{which} {numbers} say the target in other words (data.target_means)"]


def shared_notes(linked: pd.Series, groups: Ints | None = None) -> list[str]:
    """Return a note if many pairs have a text in common, and groups (n,) do not say so.

    `linked` (n,) is what `linked_pairs` returned.
    """
    sets = linked.nunique()
    known = groups is not None and bool((pd.Series(groups).groupby(linked.to_numpy()).nunique() == 1).all())
    if known or not few_texts(len(linked), sets):
        return []
    counts = f"of {len(linked)} pairs only {sets} sets have no text in common"
    return [f"{counts}: pairs that share a text are not independent evidence; data.group can say so"]


def document_notes(texts: StoredLabels, data: Data) -> list[str]:
    """Return in a sentence how many documents or pairs are tested, and how many labels are missing."""
    if data.rule is None:
        return []
    combined = DocumentLabels(texts, data.rule)
    missing = sum(int(np.isnan(labels).sum()) for labels in combined.blocks())
    n, of_documents = combined.shape[0], f"{missing} of {math.prod(combined.shape)} labels of"
    if data.chunk is None:
        lacking = f"; {of_documents} pairs are missing, as one of the texts has none" if missing else ""
        return [
            f"tests are on {n} pairs: a label is that of the first text minus that of the second{lacking}"
        ]
    if data.labels_documents:
        of = describe_chunks(data.chunk)
        return [f"neurons are of chunks of {of}; labels and tests are of {n} whole documents"]
    lacking = f"; {of_documents} documents are missing, as chunks have none" if missing else ""
    sizes = f"{n} documents in {texts.shape[0]} chunks of {describe_chunks(data.chunk)}"
    return [f"tests are on {sizes}, their labels combined by {data.rule}{lacking}"]


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

    `labelled` are ids of the annotated rows: of the texts of the tested rows, where these have several.
    """
    out, n_neurons = work.inputs["embed_holdout"], work.facts("train_sae")["n_neurons"]
    split, rule = work.config.data.embedded_holdout, work.config.data.rule
    if rule is not None:  # all texts of the documents, which may be labelled whole
        row_ids = np.sort(out.read_tables(f"activations-{split}-", ["row_id"])["row_id"].to_numpy())
        labelled = row_ids[rows_of_documents(row_ids, labelled)]
    _, fired = read_activations(out, split, n_neurons, wanted=labelled)
    vectors = _read_vectors(out, split, labelled)
    if rule is not None:
        starts = starts_of(documents_of(labelled))
        fired = combine_activations(fired, starts, rule)
        ends = np.append(starts, len(labelled))
        whole = int((ends[1:] <= len(vectors)).sum())  # documents of which every chunk was read
        vectors = combine_vectors(vectors[: ends[whole]], ends[:whole], rule)
    active = fired[: len(vectors)]
    features = {"embedding": vectors, "neurons": active, "selected neurons": active[:, neurons]}
    pairs, grouped = rule == "difference", work.config.data.group is not None
    return {
        "features": features,
        # Of a pair there is no silent text to compare firing ones with, so no dose.
        "activations": None if pairs else sp.csc_matrix(fired[:, neurons]),
        "groupings": {} if grouped else _groupings(rows, work.inputs["data"]),
    }


def _read_vectors(folder: Folder, split: str, row_ids: np.ndarray) -> np.ndarray:
    """Return the embeddings of the first rows (m, d) float32, as many as fit memory."""
    names = folder.names(f"{split}-", ".parquet")
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
