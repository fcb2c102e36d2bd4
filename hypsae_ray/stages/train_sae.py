"""Stage `train_sae`: a sparse autoencoder of the embeddings, and which neurons fire on which text."""

import dataclasses
import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from hypsae_ray.config import TrainSae
from hypsae_ray.data.chunks import documents_of
from hypsae_ray.neurons.stability import stability
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder, Outcome

# torch is loaded where a function needs it, so that a run with nothing to do starts quickly
if TYPE_CHECKING:
    from hypsae_ray.sae.model import SparseAutoencoder
    from hypsae_ray.sae.training import LoadRows, WorkerRows

WEIGHTS, SHAPE, STABILITY = "sae.safetensors", "sae.json", "stability.parquet"


def run(work: Workspace) -> Outcome:
    """Write weights, training history and sparse activations; of several SAEs also stability.

    Facts: dim, sizes, epochs, losses, dead neurons; of several SAEs how many, and the median stability.
    """
    embeddings = work.inputs["embed"]
    options = _sized(work)
    snapshots = work.out.sub("snapshots")
    epochs = work.track(itertools.count(), work.config.train_sae.max_epochs, "epoch")
    load = partial(_load_rows, embeddings)
    trained = work.engines.train_sae(load, options, lambda _: next(epochs), snapshots)
    snapshots.delete()
    save(trained.sae, work.out)
    work.out.write_json("history.json", [dataclasses.asdict(epoch) for epoch in trained.history])
    names = embeddings.names(suffix=".parquet")
    total = sum(write_activations(trained.sae, embeddings, name, work.out) for name in names)
    known = _write_stability(work, trained.sae, options, load) if options.seeds > 1 else {}
    best = trained.best
    facts = {
        "dim": trained.sae.dim,
        **options.shape._asdict(),
        "epochs": len(trained.history),
        "best_epoch": best.epoch,
        "val_loss": best.val_loss,
        "dead_neurons": trained.history[-1].dead,
        **known,
    }
    return Outcome(total, facts=facts)


def _sized(work: Workspace) -> TrainSae:
    """Return the options with sizes by the number of texts; of sentences by that of their documents."""
    chunk, embeddings = work.config.data.chunk, work.inputs["embed"]
    of_sentences = chunk is not None and chunk.sentences is not None
    if not of_sentences:
        n_texts = sum(embeddings.count_rows(name) for name in embeddings.names("train-", ".parquet"))
    else:
        row_ids = [table["row_id"].to_numpy() for table in embeddings.tables("train-", ["row_id"])]
        n_texts = len(np.unique(documents_of(np.concatenate(row_ids))))
    return work.config.train_sae.sized(n_texts, of_sentences)


def _write_stability(
    work: Workspace, sae: "SparseAutoencoder", options: TrainSae, load: "LoadRows"
) -> dict[str, float]:
    """Train the other SAEs, and write how well each neuron of `sae` is found again in them; return facts."""
    embeddings, others = work.inputs["embed"], options.others
    trained = work.track(work.engines.train_apart(load, others), len(others), "SAE")
    found = {seed: _fired(other, embeddings) for seed, other in trained}
    values = stability(
        _fired(sae, embeddings), [found[seed] for seed in sorted(found)]
    )  # they end in any order
    table = pa.table({"neuron_idx": np.arange(len(values)), schema.STABILITY.name: values})
    work.out.write_table(STABILITY, table)
    median = float(np.nanmedian(values))
    work.say(f"train_sae: {options.seeds} SAEs; half of the neurons have a stability above {median:.2f}")
    return {"seeds": options.seeds, "median_stability": median}


def _fired(sae: "SparseAutoencoder", embeddings: Folder) -> sp.csr_matrix:
    """Return the activations on all training texts, (n, M), in the order in which they are stored."""
    from hypsae_ray.sae import model as saes

    tables = embeddings.tables("train-")
    return sp.vstack([saes.activations(sae, to_vectors(table)) for table in tables], format="csr")


def _load_rows(embeddings: Folder, rank: int, world: int) -> "tuple[WorkerRows, WorkerRows]":
    """Return worker `rank`'s training rows and validation rows: each `world`-th row of all files."""
    return _load_split(embeddings, "train-", rank, world), _load_split(embeddings, "val-", rank, world)


def _load_split(embeddings: Folder, prefix: str, rank: int, world: int) -> "WorkerRows":
    from hypsae_ray.sae.training import WorkerRows

    own, total = [], 0
    for table in embeddings.tables(prefix):
        own.append(to_vectors(table)[(rank - total) % world :: world].copy())  # a view keeps all rows
        total += len(table)
    return WorkerRows(np.concatenate(own) if own else np.zeros((0, 1), np.float32), total)


def save(sae: "SparseAutoencoder", folder: Folder) -> None:
    """Write an SAE as safetensors and JSON."""
    from hypsae_ray.sae import model as saes

    weights, shape = saes.to_bytes(sae)
    folder.write_json(SHAPE, shape)
    folder.write_bytes(WEIGHTS, weights)


def load(folder: Folder) -> "SparseAutoencoder":
    """Read what `save` wrote.

    Raises:
        ModelError: the files do not hold an SAE.
    """
    from hypsae_ray.sae import model as saes

    return saes.from_bytes(folder.read_bytes(WEIGHTS), folder.read_json(SHAPE))


def to_table(row_ids: np.ndarray, fired: sp.csr_matrix) -> pa.Table:
    """Return the activations table of row ids (n,) and sparse activations (n, M)."""
    offsets = pa.array(fired.indptr, pa.int32())
    columns = [
        pa.array(row_ids, pa.int64()),
        pa.ListArray.from_arrays(offsets, pa.array(fired.indices, pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(fired.data, pa.float32())),
    ]
    return pa.table(columns, schema=schema.ACTIVATIONS)


def write_activations(sae: "SparseAutoencoder", embeddings: Folder, name: str, out: Folder) -> int:
    """Write the activations of one file of embeddings as `activations-<name>`; return its rows."""
    from hypsae_ray.sae import model as saes

    table = embeddings.read_table(name)
    fired = saes.activations(sae, to_vectors(table))
    out.write_table(f"activations-{name}", to_table(table["row_id"].to_numpy(), fired))
    return len(table)
