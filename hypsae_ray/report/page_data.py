"""What the script of the report reads: the labelled holdout, hypotheses and neurons, as one block of text.

The block is base64 of gzip of: the length of a header (4 bytes, little-endian), the header (JSON, padded
with spaces to a multiple of 8), and columns of numbers one after another, each at a multiple of 8 bytes. The
header says where each column is. Numbers keep the type in which the statistics read them, so that what is
computed in the page equals what Python computes.
"""

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hypsae_ray.config import Config
from hypsae_ray.data.arrays import Ints, codes_of
from hypsae_ray.data.chunks import Rule, combine_activations, combine_labels, documents_of, starts_of
from hypsae_ray.errors import InputError
from hypsae_ray.labels.read import to_labels
from hypsae_ray.models.keywords import telling_terms
from hypsae_ray.report import policy
from hypsae_ray.report.neuron_tree import neuron_tree
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.report.text_map import mapped_rows, read_map
from hypsae_ray.stages.holdout import read_rows, units_of
from hypsae_ray.stages.train_sae import count_neurons
from hypsae_ray.store.artifacts import Folder, Manifest
from hypsae_ray.store.schema import COVARIATE
from hypsae_ray.store.stage_tables import read_activations, read_some

TERM_TEXTS = 2_000
"""Telling terms are sought in so many texts: 20,000 take 12 s on two cores and find the same words."""
_TYPES = {"f4": "f32", "f8": "f64", "i4": "i32"}


@dataclass(frozen=True)
class PageData:
    """A header that JSON can hold, and columns of numbers by name."""

    header: Mapping[str, Any]
    columns: Mapping[str, np.ndarray]

    def packed(self) -> str:
        """Return both as the text of the page's data block; the same data give the same text."""
        places: dict[str, dict[str, Any]] = {}
        parts, at = [], 0
        for name, values in self.columns.items():
            content = np.ascontiguousarray(values).tobytes()
            places[name] = {"type": _TYPES[values.dtype.str[1:]], "at": at, "length": len(values)}
            parts.append(content + b"\0" * (-len(content) % 8))
            at += len(parts[-1])
        header = json.dumps({**self.header, "columns": places}, ensure_ascii=False, allow_nan=False).encode()
        header += b" " * (-(len(header) + 4) % 8)
        whole = b"".join([len(header).to_bytes(4, "little"), header, *parts])
        return base64.b64encode(gzip.compress(whole, compresslevel=9, mtime=0)).decode()


@dataclass(frozen=True)
class _Units:
    """The labelled rows (n,) that the page holds: texts, documents or pairs.

    Attributes:
        ids: row ids, ascending, as `read_rows` returns them.
        labelled: (m,) ids of the rows that were labelled for them: chunks of documents, both texts of pairs.
        n_all: labelled rows in all.
        p_yes: (n, H) float32, NaN where there is no label; of pairs (2, n, H), that of either text.
        probability: (n,) of being labelled; None: the same for all.
    """

    ids: Ints
    labelled: Ints
    n_all: int
    p_yes: np.ndarray
    probability: np.ndarray | None


def page_data(run: RunFolder, chain: Chain, say: Callable[[str], None]) -> PageData:
    """Gather what the page shows of the texts of a finished run.

    Where more than `report.max_texts` are labelled, of so many, the same every time.
    """
    config, folders = run.config, run.folders()
    units, n_neurons = _units(chain, config), count_neurons(folders["train_sae"])
    rows = read_rows(folders["data"], units.labelled, config)
    fired = _activations(folders, units.ids, n_neurons, config)
    of_hypotheses = fired[:, chain.hypotheses["neuron_idx"].to_numpy()].toarray().astype(np.float32)
    shown = _shown(_texts(folders["data"], units.ids, config), config)
    terms = _terms(shown.get("texts"), of_hypotheses, config)
    prefixes, neurons = _neurons(folders, fired)
    header = {
        "version": 1,
        "target": config.data.target,
        "task": chain.metrics.get("task"),
        "classes": _classes(folders["data"]),
        "covariate_names": [str(name).removeprefix(COVARIATE) for name in rows if _is_covariate(name)],
        "n": len(units.ids),
        "n_all": units.n_all,
        "policy": config.report.texts,
        **shown,
        "hypotheses": _hypotheses(run.folder, chain, terms, config),
        "neurons": prefixes,
    }
    columns = _numbers(rows, units, config) | neurons | _places(run, units.ids, say)
    columns |= {f"activation:{j}": of_hypotheses[:, j] for j in range(of_hypotheses.shape[1])}
    return PageData(header, columns)


def _places(run: RunFolder, ids: Ints, say: Callable[[str], None]) -> dict[str, np.ndarray]:
    placed = read_map(run, ids, say).set_index("row_id").loc[ids]
    return {name: placed[name].to_numpy(np.float32) for name in ("x", "y")}


