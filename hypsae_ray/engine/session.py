"""What a run holds while it works: Ray, started when first needed, and the pool of the model in use."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypsae_ray.artifacts import Folder
from hypsae_ray.boundary import Embedder, LanguageModel, LoadShards, LocalPool, OnEpoch, Pool
from hypsae_ray.config import Embed, Label, Llm, Replicas, TrainSae
from hypsae_ray.core.keywords import Keywords
from hypsae_ray.core.sharing import Lengths
from hypsae_ray.core.training import Trained, train
from hypsae_ray.errors import ConfigError, StageError


@dataclass(frozen=True)
class EmbedderFactory:
    """Makes the embedder of a config section; picklable, so that an actor can make it."""

    options: Embed

    def __call__(self) -> Embedder:
        """Load the model."""
        from hypsae_ray.engine.embedder import SentenceEmbedder

        return SentenceEmbedder(self.options)


@dataclass(frozen=True)
class LanguageModelFactory:
    """Makes the language model of a config section; picklable, so that an actor can make it."""

    options: Llm

    def __call__(self) -> LanguageModel:
        """Load the model."""
        if self.options.engine == "keywords":
            return Keywords()
        if self.options.engine == "endpoint":
            from hypsae_ray.engine.endpoint_model import EndpointModel

            return EndpointModel(self.options)
        from hypsae_ray.engine.vllm_model import VllmModel

        return VllmModel(self.options)


RAY_START_ATTEMPTS = 3


class Session:
    """The pools of one run; use it as a context manager.

    At most one pool in Ray is open at a time, so that a stage finds the CPUs and GPUs of the stage before
    it free. Stages that ask for the same model in turn get the same pool, with the model still loaded.
    """

    def __init__(self) -> None:
        self._factory: Callable[[], Any] | None = None
        self._pool: Any = None
        self._local: dict[str, LocalPool[Any]] = {}
        self._started_ray = False

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def embedder(self, options: Embed) -> Pool[Embedder]:
        """Return the pool of an embedding model."""
        return self._get(EmbedderFactory(options), options.replicas)

    def language_model(self, options: Llm) -> Pool[LanguageModel]:
        """Return the pool of a language model."""
        return self._get(LanguageModelFactory(options), options.replicas, options)

    def lengths(self, options: Llm, label: Label, texts: Sequence[str], questions: Sequence[str]) -> Lengths:
        """Return how many tokens the parts of label prompts have."""
        from hypsae_ray.engine.label_prompts import measure

        return measure(options, label, texts, questions)

    def train_sae(
        self, load: LoadShards, options: TrainSae, on_epoch: OnEpoch, snapshots: Folder | None = None
    ) -> Trained:
        """Train an SAE in this process (`options.workers` 0) or with Ray Train, snapshots in a folder."""
        if options.workers == 0:
            return train(*load(0, 1), options, on_epoch=lambda progress: on_epoch(progress.epoch))
        from hypsae_ray.engine.trainer import Storage, train_distributed

        self.release()
        self.start_ray()
        _require_room(
            "train_sae", options.workers * options.cpus_per_worker, options.workers * options.gpus_per_worker
        )
        storage = Storage(snapshots.path, snapshots.filesystem) if snapshots else None
        return train_distributed(load, options, on_epoch, storage)

    def _get(self, factory: Callable[[], Any], replicas: Replicas, llm: Llm | None = None) -> Pool[Any]:
        if replicas.max == 0:
            name = repr(factory)
            if name not in self._local:
                self._local[name] = LocalPool(factory())
            return self._local[name]
        if factory != self._factory:
            from hypsae_ray.engine.placement import placement_of, require_room
            from hypsae_ray.engine.pool import RayPool

            self.release()
            self.start_ray()
            placement = placement_of(llm) if llm is not None else None
            if llm is not None and placement is not None:
                require_room(llm)
            _require_room("replicas", replicas.cpus, 0 if placement else replicas.gpus)
            self._pool, self._factory = RayPool(factory, replicas, placement), factory
        return self._pool

    def release(self) -> None:
        """Close the pool in Ray, if one is open, and free what its actors reserve."""
        if self._pool is not None:
            self._pool.close()
            self._pool = self._factory = None

    def start_ray(self) -> None:
        """Connect to the cluster that RAY_ADDRESS or this machine names, or start Ray here."""
        import ray

        if ray.is_initialized():
            return
        for attempt in range(1, RAY_START_ATTEMPTS + 1):
            try:
                ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
                break
            except Exception as error:  # Ray allows 30 s, which a busy machine may exceed
                ray.shutdown()
                if "timed out during startup" not in str(error) or attempt == RAY_START_ATTEMPTS:
                    raise StageError(f"Ray does not start: {error}") from error
        self._started_ray = True

    def close(self) -> None:
        """Free everything; Ray is shut down if this session started or joined it."""
        try:
            self.release()
        finally:
            if self._started_ray:
                import ray

                with suppress(KeyboardInterrupt):
                    ray.shutdown()
                self._started_ray = False


def _require_room(what: str, cpus: float, gpus: float) -> None:
    """Refuse what the Ray of this machine can never give: Ray would wait for it for ever, and say nothing.

    A cluster that was there before may grow, so nothing is refused there.

    Raises:
        ConfigError: there are fewer CPUs or GPUs.
    """
    import ray

    node: Any = ray._private.worker._global_node  # type: ignore  # nothing public tells who started Ray
    if node is None or not node.is_head():
        return
    present = ray.cluster_resources()
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        has = present.get(name, 0)
        if wanted > has:
            raise ConfigError(f"{what}: the config reserves {wanted:g} {name}, but this machine has {has:g}")
