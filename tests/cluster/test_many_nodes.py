"""A whole run over a head and three nodes, two of which die on the way, against a run in one process."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from hypsae_ray.commands import runner
from hypsae_ray.config import loading
from tests.cluster.head import ROOT
from tests.cluster.hosts import Driver, nodes_of_one_cpu, started

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

EPOCHS = 300  # enough to die in
# Ray counts on the lost node for a while, and waits 60 s for a second worker before it goes on with one.
WAIT = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with nodes_of_one_cpu(3) as cluster:
        yield cluster


@pytest.fixture
def tree(demo_tree: dict) -> dict[str, Any]:
    """The demo's config with many small shards and many epochs."""
    return demo_tree | {
        "data": demo_tree["data"] | {"shard_rows": 8},
        "train_sae": demo_tree["train_sae"] | {"max_epochs": EPOCHS, "patience": EPOCHS},
    }


def on_nodes(tree: dict[str, Any]) -> dict[str, Any]:
    """The same run with two replicas or workers, one on a node."""
    return tree | {
        "embed": tree["embed"] | {"replicas": {"min": 2, "max": 2, "cpus": 1}},
        "train_sae": tree["train_sae"] | {"replicas": {"min": 1, "max": 2}},
        "llm": tree["llm"] | {"replicas": {"min": 1, "max": 2}},
    }


def kill_node_with(driver: Driver, cluster: Cluster, actor: str) -> None:
    """Kill a node where a process of this name is at work, without notice."""

    def hosts() -> list[Any]:
        return [node for node in cluster.worker_nodes if actor in _processes(node)]

    driver.until(lambda: bool(hosts()))
    cluster.remove_node(hosts()[0], allow_graceful=False)


def _processes(node: Any) -> str:
    (raylet,) = node.all_processes["raylet"]
    below = psutil.Process(raylet.process.pid).children(recursive=True)
    return " ".join(word for process in below for word in process.cmdline())


def test_a_run_that_loses_nodes_in_embed_and_in_train_sae_equals_one_in_a_single_process(
    cluster: Cluster, tree: dict[str, Any], tmp_path: Path
):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(on_nodes(tree)))
    out, log = tmp_path / "nodes", tmp_path / "log"
    environment = {**os.environ, **WAIT, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)}
    files = ["--config", str(tmp_path / "c.yaml"), "--out", str(out)]

    def embedded() -> int:
        return len(list(out.glob("stages/embed-*/train-*.parquet")))

    with started([sys.executable, str(ROOT / "jobs" / "run.py"), *files], log, environment) as driver:
        driver.until(lambda: embedded() > 0)
        kill_node_with(driver, cluster, "ray::Replica")
        before = embedded()
        driver.until(lambda: bool(re.search(rf"train_sae: [1-9]\d*/{EPOCHS}", log.read_text())))
        kill_node_with(driver, cluster, "RayTrainWorker")
        driver.finish()
    assert before < embedded()
    runner.run(loading.parse(tree, "one process"), str(tmp_path / "one"))
    mine, theirs = (pd.read_csv(tmp_path / name / "evaluation.csv") for name in ("nodes", "one"))
    pd.testing.assert_frame_equal(mine, theirs, rtol=1e-3)