def _classes(data: Folder) -> list[str] | None:
    """Return the names of the classes of a target of names; None if it is of numbers."""
    classes = _facts(data).get("classes")
    return list(map(str, classes)) if classes else None


def _is_covariate(name: object) -> bool:
    return str(name).startswith(COVARIATE)


def _units(chain: Chain, config: Config) -> _Units:
    every = units_of(chain.labels.row_ids(), config.data)
    chosen = mapped_rows(every, config.report.max_texts)
    ids, p_yes = _read_p_yes(chain, chosen, config)
    drawn, probability = chain.labels.drawn(), None
    if drawn is not None and np.ptp(drawn.probability) > 0:
        probability = drawn.probability[np.searchsorted(drawn.row_ids, ids)]
    if config.data.rule is not None:
        starts = starts_of(documents_of(ids))
        probability = None if probability is None else probability[starts]
        p_yes = of_documents(p_yes, starts, chain.labels.threshold, config.data.rule)
    return _Units(chosen, ids, len(np.unique(every)), p_yes.astype(np.float32), probability)


def _read_p_yes(chain: Chain, units: Ints, config: Config) -> tuple[Ints, np.ndarray]:
    """Return the ids (m,), ascending, of the labelled rows of units, and their P(yes), (m, H)."""
    parts = []
    for ids, p_yes in chain.labels.tables():
        mine = np.isin(units_of(ids, config.data), units)
        parts.append((ids[mine], p_yes[mine]))
    ids, p_yes = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(ids, kind="stable")
    return ids[order], p_yes[order]


def of_documents(p_yes: np.ndarray, starts: Ints, threshold: float | np.ndarray, rule: Rule) -> np.ndarray:
    """Return what P(yes) of documents is taken for, (D, H), so that their labels are those that are tested.

    The highest of their chunks (n, H); under mean, where no single number says it, the label, 0 or 1. NaN
    where the document has no label. Of pairs (2, D, H): that of either text.

    >>> p_yes = np.array([[0.2], [0.9], [0.9], [0.4], [np.nan], [0.3]])
    >>> of_documents(p_yes, np.array([0, 3]), 0.5, "any").ravel().tolist()
    [0.9, nan]
    >>> of_documents(p_yes, np.array([0, 3]), 0.5, "mean").ravel().tolist()
    [1.0, 0.0]
    """
    if rule == "difference":
        return np.stack([p_yes[starts], p_yes[starts + 1]])
    labels, _ = combine_labels(to_labels(p_yes, threshold), p_yes, starts, rule)
    if rule == "mean":
        return labels
    return np.where(np.isnan(labels), np.nan, np.fmax.reduceat(p_yes, starts, axis=0))


def _activations(folders: Mapping[str, Folder], ids: Ints, n_neurons: int, config: Config) -> sp.csr_matrix:
    """Return activations (n, M) of the units; of a pair those of the first text less those of the second."""
    split, rule, embedded = config.data.embedded_holdout, config.data.rule, folders["embed_holdout"]
    if rule is None:
        return read_activations(embedded, split, n_neurons, wanted=ids)[1]
    every = np.sort(embedded.read_tables(f"activations-{split}-", ["row_id"])["row_id"].to_numpy())
    wanted = every[np.isin(documents_of(every), ids)]
    row_ids, fired = read_activations(embedded, split, n_neurons, wanted=wanted)
    return combine_activations(fired, starts_of(documents_of(row_ids)), rule)


def _texts(data: Folder, ids: Ints, config: Config) -> dict[str, pd.Series]:
    """Return id and texts of the units, indexed by 0 to n - 1; chunks of a document follow one another."""
    rule = config.data.rule
    if rule is None:
        read = read_some(data, "holdout", ["source_id", "text"], ids)
        known = {"id": read["source_id"], "texts": read["text"]}
    else:
        read = _read_documents(data, ids)
        by_document = read.groupby(documents_of(read.index.to_numpy()))
        known = {"id": by_document["source_id"].first()}
        if rule == "difference":
            known |= {"texts": by_document["text"].first(), "texts_b": by_document["text"].last()}
        else:
            known["texts"] = by_document["text"].agg(" … ".join)
    known["id"] = known["id"].where(known["id"].notna(), pd.Series(ids, index=known["id"].index).astype(str))
    return {name: values.reset_index(drop=True) for name, values in known.items()}


def _read_documents(data: Folder, documents: Ints) -> pd.DataFrame:
    parts = [
        part.filter(np.isin(documents_of(part["row_id"].to_numpy()), documents)).to_pandas()
        for part in data.tables("holdout-", ["row_id", "source_id", "text"])
    ]
    return pd.concat(parts).set_index("row_id").sort_index()


