"""SAE training on several machines: Ray Train starts the workers, `sae.training` does the work.

Each worker reads its rows once and keeps them in memory (streaming 20,000 x 384 embeddings through Ray Data
costs about 10 s an epoch, more than ten times the training itself). From time to time, after an epoch that
improved, rank 0 hands Ray a snapshot, and at once where a node is being drained; not more often, since Ray
takes one report in 2 s. A worker group that lost a member is started again from the last one, on fewer
workers where `replicas.min` allows, and takes the very steps that the first group would have taken: the order
of rows does not depend on the number of workers.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Empty, Queue

from hypsae_ray.cluster.placement import bundle_of, describe_nodes, reservation_of
from hypsae_ray.config import TrainSae
from hypsae_ray.errors import StageError
from hypsae_ray.sae import model as saes
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.training import Epoch, LoadRows, OnEpoch, Progress, Trained, train
from hypsae_ray.store.artifacts import Folder

# Ray Train chooses between two versions of its classes when it is imported, which its types do not tell.
_train: Any = ray.train

WARN_S = 60.0  # after so long without a worker that has begun, a warning is printed
_STATE = "state.safetensors"


@dataclass(frozen=True)
class _Training:
    """What every worker is sent."""

    load: LoadRows
    options: TrainSae
    every_s: float
    epochs: Queue


def train_distributed(
    load: LoadRows,
    options: TrainSae,
    on_epoch: OnEpoch = lambda _: None,
    snapshots: Folder | None = None,
    say: Callable[[str], None] = lambda _: None,
    *,
    every_s: float = 30.0,
    max_failures: int = 3,
) -> Trained:
    """Train an SAE with Ray Train on `options.replicas.max` workers; Ray must be running.

    Args:
        load: called as load(rank, world) in each worker, for its training and validation rows.
        options: as for `sae.training.train`; at least one worker.
        on_epoch: called in this process for each epoch that ends, epochs repeated after a restart included.
        snapshots: folder of them that all nodes can write; None: a temporary one, enough for one node.
        say: is given a line if no worker has begun after a while.
        every_s: seconds that must lie between two snapshots at the least.
        max_failures: restarts of the worker group before training gives up.

    Raises:
        StageError: workers failed more often than `max_failures`, or at a cause that stays.
    """
    # NCCL refuses two workers on one GPU, which is what a share of a GPU means.
    backend = "nccl" if options.replicas.gpus >= 1 else "gloo"
    with tempfile.TemporaryDirectory() as scratch, _listen(options, on_epoch, say) as epochs:
        trainer = _train.torch.TorchTrainer(
            _work,
            train_loop_config={"job": _Training(load, options, every_s, epochs)},
            torch_config=ray.train.torch.TorchConfig(backend=backend),
            scaling_config=_scaling(options),
            run_config=_run_config(snapshots or Folder.at(scratch), max_failures),
        )
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise StageError(f"training the SAE on {options.replicas.max} workers failed: {error}") from error
    weights, config, history = result.return_value
    return Trained(saes.from_bytes(weights, config), tuple(Epoch(**epoch) for epoch in history))


def _scaling(options: TrainSae) -> Any:
    workers = options.replicas
    return _train.ScalingConfig(
        num_workers=workers.max if workers.min == workers.max else (workers.min, workers.max),
        use_gpu=workers.gpus > 0,
        resources_per_worker=bundle_of(workers.cpus, workers.gpus, None),
        accelerator_type=workers.accelerator,
        label_selector=dict(workers.labels) or None,
    )


def _run_config(snapshots: Folder, max_failures: int) -> Any:
    return _train.RunConfig(
        storage_path=snapshots.path,
        storage_filesystem=snapshots.filesystem,
        failure_config=_train.FailureConfig(max_failures=max_failures),
        checkpoint_config=_train.CheckpointConfig(num_to_keep=1),
    )


def _work(config: dict[str, Any]) -> tuple[bytes, dict[str, Any], list[dict[str, Any]]] | None:
    """Train in one worker; rank 0 returns what `Trained` is rebuilt from."""
    job: _Training = config["job"]
    group = Collective.of_group(ray.train.torch.get_device())
    if group.rank == 0:
        job.epochs.put("begun")
    shard, val = job.load(group.rank, group.world)
    report = _Reporter(job, group)
    trained = train(shard, val, job.options, group, report, _last_snapshot())
    if group.rank != 0:
        return None
    return *saes.to_bytes(trained.sae), [asdict(epoch) for epoch in trained.history]


def _last_snapshot() -> bytes | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return (Path(folder) / _STATE).read_bytes()


class _Reporter:
    """Tells of each epoch, and hands Ray Train snapshots.

    All that asks Ray here waits for all ranks, so that each one must come to the same decisions.
    """

    def __init__(self, job: _Training, group: Collective) -> None:
        self._job, self._group = job, group
        self._saved = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if self._group.rank == 0:
            self._job.epochs.put(progress.epoch)
        is_draining = ray.train.get_preemption_info() is not None
        if (self._is_due() or is_draining) and progress.improved:
            self._save(progress)

    def _is_due(self) -> bool:
        """Whether it is time for a snapshot, by the clock of rank 0."""
        due = self._group.rank == 0 and time.monotonic() - self._saved >= self._job.every_s
        agreed = torch.tensor([float(due)], device=self._group.device)
        self._group.sum(agreed)
        return bool(agreed)

    def _save(self, progress: Progress) -> None:
        metrics = asdict(progress.epoch)
        if self._group.rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _STATE).write_bytes(progress.snapshot())
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        self._saved = time.monotonic()


@contextmanager
def _listen(options: TrainSae, on_epoch: OnEpoch, say: Callable[[str], None]) -> Iterator[Queue]:
    """Give a queue whose epochs reach `on_epoch` in this process as they come."""
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}  # it is not to die with another node
    queue = Queue(actor_options={"num_cpus": 0, "label_selector": here})
    waits = f"no worker has begun yet: training reserves {reservation_of(options)}; the nodes have "
    arguments = (queue, on_epoch, lambda: say(waits + describe_nodes()))
    listener = threading.Thread(target=_forward, args=arguments, daemon=True)
    listener.start()
    try:
        yield queue
    finally:
        queue.put(None)
        listener.join()
        queue.shutdown()


def _forward(queue: Queue, on_epoch: OnEpoch, warn: Callable[[], None]) -> None:
    """Hand epochs on until the queue ends; warn if nothing comes at first."""
    try:
        item = queue.get(timeout=WARN_S)
    except Empty:
        warn()
        item = queue.get()
    while item is not None:
        if isinstance(item, Epoch):
            on_epoch(item)
        item = queue.get()
