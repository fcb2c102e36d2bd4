"""Ray Train on two workers against the same loop in this process."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hypsae_ray.cluster.session import Session
from hypsae_ray.cluster.trainer import train_distributed
from hypsae_ray.config import AdvancedSae, Replicas, TrainSae
from hypsae_ray.errors import StageError
from hypsae_ray.sae.training import Epoch, WorkerRows, train
from hypsae_ray.store.artifacts import Folder

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_session")]

ADVANCED = AdvancedSae(dead_after=3, multi_k=6)
TWO = Replicas(min=2, max=2)
OPTIONS = TrainSae(
    n_neurons=24, k=3, prefix_lengths=(6, 24), batch_size=50, max_epochs=6, advanced=ADVANCED, replicas=TWO
)


def embeddings() -> np.ndarray:
    rng = np.random.default_rng(0)
    codes = rng.random((400, 12)) * (rng.random((400, 12)) < 0.2)
    return (codes @ rng.normal(size=(12, 8)) + 0.05 * rng.normal(size=(400, 8))).astype(np.float32)


@dataclass(frozen=True)
class Load:
    """301 rows to train on (the last batch has one row, so one worker has none of it), 99 to validate."""

    def __call__(self, rank: int, world: int) -> tuple[WorkerRows, WorkerRows]:
        x = embeddings()
        return WorkerRows.of(x[:301], rank, world), WorkerRows.of(x[301:], rank, world)


@dataclass(frozen=True)
class LoadAndDieOnce:
    """Like Load, but the first process of rank 1 dies when `folder`/die appears, and leaves `folder`/died."""

    folder: str

    def __call__(self, rank: int, world: int) -> tuple[WorkerRows, WorkerRows]:
        if rank == 1 and not (Path(self.folder) / "died").exists():
            threading.Thread(target=self._die, daemon=True).start()
        return Load()(rank, world)

    def _die(self) -> None:
        tick = threading.Event()
        while not (Path(self.folder) / "die").exists():
            tick.wait(0.01)
        (Path(self.folder) / "died").touch()
        os._exit(1)


@dataclass(frozen=True)
class LoadNothing:
    def __call__(self, rank: int, world: int) -> tuple[WorkerRows, WorkerRows]:
        nothing = WorkerRows(np.zeros((0, 8), np.float32), 0)
        return nothing, nothing


@pytest.mark.parametrize("batch_topk", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_workers_take_the_steps_of_one(batch_topk: bool, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"advanced": ADVANCED.model_copy(update={"batch_topk": batch_topk})})
    one, seen = train(*Load()(0, 1), options), list[Epoch]()
    # Some epochs are followed by a snapshot and others are not: both workers must mean the same ones.
    two = train_distributed(Load(), options, seen.append, Folder.at(tmp_path), every_s=0.05)
    assert [e.train_loss for e in two.history] == pytest.approx([e.train_loss for e in one.history], rel=1e-4)
    assert [e.val_loss for e in two.history] == pytest.approx([e.val_loss for e in one.history], rel=1e-4)
    assert [e.dead for e in two.history] == [e.dead for e in one.history]
    np.testing.assert_allclose(two.sae.decoder.detach(), one.sae.decoder.detach(), atol=1e-3)
    assert seen == list(two.history)
    # What Ray leaves in the run folder, and reads back, holds no pickle.
    left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {".validate_storage_marker", "checkpoint_manager_snapshot.json", "state.safetensors"}


def test_several_saes_are_trained_side_by_side_as_they_are_one_by_one() -> None:
    options = OPTIONS.model_copy(update={"seeds": 3, "seed": 5})
    alone = [one.model_copy(update={"replicas": Replicas(min=0, max=0)}) for one in options.others]
    with Session() as session:
        there, here = (dict(session.train_apart(Load(), some)) for some in (options.others, alone))
    assert sorted(there) == sorted(here) == [(6, OPTIONS.k), (7, OPTIONS.k)]
    for (seed, k), sae in here.items():
        np.testing.assert_allclose(there[seed, k].decoder.detach(), sae.decoder.detach(), atol=1e-5)
        first = train(*Load()(0, 1), options.model_copy(update={"seed": seed})).sae
        np.testing.assert_array_equal(first.decoder.detach(), sae.decoder.detach())


@pytest.mark.slow
def test_a_worker_that_dies_changes_nothing(tmp_path: Path) -> None:
    long, seen = OPTIONS.model_copy(update={"max_epochs": 20, "patience": 20}), list[int]()

    def watch(epoch: Epoch) -> None:
        seen.append(epoch.epoch)
        if epoch.epoch == 8:  # snapshots of earlier epochs have been taken in by then
            (tmp_path / "die").touch()

    died = train_distributed(LoadAndDieOnce(str(tmp_path)), long, watch, Folder.at(tmp_path), every_s=0)
    whole = train(*Load()(0, 1), long)
    assert (tmp_path / "died").exists()
    assert [epoch.epoch for epoch in died.history] == list(range(20))
    assert seen.count(0) == 1  # it went on from a snapshot, not from the start
    assert [e.loss for e in died.history] == pytest.approx([e.loss for e in whole.history], rel=1e-3)


@pytest.mark.slow
def test_a_cause_that_stays_ends_training(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no rows"):
        train_distributed(LoadNothing(), OPTIONS, snapshots=Folder.at(tmp_path), max_failures=0)