def _shown(texts: Mapping[str, pd.Series], config: Config) -> dict[str, list[str]]:
    """Return ids and texts as far as `report.texts` lets the page hold them."""
    allowed = config.report.texts
    if allowed == "none":
        return {}
    shown = {"ids": texts["id"].tolist()}
    if allowed == "ids":
        return shown
    for name in texts:
        if name != "id":
            shown[name] = policy.shown(texts[name], texts["id"], allowed) or []
    return shown


def _numbers(rows: pd.DataFrame, units: _Units, config: Config) -> dict[str, np.ndarray]:
    """Return target, weight, group, covariates and P(yes) of the units."""
    columns = {"target": rows["target"].to_numpy(np.float64)}
    if config.report.texts != "none":
        columns["row_id"] = units.ids.astype(np.float64)
    weight = rows["weight"].to_numpy(np.float64) if config.data.weight is not None else None
    if units.probability is not None:
        weight = (1.0 if weight is None else weight) / units.probability
    if weight is not None:
        columns["weight"] = weight
    if config.data.group is not None:
        columns["group"] = codes_of(rows["group"]).astype(np.int32)
    for i, name in enumerate(filter(_is_covariate, rows)):
        columns[f"covariate:{i}"] = rows[name].to_numpy(np.float64)
    pairs = config.data.rule == "difference"
    for j in range(units.p_yes.shape[-1]):
        columns[f"p_yes:{j}"] = units.p_yes[0][:, j] if pairs else units.p_yes[:, j]
        if pairs:
            columns[f"p_yes_b:{j}"] = units.p_yes[1][:, j]
    return columns


def _terms(texts: Sequence[str] | None, fired: np.ndarray, config: Config) -> list[list[str]]:
    """Return terms that tell the texts that each neuron fires on; none where the page may hold no text."""
    if texts is None or config.data.rule == "difference":
        return [[] for _ in fired.T]
    return telling_terms(texts[:TERM_TEXTS], fired[:TERM_TEXTS] > 0)


def _hypotheses(
    out: Folder, chain: Chain, terms: Sequence[list[str]], config: Config
) -> list[dict[str, Any]]:
    """Return each hypothesis: its sentence, neuron, threshold, terms, and its rows of the evaluation."""
    results = chain.evaluation.drop(columns=["hypothesis", "neuron_idx"], errors="ignore")
    by_id = {number: _records(part) for number, part in results.groupby("hypothesis_id")}
    return [
        {
            "id": int(row["hypothesis_id"]),
            "sentence": row["interpretation"] if isinstance(row["interpretation"], str) else "",
            "neuron": int(row["neuron_idx"]),
            "threshold": float(row["threshold"]),
            "terms": terms[j],
            "results": by_id.get(row["hypothesis_id"], []),
            "reasons": _reasons(out, int(row["hypothesis_id"])) if config.report.texts == "all" else [],
        }
        for j, row in enumerate(chain.hypotheses.to_dict("records"))
    ]


def _reasons(out: Folder, hypothesis: int) -> list[dict[str, Any]]:
    """Return what `hypsae explain` wrote of a hypothesis, if it did."""
    name = f"explanations-{hypothesis}.csv"
    if not out.has(name):
        return []
    try:
        with out.open(name) as file:
            table = pd.read_csv(file)
    except (InputError, ValueError):
        return []
    return _records(table.loc[table["status"] == "ok", ["row_id", "reason", "quote"]])


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON takes them: null for what is missing or not finite."""
    return json.loads(table.to_json(orient="records", double_precision=15))


def _neurons(
    folders: Mapping[str, Folder], fired: sp.csr_matrix
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return prefix lengths, and of each neuron state, correlation, rank; and the columns of their tree."""
    table = folders["select"].read_table("selection.parquet").to_pandas()
    table = table.drop_duplicates("neuron_idx").set_index("neuron_idx").reindex(range(fired.shape[1]))
    prefix_lengths = list(_facts(folders["train_sae"])["prefix_lengths"])
    header = {
        "prefix_lengths": prefix_lengths,
        "state": table["state"].where(table["state"].notna(), "").tolist(),
        "correlation": [float(one) if np.isfinite(one) else None for one in table["target_correlation"]],
        "rank": [None if pd.isna(one) else int(one) for one in table["rank"]],
    }
    tree = neuron_tree(fired, prefix_lengths)
    return header, {
        "neuron_level": tree.level.astype(np.int32),
        "neuron_parent": tree.parent.astype(np.int32),
        "neuron_overlap": tree.overlap.astype(np.float32),
        "neuron_share": tree.share.astype(np.float32),
    }


def _facts(stage: Folder) -> Mapping[str, Any]:
    manifest = Manifest.load(stage)
    assert manifest is not None  # run.json names finished stages only
    return manifest.outcome.facts
