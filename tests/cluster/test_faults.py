"""One annotation over several Ray nodes that loses its driver, an actor and a node on the way."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.read import find_annotations
from tests.cluster.head import ROOT
from tests.cluster.hosts import nodes_of_one_cpu
from tests.deadline import DEADLINE_S
from tests.integration.openai_server import Server, serve

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROWS, SHARD = 240, 10
AT_ONCE = 2 * 2  # replicas, and shards that each one has in hand


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with nodes_of_one_cpu(2) as cluster:
        yield cluster


def write_job(folder: Path, url: str) -> list[str]:
    """Write data, hypotheses and config; return the arguments of jobs/annotate.py."""
    rows = [{"text": f"text {i} with {'bread' if i % 3 else 'rain'}"} for i in range(ROWS)]
    pd.DataFrame(rows).to_json(folder / "data.jsonl", orient="records", lines=True)
    pd.DataFrame({"hypothesis": ["mentions bread", "mentions rain"]}).to_csv(folder / "h.csv", index=False)
    endpoint = {"url": url, "concurrency": 2, "timeout_s": 300}
    llm = {"engine": "endpoint", "model": "m", "endpoint": endpoint, "replicas": {"min": 2, "max": 2}}
    config = {"llm": llm, "annotate": {"shard_rows": SHARD}}
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    names = {"config": "c.yaml", "data": "data.jsonl", "hypotheses": "h.csv"}
    return [word for name, file in names.items() for word in (f"--{name}", str(folder / file))]


def start(arguments: list[str], out: Path, address: str, log: Path) -> subprocess.Popen:
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "jobs" / "annotate.py"), *arguments, "--out", str(out)]
    with log.open("a") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment)


def replicas() -> list[psutil.Process]:
    """The actors that Ray started below this process."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "ray::Replica" in " ".join(process.cmdline())]


def answers(out: Path) -> np.ndarray:
    folder = find_annotations(str(out))
    return np.concatenate(
        [read_annotation_table(folder, name)[1].p_yes for name in folder.names("annotations-")]
    )


def begun(cluster: Cluster) -> Counter:
    """How often each shard was begun, by the logs of all actors."""
    logs = Path(cluster.head_node.get_session_dir_path()).glob("logs/worker-*.err")
    lines = [line for log in logs for line in re.findall(r"begins (shard-\S+)", log.read_text())]
    return Counter(lines)


def test_driver_actor_and_node_die_and_nothing_is_lost_or_done_twice(cluster: Cluster, tmp_path: Path):
    with serve() as server:
        arguments = write_job(tmp_path, server.url)
        out, log = tmp_path / "out", tmp_path / "log"
        kill_everything(server, cluster, arguments, out, log)
        again = begun(cluster)
        shards = ROWS // SHARD
        assert len(again) == shards
        # Each of three deaths costs no more than what was in hand: all for the driver, half for the others.
        assert sum(again.values()) - shards <= AT_ONCE + 2 * AT_ONCE // 2, again
        assert sum(again.values()) > shards
        here = ["--llm.replicas", "{min: 0, max: 0}"]
        undisturbed = start([*arguments, *here], tmp_path / "calm", "local", log)
        assert undisturbed.wait(DEADLINE_S) == 0, log.read_text()
        np.testing.assert_array_equal(answers(out), answers(tmp_path / "calm"))


def kill_everything(server: Server, cluster: Cluster, arguments: list[str], out: Path, log: Path) -> None:
    """Run the job, and kill its driver, then an actor, then a node, each time while requests are held."""
    server.gate = 100
    driver = start(arguments, out, cluster.address, log)
    server.wait_at_gate()
    driver.kill()
    driver.wait()
    server.raise_gate(100)
    driver = start(arguments, out, cluster.address, log)
    server.wait_at_gate()
    os.kill(replicas()[0].pid, signal.SIGKILL)
    server.raise_gate(100)
    server.wait_at_gate()
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    server.raise_gate(10**6)
    assert driver.wait(DEADLINE_S) == 0, log.read_text()
