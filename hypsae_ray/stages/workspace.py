"""What a stage is given: the config, the folders of the stages before it, its own folder, and engines."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.config import Config
from hypsae_ray.data.chunks import (
    by_document,
    documents_of,
    first_of_documents,
    rows_of_documents,
    starts_of,
)
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.store.artifacts import Folder, Manifest
from hypsae_ray.store.stage_tables import read_activations, read_column, read_texts

Track = Callable[[Iterable[Any], int, str], Iterator[Any]]


@dataclass(frozen=True)
class Workspace:
    """All that a stage may use."""

    config: Config  # the whole one; a stage reads its own sections
    inputs: Mapping[str, Folder]  # of the stages before it, by name
    out: Folder  # where its tables go
    answers: Folder  # of language models: kept for all stages and configs of a run folder
    engines: Engines
    track: Track  # shows how far an iterable of a known length is: track(iterable, total, unit)
    say: Callable[[str], None]  # prints one line to the user

    def facts(self, stage: str) -> Mapping[str, Any]:
        """Return the facts of a stage before this one."""
        manifest = Manifest.load(self.inputs[stage])
        assert manifest is not None, f"{stage} is an input, so it is finished"
        return manifest.outcome.facts

    def write(self, name: str, frame: pd.DataFrame, schema: pa.Schema | None = None) -> None:
        """Write a table of pandas as one Parquet file; its index is not written."""
        self.out.write_table(name, pa.Table.from_pandas(frame, schema=schema, preserve_index=False))


def read_corpus(work: Workspace) -> Corpus:
    """Read the training texts' ids and activations of a run."""
    n_neurons = work.facts("train_sae")["n_neurons"]
    row_ids, fired = read_activations(work.inputs["train_sae"], "train", n_neurons)
    text_ids = read_column(work.inputs["data"], "train", "text_id")
    return Corpus.of(row_ids, text_ids.loc[row_ids], fired)


def read_documents(work: Workspace) -> Corpus:
    """Read the ids of the first texts of training documents, and the activations of the documents."""
    n_neurons = work.facts("train_sae")["n_neurons"]
    row_ids, fired = read_activations(work.inputs["train_sae"], "train", n_neurons)
    text_ids = read_column(work.inputs["data"], "train", "text_id").loc[row_ids]
    hashes = pd.util.hash_array(text_ids.to_numpy(), categorize=False)
    documents, fired = by_document(row_ids, fired, "any")
    # The sum is the same for documents of the same chunks.
    return Corpus.of(documents, np.add.reduceat(hashes, starts_of(documents_of(row_ids))), fired)


def read_documents_by_id(work: Workspace, row_ids: Iterable[int]) -> dict[int, str]:
    """Return whole training documents, put together from their chunks, by the row id of their first."""
    data, wanted = work.inputs["data"], np.array(sorted(row_ids), dtype=np.int64)
    of_rows = read_column(data, "train", "text_id").index.to_numpy(np.int64)
    chunks = read_texts(data, "train", of_rows[rows_of_documents(of_rows, wanted)])
    texts = chunks.groupby(first_of_documents(chunks.index.to_numpy())).agg(" ".join)
    return dict(zip(texts.index.tolist(), texts, strict=True))


def read_texts_by_id(work: Workspace, row_ids: Iterable[int]) -> dict[int, str]:
    """Return the training texts of some rows."""
    texts = read_texts(work.inputs["data"], "train", row_ids)
    return dict(zip(texts.index.tolist(), texts, strict=True))
