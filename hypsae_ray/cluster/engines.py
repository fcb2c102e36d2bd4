"""What a stage computes with, and all it knows about it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from hypsae_ray.config import Embed, Llm, TrainSae
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.protocols import Embedder, LanguageModel, Options

if TYPE_CHECKING:
    from hypsae_ray.sae.model import SparseAutoencoder
    from hypsae_ray.sae.training import LoadRows, OnEpoch, Trained
    from hypsae_ray.store.artifacts import Folder


class Engines(Protocol):
    """What a run computes with: pools of models, and SAE training (`cluster.session.Session`)."""

    def check(self, sections: Sequence[Options]) -> None:
        """Make sure, before anything is computed, that there is or can be what these sections ask for.

        Raises:
            ConfigError: names all that is missing.
        """
        ...

    def embedder(self, options: Embed) -> Pool[Embedder]:
        """Return the pool of an embedding model."""
        ...

    def language_model(self, options: Llm) -> Pool[LanguageModel]:
        """Return the pool of a language model."""
        ...

    def train_sae(
        self, load: "LoadRows", options: TrainSae, on_epoch: "OnEpoch", snapshots: "Folder | None" = None
    ) -> "Trained":
        """Train an SAE in this process (`options.replicas.max` 0) or with Ray Train.

        Ray Train keeps snapshots to go on from in `snapshots`, which every node must be able to write; None:
        in a folder of this machine, which is enough for one node.
        """
        ...

    def train_apart(
        self, load: "LoadRows", options: "Sequence[TrainSae]"
    ) -> "Iterator[tuple[tuple[int, int], SparseAutoencoder]]":
        """Yield seed and k of each of several trainings, and its SAE, as they end.

        Each is trained by one process: this one, or a replica, `replicas.max` of them side by side.
        """
        ...

    def publish(self, job: Mapping[str, str], counts: Mapping[str, Mapping[str, float]]) -> None:
        """Show what a labelling job has done since the last call, to whoever watches the machines.

        Args:
            job: "run" and "labeller", names of its folders.
            counts: numbers to add: "shards" by outcome, "answers" by status, "tokens", "errors" and "seconds"
                by kind.
        """
        ...
