"""Stage `train_sae`: a sparse autoencoder of the embeddings, and which neurons fire on which text.

With several k there is an autoencoder for each, and neurons are numbered through all of them.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from hypsae_ray.config import TrainSae
from hypsae_ray.data.chunks import documents_of
from hypsae_ray.neurons.stability import stability
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Folder, Manifest, Outcome

# torch is loaded where a function needs it, so that a run with nothing to do starts quickly
if TYPE_CHECKING:
    from hypsae_ray.sae.model import SparseAutoencoder
    from hypsae_ray.sae.training import LoadRows, Trained, WorkerRows

WEIGHTS, SHAPE, STABILITY = "sae.safetensors", "sae.json", "stability.parquet"
HISTORY = "history.json"


def run(work: Workspace) -> Outcome:
    """Write weights, training history and sparse activations; of several seeds also stability.

    Facts: dim, sizes, epochs, losses, dead neurons; of several seeds how many, and the median stability. With
    several k, the neurons are those of all SAEs, epochs the most, and k, best epoch and loss are lists.
    """
    embeddings = work.inputs["embed"]
    options = _sized(work)
    each, load = options.each, partial(_load_rows, embeddings)
    epochs = work.track(itertools.count(), len(each) * options.max_epochs, "epoch")
    trained = [
        _train(work, one, load, epochs, folder)
        for one, folder in zip(each, _folders(work.out, options.k), strict=True)
    ]
    saes = [one.sae for one in trained]
    names = embeddings.names(suffix=".parquet")
    total = sum(write_activations(saes, embeddings, name, work.out) for name in names)
    known = _write_stability(work, saes, options, load) if options.seeds > 1 else {}
    n_neurons, _, prefix_lengths = each[0].shape
    facts = {
        "dim": saes[0].dim,
        "n_neurons": n_neurons * len(each),
        "k": options.k,
        "prefix_lengths": prefix_lengths,
        "epochs": max(len(one.history) for one in trained),
        "best_epoch": _by_sae([one.best.epoch for one in trained]),
        "val_loss": _by_sae([one.best.val_loss for one in trained]),
        "dead_neurons": sum(one.history[-1].dead for one in trained),
        **known,
    }
    return Outcome(total, facts=facts)


def _train(
    work: Workspace, options: TrainSae, load: "LoadRows", epochs: Iterator[int], folder: Folder
) -> "Trained":
    """Train one SAE and write it; one that is there is read."""
    from hypsae_ray.sae.training import Epoch, Trained

    if folder.has(HISTORY):  # written last
        return Trained(load_sae(folder), tuple(Epoch(**epoch) for epoch in folder.read_json(HISTORY)))
    snapshots = folder.sub("snapshots")
    trained = work.engines.train_sae(load, options, lambda _: _tick(epochs), snapshots)
    snapshots.delete()
    save(trained.sae, folder)
    folder.write_json(HISTORY, [dataclasses.asdict(epoch) for epoch in trained.history])
    return trained


def _tick(epochs: Iterator[int]) -> None:
    next(epochs)


def _folders(out: Folder, k: int | Sequence[int] | None) -> list[Folder]:
    """Return where SAEs are: the folder of the stage, or of several k one for each in it."""
    return [out.sub(f"k{one}") for one in k] if isinstance(k, Sequence) else [out]


def _by_sae(values: list[Any]) -> Any:
    return values if len(values) > 1 else values[0]


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
    work: Workspace, saes: Sequence["SparseAutoencoder"], options: TrainSae, load: "LoadRows"
) -> dict[str, float]:
    """Train with the other seeds, and write how well each neuron is found again there; return facts."""
    embeddings, seeds = work.inputs["embed"], options.others
    apart = [one for of_seed in seeds for one in of_seed.each]
    trained = dict(work.track(work.engines.train_apart(load, apart), len(apart), "SAE"))
    others = [
        _fired([trained[one.seed, one.shape.k] for one in of_seed.each], embeddings) for of_seed in seeds
    ]
    values = stability(_fired(saes, embeddings), others)
    table = pa.table({"neuron_idx": np.arange(len(values)), schema.STABILITY.name: values})
    work.out.write_table(STABILITY, table)
    median = float(np.nanmedian(values))
    work.say(f"train_sae: {options.seeds} seeds; half of the neurons have a stability above {median:.2f}")
    return {"seeds": options.seeds, "median_stability": median}


def _fired(saes: Sequence["SparseAutoencoder"], embeddings: Folder) -> sp.csr_matrix:
    """Return the activations on all training texts, (n, M), in the order in which they are stored."""
    tables = embeddings.tables("train-")
    return sp.vstack([_activations(saes, to_vectors(table)) for table in tables], format="csr")


def _activations(saes: Sequence["SparseAutoencoder"], vectors: np.ndarray) -> sp.csr_matrix:
    """Return the activations of the neurons of one SAE after another, (n, M)."""
    from hypsae_ray.sae.model import activations

    return sp.csr_matrix(sp.hstack([activations(sae, vectors) for sae in saes], format="csr"))


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


def count_neurons(stage: Folder) -> int:
    """Return the number of neurons of a finished stage."""
    manifest = Manifest.load(stage)
    assert manifest is not None, "the stage is finished"
    return int(manifest.outcome.facts["n_neurons"])


def load_all(stage: Folder, k: int | Sequence[int]) -> list["SparseAutoencoder"]:
    """Read the SAEs of a stage, of which its facts say k."""
    return [load_sae(folder) for folder in _folders(stage, k)]


def load_sae(folder: Folder) -> "SparseAutoencoder":
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


def write_activations(saes: Sequence["SparseAutoencoder"], embeddings: Folder, name: str, out: Folder) -> int:
    """Write the activations of one file of embeddings as `activations-<name>`; return its rows."""
    table = embeddings.read_table(name)
    fired = _activations(saes, to_vectors(table))
    out.write_table(f"activations-{name}", to_table(table["row_id"].to_numpy(), fired))
    return len(table)
