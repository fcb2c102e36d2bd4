"""The holdout as the statistics read it: its rows, their labels, and proxies where some rows have none."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from hypsae_ray.config import UNPLACED, Config, Data
from hypsae_ray.data.arrays import BLOCK_ROWS, Floats, Ints, codes_of
from hypsae_ray.data.chunks import (
    CHUNKS,
    Rule,
    combine_activations,
    combine_vectors,
    documents_of,
    starts_of,
)
from hypsae_ray.labels.draw import DrawnRows
from hypsae_ray.labels.read import DocumentLabels, StoredLabels
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.stats.sample import Drawn, LabelArray, Labels, Sample, drawn_sample
from hypsae_ray.stats.two_phase.proxies import Clues, fill, folds_of, learn, predict
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import COVARIATE
from hypsae_ray.store.stage_tables import covariate_columns, read_activations

Vectors = npt.NDArray[np.float32]


OF_SMALL_LLM = "small-llm"
"""Folder, in that of the annotations, of those of the LLM that labels all rows for proxies."""


class _Given(NamedTuple):
    """What proxies are made from: neurons (H,) of the hypotheses, and where labels of a small LLM are."""

    neurons: Ints
    labels: Folder


class Holdout(NamedTuple):
    """The annotated rows: all columns but the text, indexed by row_id; and them as a sample."""

    rows: pd.DataFrame
    sample: Sample


def read_holdout(work: Workspace, labels: StoredLabels, neurons: Ints) -> Holdout:
    """Return the annotated rows; where they were drawn, their sample stands for all rows.

    `neurons` (H,) are those of the hypotheses, whose activations proxies are made from.
    """
    config, data, drawn = work.config, work.inputs["data"], labels.drawn()
    if drawn is None:
        rows = read_rows(data, labels.row_ids(), config)
        return Holdout(rows, make_sample(labels, rows, config))
    rows = read_rows(data, None, config)
    found, doses = _labels_and_doses(labels, config)
    how = _how_drawn(drawn, rows, config)
    at = how.positions
    whole = _sample_of(rows, LabelArray(np.zeros((len(rows), 0))), config)
    if _has_proxies(config):
        values = np.concatenate(list(found.blocks()))
        proxies = _proxies(work, rows, at, values, _Given(neurons, labels.folder.sub(OF_SMALL_LLM)))
        whole = replace(whole, labels=LabelArray(proxies))
        how = replace(how, all_rows=whole)
    return Holdout(rows.iloc[at], replace(drawn_sample(whole, found, how), doses=doses))


def read_labelled(data: Folder, labels: StoredLabels, config: Config) -> Sample:
    """Return the annotated rows by themselves; where they were drawn, weights stand for how, and no proxy."""
    drawn = labels.drawn()
    if drawn is None:
        return make_sample(labels, read_rows(data, labels.row_ids(), config), config)
    rows, (found, doses) = read_rows(data, None, config), _labels_and_doses(labels, config)
    whole = _sample_of(rows, LabelArray(np.zeros((len(rows), 0))), config)
    sample = drawn_sample(whole, found, _how_drawn(drawn, rows, config))
    return replace(sample, doses=doses, drawn=None)


def _how_drawn(drawn: DrawnRows, rows: pd.DataFrame, config: Config) -> Drawn:
    """Return how rows, or documents, were drawn from all `rows`."""
    units = units_of(drawn.row_ids, config.data)
    of_units = starts_of(units) if config.data.rule else np.arange(len(units))
    at = np.searchsorted(rows.index, units[of_units])
    return Drawn(len(rows), drawn.probability[of_units], drawn.uniform[of_units], at)


def _has_proxies(config: Config) -> bool:
    """Whether proxies are made: of labels, not of how much of a property a document has, nor of pairs."""
    sample = config.annotate.sample
    return sample is not None and sample.predicts and config.data.rule in (None, "any")


def make_sample(labels: StoredLabels, rows: pd.DataFrame, config: Config) -> Sample:
    """Return annotated rows with their labels; of chunks, `rows` are their documents."""
    found, doses = _labels_and_doses(labels, config)
    return replace(_sample_of(rows, found, config), doses=doses)


def _labels_and_doses(labels: StoredLabels, config: Config) -> tuple[Labels, Labels | None]:
    """Labels of rows; and how much of a property each has, where that is no label."""
    rule = config.data.rule
    if rule is None:
        return labels, None
    doses = DocumentLabels(labels, rule, doses=True) if rule in ("mean", "max") else None
    return DocumentLabels(labels, rule), doses


def _sample_of(rows: pd.DataFrame, labels: Labels, config: Config) -> Sample:
    groups = codes_of(rows["group"]) if config.data.group is not None else None
    held_fixed = config.data.covariates and config.evaluate.covariates
    columns = [name for name in rows if str(name).startswith(COVARIATE)] if held_fixed else []
    return Sample(
        labels,
        rows["target"].to_numpy(np.float64),
        groups=groups,
        weights=rows["weight"].to_numpy(np.float64) if config.data.weight is not None else None,
        covariates=rows[columns].to_numpy(np.float64) if columns else None,
        covariate_names=tuple(str(name).removeprefix(COVARIATE) for name in columns),
        effects=groups[:, None] if config.evaluate.absorb_group and groups is not None else None,
    )


def read_rows(data: Folder, row_ids: Ints | None, config: Config) -> pd.DataFrame:
    """Return all columns but the text of some rows, in their order, or of all, indexed by row_id.

    Of chunks, those of their documents, indexed by the row of these; of texts of pairs, those of the pairs.
    text_id is a hash of 8 bytes: a million of the stored ones, as texts, take 90 MB.
    """
    used = {"group": config.data.group, "weight": config.data.weight}
    columns = ["row_id", "text_id", "target", *(name for name, column in used.items() if column is not None)]
    columns += covariate_columns(data, "holdout")
    frames = [_with_short_ids(table).to_pandas() for table in data.tables("holdout-", columns)]
    rows = pd.concat(frames, ignore_index=True).set_index("row_id")
    if row_ids is not None and not np.array_equal(rows.index, row_ids):
        rows = rows.loc[row_ids]  # which copies them
    return rows if (rule := config.data.rule) is None else _to_documents(rows, rule)


def _to_documents(texts: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    documents = documents_of(texts.index.to_numpy())
    starts, ids = starts_of(documents), texts["text_id"].to_numpy()
    # The sum is the same for documents of the same chunks.
    ids = linked_pairs(ids) if rule == "difference" else np.add.reduceat(ids, starts)
    return texts.iloc[starts].assign(text_id=ids).set_index(documents[starts]).rename_axis("row_id")


def linked_pairs(ids: np.ndarray) -> Ints:
    """Return a code (n,) for each pair of texts, of ids (2n,): the same where texts in common link pairs."""
    codes, distinct = pd.factorize(ids)
    first, second = codes[::2], codes[1::2]
    links = sp.coo_matrix((np.ones(len(first)), (first, second)), shape=(len(distinct), len(distinct)))
    return connected_components(links, directed=False)[1][first].astype(np.int64)


def _with_short_ids(table: pa.Table) -> pa.Table:
    ids = table["text_id"].to_numpy()
    short = pa.array(pd.util.hash_array(ids, categorize=False))
    table = table.set_column(table.column_names.index("text_id"), "text_id", short)
    return table.replace_schema_metadata()  # by which pandas would make texts of the hashes again


def units_of(row_ids: Ints, data: Data) -> Ints:
    """Return what rows (n,) are tested as: themselves, their documents or pairs."""
    return row_ids if data.rule is None else documents_of(row_ids)


def _proxies(work: Workspace, rows: pd.DataFrame, at: Ints, labels: Floats, given: _Given) -> Floats:
    """Return proxies (N, H) float16 of all rows, from the labels (n, H) of those at some positions (n,)."""
    sample = work.config.annotate.sample
    assert sample is not None
    together = rows["group"] if work.config.data.group is not None else rows["text_id"]
    folds = folds_of(pd.util.hash_array(together.to_numpy(), categorize=False))
    fired = _activations(work, given.neurons) if "activations" in sample.proxies else None
    said = _p_yes(given.labels, work.config) if sample.llm is not None else None
    with_vectors = "embeddings" in sample.proxies

    def clues(which: Ints, vectors: Vectors | None) -> Clues:
        return Clues(
            None if vectors is None else vectors.astype(np.float64),
            None if fired is None else fired[which].toarray(),
            None if said is None else said[which],
        )

    ids = rows.index.to_numpy()
    models = learn(clues(at, _gather(work, ids, at) if with_vectors else None), labels, folds[at])
    proxies = np.zeros((len(rows), labels.shape[1]), dtype=np.float16)  # any function of a row will do
    for some, vectors in _vectors(work) if with_vectors else _ids_alone(ids):
        mine = np.searchsorted(ids, some)
        proxies[mine] = predict(models, clues(mine, vectors), folds[mine])
    return proxies


def _p_yes(folder: Folder, config: Config) -> Floats:
    """Return the P(yes) of a small LLM, (N, H), that of its mean where it has none."""
    stored = StoredLabels(folder, UNPLACED)
    if config.data.rule == "any" and not config.data.labels_documents:
        parts = list(DocumentLabels(stored, "max", doses=True).blocks())
    else:
        parts = [p_yes for _, p_yes in stored.tables()]
    return fill(np.concatenate(parts).astype(np.float64))


def _ids_alone(ids: Ints) -> Iterator[tuple[Ints, None]]:
    for start in range(0, len(ids), BLOCK_ROWS):
        yield ids[start : start + BLOCK_ROWS], None


def _activations(work: Workspace, neurons: Ints) -> sp.csr_matrix:
    """Return how strongly neurons (H,) fire for each row, or document, of the holdout, (N, H)."""
    split, rule = work.config.data.embedded_holdout, work.config.data.rule
    n_neurons = work.facts("train_sae")["n_neurons"]
    row_ids, fired = read_activations(work.inputs["embed_holdout"], split, n_neurons, neurons)
    return fired if rule is None else combine_activations(fired, starts_of(documents_of(row_ids)), rule)


def read_vectors(embedded: Folder, data: Data, rows: Ints) -> Vectors:
    """Return embeddings (n, d) of rows of the holdout, as `read_rows` has them, reading table by table.

    That of a document is the mean of its chunks', that of a pair the difference of its texts'.

    Args:
        embedded: the folder of stage `embed_holdout`.
        data: section data of the run.
        rows: (n,) ids; NaN stands for a row without an embedding.
    """
    position, pairs = pd.Index(rows), data.rule == "difference"
    total, counts = None, np.zeros(len(rows), dtype=np.int64)
    for table in embedded.tables(f"{data.embedded_holdout}-", ["row_id", "embedding"]):
        ids = table["row_id"].to_numpy()
        at = position.get_indexer(pd.Index(ids if data.rule is None else documents_of(ids)))
        mine = np.flatnonzero(at >= 0)
        signs = np.where(ids[mine] % CHUNKS, -1, 1) if pairs else np.ones(len(mine))
        gather = sp.csr_matrix((signs.astype(np.float32), (at[mine], mine)), shape=(len(rows), len(ids)))
        found = gather @ to_vectors(table)
        total = found if total is None else total + found
        counts += np.bincount(at[mine], minlength=len(rows))
    assert total is not None  # a finished stage has tables
    if pairs:
        return total
    return np.asarray(total / np.where(counts, counts, np.nan)[:, None], dtype=np.float32)


def _gather(work: Workspace, ids: Ints, at: Ints) -> Vectors:
    """Return the vectors (n, d) of the rows at some positions (n,), ascending."""
    wanted = ids[at]
    parts = [vectors[np.isin(there, wanted)] for there, vectors in _vectors(work)]
    return np.concatenate(parts)


def _vectors(work: Workspace) -> Iterator[tuple[Ints, Vectors]]:
    """Yield the ids (m,) of rows, or documents, of the holdout, with their vectors (m, d), table by table."""
    split, rule = work.config.data.embedded_holdout, work.config.data.rule
    held_ids, held = np.zeros(0, np.int64), None
    for table in work.inputs["embed_holdout"].tables(f"{split}-"):
        ids, vectors = table["row_id"].to_numpy(), to_vectors(table)
        if rule is None:
            yield ids, vectors
            continue
        if held is not None:  # a document may go on in the next table
            ids, vectors = np.append(held_ids, ids), np.concatenate([held, vectors])
        last = int(starts_of(documents_of(ids))[-1])
        if last:
            yield _combined(ids[:last], vectors[:last], rule)
        held_ids, held = ids[last:], vectors[last:]
    if held is not None and rule is not None:
        yield _combined(held_ids, held, rule)


def _combined(ids: Ints, vectors: Vectors, rule: Rule) -> tuple[Ints, Vectors]:
    documents = documents_of(ids)
    starts = starts_of(documents)
    return documents[starts], combine_vectors(vectors, starts, rule)
