"""What a run holds while it works: Ray, started when first needed, and the pool of the model in use."""

import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch

from hypsae_ray.config import Embed, Llm, TrainSae
from hypsae_ray.errors import StageError
from hypsae_ray.models.identity import pin
from hypsae_ray.models.load import load_embedder, load_language_model
from hypsae_ray.models.pool import LocalPool, Pool
from hypsae_ray.models.protocols import Embedder, LanguageModel, Options
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.model import SparseAutoencoder
from hypsae_ray.sae.training import LoadRows, OnEpoch, Trained, train
from hypsae_ray.store.artifacts import Folder

if TYPE_CHECKING:
    from hypsae_ray.cluster.metrics import Metrics


Say = Callable[[str], None]
RAY_START_ATTEMPTS = 3


class Session:
    """The pools of one run; use it as a context manager.

    At most one pool is open at a time, so that a model finds the CPUs and GPUs of the one before it free.
    Stages that ask for the same model in turn get the same pool, with the model still loaded.

    All nodes must reach `folder`, that of the run; None: there is none, as in a notebook. `say` is given what
    models remark when they are loaded, a line each.
    """

    def __init__(self, folder: Folder | None = None, say: Say = lambda _: None) -> None:
        self._folder, self._say = folder, say
        self._checked: list[Options] = []
        self._commits: dict[str, str] = {}
        self._loaded: tuple[Any, Embed | Llm] | None = None
        self._pool: Any = None
        self._started_ray = False
        self._only_here = False

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, sections: Sequence[Options]) -> None:
        """Refuse, before anything is computed, what the cluster cannot do; Ray is started if need be."""
        asked = [options for options in sections if _needs_ray(options) and options not in self._checked]
        if not asked:
            return
        from hypsae_ray.cluster import preflight

        self.start_ray()
        preflight.check(asked, self._folder, self._only_here)
        self._checked += asked

    def embedder(self, options: Embed) -> Pool[Embedder]:
        """Return the pool of an embedding model."""
        return self._get(load_embedder, options)

    def language_model(self, options: Llm) -> Pool[LanguageModel]:
        """Return the pool of a language model."""
        return self._get(load_language_model, options)

    def train_sae(
        self, load: LoadRows, options: TrainSae, on_epoch: OnEpoch, snapshots: Folder | None = None
    ) -> Trained:
        """Train an SAE in this process (`replicas.max` 0) or with Ray Train, snapshots in a folder."""
        self.release()
        if options.replicas.max == 0:
            return train(*load(0, 1), options, on_epoch=lambda progress: on_epoch(progress.epoch))
        from hypsae_ray.cluster.trainer import train_distributed

        self.check([options])
        return train_distributed(load, options, on_epoch, snapshots, self._say)

    def train_apart(
        self, load: LoadRows, options: Sequence[TrainSae]
    ) -> Iterator[tuple[tuple[int, int], SparseAutoencoder]]:
        """Yield seed and k of each of several trainings, and its SAE, as they end; see `Engines`."""
        self.release()
        if options:
            with closing(self._open(_Trainer, options[0])) as pool:
                yield from pool.map(partial(_train_apart, load), options)

    def publish(self, job: Mapping[str, str], counts: Mapping[str, Mapping[str, float]]) -> None:
        """Show what a labelling job has done in Ray's metrics, while a pool in Ray is open."""
        if self._pool is not None and not isinstance(self._pool, LocalPool):
            self._metrics.publish(job, counts)

    @cached_property
    def _metrics(self) -> "Metrics":
        from hypsae_ray.cluster.metrics import Metrics

        return Metrics()

    def _get(self, load: Callable[[Any], Any], options: Embed | Llm) -> Pool[Any]:
        pinned = pin(options, self._commits)
        if self._loaded != (load, pinned):
            self._free()
            self._pool, self._loaded = self._open(partial(load, pinned), options), (load, pinned)
        return self._pool

    def _open(self, factory: Callable[[], Any], options: Options) -> Any:
        if options.replicas.max == 0:
            model = factory()
            if remark := getattr(model, "remark", ""):
                self._say(remark)
            return LocalPool(model)
        self.check([options])
        from hypsae_ray.cluster.actors import RayActors
        from hypsae_ray.cluster.placement import reservation_of
        from hypsae_ray.cluster.pool import RayPool

        return RayPool(RayActors(factory, reservation_of(options)), options.replicas, self._say)

    def release(self) -> None:
        """Close the pool in Ray, if one is open, and free what its actors reserve; a model here stays."""
        if not isinstance(self._pool, LocalPool):
            self._free()

    def _free(self) -> None:
        """Close the pool that is open, if one is, and give back the memory of a model in this process."""
        pool, self._pool, self._loaded = self._pool, None, None
        if pool is None:
            return
        pool.close()
        if isinstance(pool, LocalPool):
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()

    def start_ray(self) -> None:
        """Connect to the cluster that RAY_ADDRESS or this machine names, or start Ray here.

        Raises:
            ConfigError: that cluster is not there.
            StageError: Ray does not start.
        """
        import ray

        if ray.is_initialized():
            return
        from hypsae_ray.cluster.address import check_address

        self._only_here, handler = not check_address(), signal.getsignal(signal.SIGTERM)
        for attempt in range(1, RAY_START_ATTEMPTS + 1):
            try:
                ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
                break
            except Exception as error:  # Ray allows 30 s, which a busy machine may exceed
                ray.shutdown()
                if "timed out during startup" not in str(error) or attempt == RAY_START_ATTEMPTS:
                    raise StageError(f"Ray does not start: {error}") from error
        self._started_ray = True
        _handle_sigterm(handler)

    def close(self) -> None:
        """Free everything; Ray is shut down if this session started or joined it."""
        try:
            self._free()
        finally:
            if self._started_ray:
                import ray

                with suppress(KeyboardInterrupt):
                    ray.shutdown()
                self._started_ray = False


class _Trainer:
    """What a pool holds that trains: each task brings its own options."""


def _train_apart(load: LoadRows, _: _Trainer, options: TrainSae) -> tuple[tuple[int, int], SparseAutoencoder]:
    device = torch.device("cuda" if options.replicas.gpus else "cpu")
    key = options.seed, options.shape.k
    return key, train(*load(0, 1), options, Collective(device)).sae.cpu()


def _handle_sigterm(handler: Any) -> None:
    """Give SIGTERM back to the handler before Ray started, or to Ray's own where that was none of Python's.

    Ray's core, once connected, prints a stack and aborts.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler if callable(handler) else signal.getsignal(signal.SIGTERM))


def _needs_ray(options: Options) -> bool:
    return options.replicas.max > 0 and not (isinstance(options, Embed) and options.engine == "column")
