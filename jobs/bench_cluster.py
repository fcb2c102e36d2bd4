"""What more nodes bring, and what a node that goes costs: `hypsae annotate` on Ray clusters of this machine.

    python jobs/bench_cluster.py [--nodes 1 2 4] [--shards 60] [--call-s 0.5]

A cluster is a head without work and nodes of one CPU and one replica each, all processes of this machine. A
model's every call takes a fixed time (see `bench_scale`), so that the nodes do not fight for the real cores.
Every case runs in a process of its own; the last ones lose a node when half of the shards are written, and
are given a new one at once, as an autoscaler would:

- killed: without notice, as when the machine is gone;
- told: it is drained first, as on a spot notice, and killed when its replica has left it.

Prints one JSON line with a table of cases:

- pairs_per_s: from the first shard to the last, all replicas loaded before;
- efficiency: this rate for each node, over that of the first case;
- lost_s: seconds that the job took longer than the undisturbed one on as many nodes, per node lost; times the
  nodes, replica seconds;
- begun_again: how often a shard was begun that had been begun before.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from bench_scale import Case as Labelling
from bench_scale import WaitingEngines, warm_up, write_job
from ray._common.test_utils import wait_for_condition
from ray.cluster_utils import Cluster

from hypsae_ray.commands import annotation
from hypsae_ray.console import Console
from hypsae_ray.pipeline import ANSWERS
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.progress import read_heartbeat

QUESTIONS, SHARD_ROWS = 20, 256
PREEMPTION = 2  # DRAIN_NODE_REASON_PREEMPTION
DEADLINE_S = 600


@dataclass(frozen=True)
class Case:
    """One labelling: nodes, shards for each of them, seconds per call, and what becomes of one node."""

    nodes: int
    shards: int
    call_s: float
    event: str = "none"

    @property
    def labelling(self) -> Labelling:
        """What is labelled."""
        return Labelling(
            self.nodes * self.shards * SHARD_ROWS, QUESTIONS, self.nodes, SHARD_ROWS, self.call_s, cpus=1
        )


def main() -> None:
    """Run all cases, and print the table."""
    options = _options()
    if options.case:
        print(json.dumps(_run(Case(**json.loads(options.case)))))
        return
    cases = [Case(nodes, options.shards, options.call_s) for nodes in options.nodes]
    cases += [replace(cases[-1], event=event) for event in ("killed", "told")]
    table = pd.DataFrame([asdict(case) | _run_apart(case) for case in cases])
    of_a_node = table["pairs_per_s"] / table["nodes"]
    table["efficiency"] = (of_a_node / of_a_node[0]).round(3)
    calm = table["seconds"][len(options.nodes) - 1]
    table["lost_s"] = (table["seconds"] - calm).where(table["event"] != "none").round(1)
    print(table.to_string(index=False), flush=True)
    print(json.dumps({"cpus": os.cpu_count(), "cases": json.loads(table.to_json(orient="records"))}))


def _run_apart(case: Case) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _run(case: Case) -> dict[str, Any]:
    """Label once with all replicas loaded, and return what it took."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(case.nodes):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = str(cluster.address)
    try:
        engines = WaitingEngines(case.call_s)
        with tempfile.TemporaryDirectory() as place, engines:
            return _label(case, Path(place), engines, cluster)
    finally:
        cluster.shutdown()


def _label(case: Case, folder: Path, engines: WaitingEngines, cluster: Cluster) -> dict[str, Any]:
    warm_up(case.labelling, folder, engines)
    job = write_job(case.labelling, case.labelling.texts, folder / "data.parquet")
    out, before = folder / "out", _begun(cluster)
    with ThreadPoolExecutor(max_workers=1) as thread:  # Ray starts nodes in the main one alone
        labelling = thread.submit(annotation.run, job, str(out), engines, Console().say)
        _disturb(case, out, cluster)
        labelling.result()
    beat = read_heartbeat(Folder.at(out).sub(ANSWERS))
    assert beat is not None
    begun = _begun(cluster) - before
    return {
        "pairs_per_s": round(beat.rate, 1),
        "seconds": round(beat.pairs / beat.rate, 1),
        "begun_again": sum(begun.values()) - case.nodes * case.shards,
    }


def _disturb(case: Case, out: Path, cluster: Cluster) -> None:
    """Take a node away when half of the shards are there, and add one."""
    if case.event == "none":
        return
    half = case.nodes * case.shards // 2
    wait_for_condition(lambda: len(_shards(out)) >= half, timeout=DEADLINE_S, retry_interval_ms=200)
    node = next(iter(cluster.worker_nodes))
    if case.event == "told":
        _drain(node)
        cluster.add_node(num_cpus=1)
        wait_for_condition(lambda: _is_empty(node), timeout=DEADLINE_S)
        cluster.remove_node(node, allow_graceful=False)
    else:
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)


def _shards(out: Path) -> list[Path]:
    return list(out.glob("answers/*/shard-*"))


def _drain(node: Any) -> None:
    gcs = ray._raylet.GcsClient(address=node.gcs_address)  # type: ignore  # as `ray drain-node` does
    accepted, reason = gcs.drain_node(node.node_id, PREEMPTION, "spot", int(time.time() + 3600) * 1000)
    if not accepted:
        raise SystemExit(f"the node is not drained: {reason}")


def _is_empty(node: Any) -> bool:
    """Whether no actor is alive on a node."""
    actors: Any = ray._private.state.actors()  # type: ignore  # the public API needs a dashboard
    here = [actor for actor in actors.values() if actor["Address"]["NodeID"] == node.node_id]
    return not any(actor["State"] == "ALIVE" for actor in here)


def _begun(cluster: Cluster) -> Counter[str]:
    """Return how often each shard was begun, by the logs of all actors."""
    head: Any = cluster.head_node
    logs = Path(head.get_session_dir_path()).glob("logs/worker-*.err")
    return Counter(line for log in logs for line in re.findall(r"begins (shard-\S+)", log.read_text()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", help="run this one case in this process")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--shards", type=int, default=60, help="shards for each node")
    parser.add_argument("--call-s", type=float, default=0.5, help="seconds that each call takes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
