"""What only a real GPU can show: embedding, training and placement on it, against the CPU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray
import torch

from hypsae_ray.cluster.actors import RayActors
from hypsae_ray.cluster.placement import reservation_of_replica
from hypsae_ray.cluster.pool import RayPool
from hypsae_ray.cluster.trainer import train_distributed
from hypsae_ray.commands import runner
from hypsae_ray.config import AdvancedEmbed, Embed, Replicas, loading
from hypsae_ray.models.sentence_embedder import SentenceEmbedder
from hypsae_ray.sae.collective import Collective
from hypsae_ray.sae.training import Trained, train
from tests.integration.test_ray_train import ADVANCED, OPTIONS, Load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.cluster,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

SHARED = Replicas(min=2, max=2, cpus=1, gpus=0.5)


@pytest.fixture(scope="module", autouse=True)
def node() -> Iterator[None]:
    """Ray on this machine with three CPUs, whatever it has, and its GPUs."""
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def assert_same(trained: Trained, expected: Trained) -> None:
    losses = [[epoch.train_loss, epoch.val_loss] for epoch in trained.history]
    np.testing.assert_allclose(losses, [[e.train_loss, e.val_loss] for e in expected.history], rtol=1e-4)
    for name, tensor in expected.sae.state_dict().items():
        torch.testing.assert_close(trained.sae.state_dict()[name].cpu(), tensor.cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch_topk", [False, True])
def test_a_gpu_takes_the_steps_of_the_cpu(batch_topk: bool):
    options = OPTIONS.model_copy(update={"advanced": ADVANCED.model_copy(update={"batch_topk": batch_topk})})
    on_gpu = train(*Load()(0, 1), options, Collective(torch.device("cuda")))
    assert_same(on_gpu, train(*Load()(0, 1), options))


def test_ray_train_on_a_gpu_takes_the_steps_of_one_process_without():
    options = OPTIONS.model_copy(update={"replicas": Replicas(gpus=1)})
    assert_same(train_distributed(Load(), options), train(*Load()(0, 1), OPTIONS))


def test_training_on_a_gpu_goes_on_from_a_snapshot_as_if_it_had_not_stopped():
    snapshots: list[bytes] = []
    gpu = Collective(torch.device("cuda"))
    whole = train(*Load()(0, 1), OPTIONS, gpu, lambda progress: snapshots.append(progress.snapshot()))
    assert_same(train(*Load()(0, 1), OPTIONS, gpu, resume=snapshots[2]), whole)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("layer", [None, -2])
def test_embeddings_of_a_gpu_are_those_of_the_cpu(layer: int | None, dtype: str, tolerance: float):
    texts = ["The soup was cold.", "A long and winding road " * 20, "Great dog."]
    options = Embed(advanced=AdvancedEmbed(layer=layer))
    here = SentenceEmbedder(options.model_copy(update={"device": "cpu"})).embed(texts).vectors
    there = (
        SentenceEmbedder(options.model_copy(update={"device": "cuda", "dtype": dtype})).embed(texts).vectors
    )
    np.testing.assert_allclose(there, here, atol=tolerance)


def sees(_: None, __: int) -> int:
    """How many GPUs torch finds in a replica."""
    return torch.cuda.device_count()


def nothing() -> None:
    """Make no model."""


@pytest.mark.parametrize(("replicas", "gpus"), [(SHARED, 1), (Replicas(min=2, max=2), 0)])
def test_replicas_share_a_gpu_and_those_that_reserve_none_see_none(replicas: Replicas, gpus: int):
    pool = RayPool[None](RayActors(nothing, reservation_of_replica(replicas)), replicas)
    assert set(pool.map(sees, range(8))) == {gpus}
    pool.close()


def test_a_run_hands_its_gpu_from_stage_to_stage(demo_tree: dict, demo_run: Path, tmp_path: Path):
    on_gpus = demo_tree | {
        "embed": demo_tree["embed"] | {"replicas": SHARED.model_dump()},
        "train_sae": demo_tree["train_sae"] | {"replicas": {"gpus": 1}},
        "llm": {"engine": "keywords", "replicas": {"min": 1, "max": 1, "gpus": 1}},
    }
    runner.run(loading.parse(on_gpus, "one GPU"), str(tmp_path / "run"))
    mine, theirs = (pd.read_csv(folder / "evaluation.csv") for folder in (tmp_path / "run", demo_run))
    pd.testing.assert_frame_equal(mine, theirs, rtol=1e-3)
