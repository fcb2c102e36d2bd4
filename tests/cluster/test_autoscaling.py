"""A queue of labelling makes Ray's autoscaler add GPU nodes from none to its most, and take them all back.

The provider is Ray's own fake one: its nodes are processes here, and their GPUs are counts. The autoscaler,
and what asks it for nodes, are the real ones: v1 as Ray's launcher starts it, v2 as on Kubernetes.

The server holds requests back, so that the queue stays full until all replicas are at work, and then those
about one text, so that one replica has work while the others have none.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import ray.util
import yaml
from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG
from ray.autoscaler.v2.sdk import get_cluster_status

from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.read import find_annotations
from tests.cluster.head import ROOT, free_ports
from tests.cluster.hosts import Driver, Log, environment, ray_start, start_head, started, temporary_place
from tests.integration.openai_server import Server, serve

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

MOST = 3
ROWS, SHARD = 240, 10
LAST = f"text {ROWS - 1} "
AT_ONCE = 2  # requests of a replica
HEAD_TYPE, HEAD_ID = "ray.head.default", "00000".rjust(56, "f")  # by which the provider knows the head


def write_autoscaler(address: str, path: Path) -> None:
    """Write the config of an autoscaler that may launch up to three nodes with one GPU each."""
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "head_node_id": HEAD_ID,
        "gcs_address": address,
        "launch_multiple": True,
        "use_node_id_as_ip": True,  # all have the same address
        "disable_node_updaters": True,  # nothing is to be set up on them
        "disable_launch_config_check": True,
    }
    worker = {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": MOST}
    head = {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0}
    types = {"head_node_type": HEAD_TYPE, "available_node_types": {HEAD_TYPE: head, "gpu_worker": worker}}
    own = {"provider": provider, "max_workers": MOST, "idle_timeout_minutes": 0.2, **types}
    path.write_text(yaml.safe_dump({**BASE_READONLY_CONFIG, **own}))


def start_cluster(place: Path, version: str) -> str:
    """Start a head with one CPU and an autoscaler; return its address."""
    ports = free_ports()
    address = f"{ray.util.get_node_ip_address()}:{ports['port']}"
    write_autoscaler(address, config := place / "autoscaler.yaml")
    own = {
        "RAY_AUTH_MODE": "disabled",  # what is read here, in this process, is read without a token
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": version,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_NODE_TYPE_NAME": HEAD_TYPE,
    }
    options = [*(f"--{name}={port}" for name, port in ports.items()), f"--autoscaling-config={config}"]
    command = ray_start(
        place, "--head", "--num-cpus=1", "--num-gpus=0", "--include-dashboard=false", *options
    )
    start_head(command, place, environment(place, **own))
    return address


def job(folder: Path, url: str) -> list[str]:
    """Write data and hypotheses; return the command that labels them."""
    rows = [{"text": f"text {i} with {'bread' if i % 3 else 'rain'}"} for i in range(ROWS)]
    pd.DataFrame(rows).to_json(folder / "data.jsonl", orient="records", lines=True)
    (folder / "h.csv").write_text("hypothesis\nmentions bread\n")
    files = ["--data", f"{folder}/data.jsonl", "--hypotheses", f"{folder}/h.csv", "--out", f"{folder}/out"]
    endpoint = f"{{url: '{url}', concurrency: {AT_ONCE}, timeout_s: 300}}"
    engine = ["--llm.engine=endpoint", "--llm.model=m", f"--llm.endpoint={endpoint}"]
    replicas = f"{{min: 1, max: {MOST}, cpus: 1, gpus: 1}}"
    pool = ["--llm.replicas", replicas, "--annotate.shard_rows", str(SHARD)]
    return [sys.executable, str(ROOT / "jobs" / "annotate.py"), *files, *engine, *pool]


class Seen(NamedTuple):
    """What there is at one moment; a replica is a GPU in use."""

    nodes: int
    replicas: int
    shards: int

    def __str__(self) -> str:
        return f"{self.nodes} GPU nodes, {self.replicas} replicas, {self.shards} shards done"


@dataclass
class Watch:
    """Looks at a cluster and at the answers of a job, and tells what has changed."""

    address: str
    out: Path
    log: Log
    seen: list[Seen] = field(default_factory=list)

    def look(self) -> Seen:
        """Return what there is now."""
        found = get_cluster_status(self.address)
        known = [node.resource_usage for node in [*found.active_nodes, *found.idle_nodes]]
        usages = [usage for of_node in known if of_node for usage in of_node.usage]
        gpus = [usage for usage in usages if usage.resource_name == "GPU"]
        shards = len(list(self.out.glob("answers/*/shard-*.parquet")))
        now = Seen(len(gpus), round(sum(gpu.used for gpu in gpus)), shards)
        if self.seen[-1:] != [now]:
            self.log(str(now))
            self.seen.append(now)
        return now


def grow_and_shrink(driver: Driver, server: Server, watch: Watch) -> None:
    """Hold the queue until all replicas are at work, then one text until the other replicas are gone."""
    driver.until(lambda: "pairs to ask" in driver.output.read_text())
    watch.log.set_clock()
    watch.log("the first shard is queued")
    some = server.gate + (MOST - 1) * AT_ONCE  # what fewer replicas than all can have sent
    driver.until(lambda: watch.look().nodes == MOST and len(server.bodies) > some)
    watch.log("all replicas are at work: requests are let in, all but those about one text")
    server.held = LAST
    server.raise_gate(10**6)
    driver.until(lambda: watch.look().replicas == 1)
    driver.until(lambda: watch.look().nodes == 1)
    watch.log("the last requests are let in")
    server.held = None
    server.raise_gate(10**6)
    driver.until(lambda: watch.look().nodes == 0)
    driver.finish()


@pytest.mark.parametrize("version", ["0", "1"], ids=["autoscaler v1", "autoscaler v2"])
def test_gpu_nodes_come_with_the_queue_and_go_with_it(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    def say(line: str) -> None:
        with capsys.disabled():
            print(line)

    with temporary_place() as place, serve() as server:
        server.gate = 0
        address = start_cluster(place, version)
        here = environment(place, RAY_AUTH_MODE="disabled", RAY_ADDRESS=address)
        watch = Watch(address, tmp_path / "out", Log(say))
        with started(job(tmp_path, server.url), tmp_path / "log", here) as driver:
            grow_and_shrink(driver, server, watch)
    # The fake provider answers nothing while it starts a node. A round of v1 that falls into that time counts
    # the node neither as running nor as launched, starts one more, and ends it later: 5 of 3 were seen.
    if version == "1":
        assert max(seen.nodes for seen in watch.seen) == MOST
    assert max(seen.replicas for seen in watch.seen) == MOST
    assert [watch.seen[0].nodes, watch.seen[-1].nodes] == [0, 0]
    check(tmp_path / "out")


def check(out: Path) -> None:
    """Compare all answers with what the server says."""
    _, scores = read_annotation_table(find_annotations(str(out)), "annotations-00000.parquet")
    bread = np.arange(ROWS) % 3 > 0
    np.testing.assert_allclose(scores.p_yes[:, 0], np.where(bread, 0.8 / 0.9, 0.2 / 0.8), rtol=1e-6)
