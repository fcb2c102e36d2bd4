"""A whole run over a head and three nodes, two of which die on the way, against a run in one process."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from ray._common.test_utils import wait_for_condition
from ray.cluster_utils import Cluster

from hypsae_ray import config_file, runner

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240
ONE_EACH = {"min": 2, "max": 2, "cpus": 1}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without work, and three nodes with room for one replica or worker each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def tree(demo_tree: dict) -> dict:
    """The demo's config with many small shards, and epochs enough to die in."""
    changed = {
        "data": {"shard_rows": 8},
        "train_sae": {"max_epochs": 150, "patience": 150},
    }
    return {name: section | changed.get(name, {}) if isinstance(section, dict) else section
            for name, section in demo_tree.items()}  # fmt: skip


def on_nodes(tree: dict) -> dict[str, Any]:
    """The same run with replicas and workers on nodes."""
    workers = {"workers": 2, "min_workers": 1}
    return tree | {
        "embed": tree["embed"] | {"replicas": ONE_EACH},
        "train_sae": tree["train_sae"] | workers,
        "llm": tree["llm"] | {"replicas": {"min": 1, "max": 2}},
    }


def kill_node_with(cluster: Cluster, actor: str) -> None:
    """Kill a node where a process of this name is at work, without notice."""

    def hosts() -> list[Any]:
        return [node for node in cluster.worker_nodes if actor in _processes(node)]

    wait_for_condition(lambda: bool(hosts()), timeout=DEADLINE_S)
    cluster.remove_node(hosts()[0], allow_graceful=False)


def _processes(node: Any) -> str:
    (raylet,) = node.all_processes["raylet"]
    below = psutil.Process(raylet.process.pid).children(recursive=True)
    return " ".join(word for process in below for word in process.cmdline())


def until(driver: subprocess.Popen, log: Path, holds: Callable[[], bool]) -> None:
    """Wait for something, as long as the driver lives."""
    wait_for_condition(lambda: holds() or driver.poll() is not None, timeout=DEADLINE_S)
    assert driver.poll() is None, log.read_text()


def test_a_run_that_loses_nodes_in_embed_and_in_train_sae_equals_one_in_a_single_process(
    cluster: Cluster, tree: dict, tmp_path: Path
):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(on_nodes(tree)))
    out, log = tmp_path / "nodes", tmp_path / "log"
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        str(ROOT / "jobs" / "run.py"),
        "--config",
        str(tmp_path / "c.yaml"),
        "--out",
        str(out),
    ]
    with log.open("w") as output:
        driver = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    until(driver, log, lambda: any(out.glob("stages/embed-*/train-*.parquet")))
    kill_node_with(cluster, "MapWorker")
    embedded = len(list(out.glob("stages/embed-*/train-*.parquet")))
    until(driver, log, lambda: bool(re.search(r"train_sae:.*\| [1-9]\d*/150", log.read_text())))
    kill_node_with(cluster, "RayTrainWorker")
    assert driver.wait(DEADLINE_S) == 0, log.read_text()
    assert embedded < len(list(out.glob("stages/embed-*/train-*.parquet")))
    runner.run(config_file.parse(tree, "one process"), str(tmp_path / "one"))
    mine, theirs = (pd.read_csv(tmp_path / name / "evaluation.csv") for name in ("nodes", "one"))
    pd.testing.assert_frame_equal(mine, theirs, rtol=1e-3)
