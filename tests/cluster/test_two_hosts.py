"""Labelling over two hosts with addresses of their own, whose link is cut for so long that one is given up.

Each host is a network namespace with a virtual cable to a switch on this machine, where the language model
and the S3 server are that both use. Ray's head stands on one host; the replicas are on the other, whose node
is started again whenever it ends, as a service manager does. The model holds requests back while the cable is
pulled, so that what was in hand is known.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.fs as pafs
import pytest
from moto.server import ThreadedMotoServer
from ray._common.test_utils import wait_for_condition

from hypsae_ray import cli
from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.read import find_annotations
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS
from tests.cluster.head import ROOT
from tests.cluster.hosts import (
    HEALTH,
    Driver,
    Log,
    environment,
    ray_start,
    start_head,
    started,
    temporary_place,
)
from tests.deadline import DEADLINE_S
from tests.integration.openai_server import Server, serve

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROWS, SHARD = 240, 10
REPLICAS = 2
AT_ONCE = 2 * REPLICAS  # shards in hand
S3 = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
AGAIN = 'while :; do "$@"; done'
NUMBERS = {"head": 1, "work": 2}


def ip(*words: str) -> None:
    """Do `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Network:
    """A switch on this machine, and the hosts `head` and `work` on it.

    Attributes:
        mark: tells its parts from those of other networks.
    """

    mark: int

    def address(self, number: int) -> str:
        """Return an address in it; 254 is this machine's."""
        return f"10.{100 + self.mark % 100}.{self.mark // 100 % 250}.{number}"

    def host(self, name: str) -> str:
        """Return the name of the namespace of a host."""
        return f"{name}{self.mark}"

    def port(self, name: str) -> str:
        """Return the name of a host's cable at the switch."""
        return f"{name[0]}{self.mark}"

    def on(self, name: str, command: Sequence[str]) -> list[str]:
        """Return the command that does a command on a host."""
        return ["ip", "netns", "exec", self.host(name), *command]

    def add_switch(self) -> None:
        """Make the switch, with this machine on it."""
        switch = f"s{self.mark}"
        ip("link", "add", switch, "type", "bridge")
        ip("address", "add", f"{self.address(254)}/24", "dev", switch)
        ip("link", "set", switch, "up")

    def add_host(self, name: str) -> None:
        """Make a host, and plug it in."""
        host, port = self.host(name), self.port(name)
        ip("netns", "add", host)
        ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
        ip("link", "set", port, "master", f"s{self.mark}", "up")
        ip("-n", host, "address", "add", f"{self.address(NUMBERS[name])}/24", "dev", "eth0")
        ip("-n", host, "link", "set", "eth0", "up")
        ip("-n", host, "link", "set", "lo", "up")
        # By the way to the world, and nothing is sent there, a process finds its own address.
        ip("-n", host, "route", "add", "default", "via", self.address(254))

    def set_link(self, name: str, state: str) -> None:
        """Put a host's cable `up` or `down`."""
        ip("link", "set", self.port(name), state)

    def remove(self) -> None:
        """Take away all there is."""
        for name in NUMBERS:
            for words in (("link", "delete", self.port(name)), ("netns", "delete", self.host(name))):
                with suppress(subprocess.CalledProcessError):
                    ip(*words)
        with suppress(subprocess.CalledProcessError):
            ip("link", "delete", f"s{self.mark}")


@pytest.fixture
def network() -> Iterator[Network]:
    """A network, which only root can make."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        reason = "needs root and `ip` (Debian: iproute2)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    made = Network(os.getpid())
    try:
        made.add_switch()
        for name in NUMBERS:
            made.add_host(name)
        yield made
    finally:
        made.remove()


@pytest.fixture
def bucket(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a bucket that all hosts reach, with a place for the rest of the path."""
    server = ThreadedMotoServer(ip_address=network.address(254), port=0)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in S3.items():
        monkeypatch.setenv(name, value)
    server_is = f"scheme=http&endpoint_override={network.address(254)}:{port}&allow_bucket_creation=true"
    place = f"s3://runs/{{}}?{server_is}"
    filesystem, _ = pafs.FileSystem.from_uri(place.format(""))
    filesystem.create_dir("runs")
    yield place
    server.stop()


@dataclass(frozen=True)
class Cluster:
    """A head without room for work, and a node that is started again whenever it ends."""

    network: Network
    place: Path

    @property
    def address(self) -> str:
        """Of the head."""
        return f"{self.network.address(NUMBERS['head'])}:6379"

    @property
    def environment(self) -> dict[str, str]:
        """Of nodes and driver, with the token of this cluster."""
        health = {f"RAY_{name}": str(value) for name, value in HEALTH.items()}
        return environment(self.place, **health, **S3, RAY_ADDRESS=self.address, PYTHONPATH=str(ROOT))

    def start(self) -> None:
        """Start the head, wait until it runs, and start the other node."""
        start_head(self._node("head", "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false"),
                   self.place, self.environment)  # fmt: skip
        again = [
            "bash",
            "-c",
            AGAIN,
            "bash",
            *self._node("work", f"--address={self.address}", "--num-cpus=2"),
        ]
        with (self.place / "work.log").open("w") as log:
            subprocess.Popen(again, stdout=log, stderr=log, env=self.environment)

    def _node(self, name: str, *options: str) -> list[str]:
        own = f"--node-ip-address={self.network.address(NUMBERS[name])}"
        return self.network.on(name, ray_start(self.place / name[0], own, *options))

    def starts(self) -> int:
        """Return how often the head has seen the other node come."""
        return self._told(rf"Registering new node.* node_address={self.network.address(NUMBERS['work'])}\b")

    def deaths(self) -> int:
        """Return how often the head has given a node up."""
        return self._told("health check failed due to missing too many heartbeats")

    def _told(self, pattern: str) -> int:
        logs = self.place.glob("h/session_2*/logs/gcs_server.out")
        return sum(len(re.findall(pattern, log.read_text())) for log in logs)

    def begun(self) -> Counter:
        """Return how often each shard was begun, by the logs of all replicas."""
        logs = self.place.glob("*/session_2*/logs/worker-*.err")
        return Counter(found for log in logs for found in re.findall(r"begins (shard-\S+)", log.read_text()))


def write_job(folder: Path, url: str) -> list[str]:
    """Write data and hypotheses; return the arguments of jobs/annotate.py, all but where to and replicas."""
    rows = [{"text": f"text {i} with {'bread' if i % 3 else 'rain'}"} for i in range(ROWS)]
    pd.DataFrame(rows).to_json(folder / "data.jsonl", orient="records", lines=True)
    (folder / "h.csv").write_text("hypothesis\nmentions bread\nmentions rain\n")
    files = ["--data", f"{folder}/data.jsonl", "--hypotheses", f"{folder}/h.csv"]
    endpoint = f"{{url: '{url}', concurrency: 2, timeout_s: 300}}"
    engine = ["--llm.engine=endpoint", "--llm.model=m", f"--llm.endpoint={endpoint}"]
    return [*files, *engine, "--annotate.shard_rows", str(SHARD)]


def cut_and_mend(driver: Driver, server: Server, cluster: Cluster, log: Log) -> None:
    """Pull the cable while requests are held, until the node is given up; plug it in, until it is back."""
    driver.until(lambda: len(server.bodies) > server.gate)
    log.set_clock()
    log(f"{server.gate} requests are answered, the rest is held; the link is cut")
    cluster.network.set_link("work", "down")
    driver.until(lambda: cluster.deaths() == 1)
    log("the head gives the node up; the link is restored")
    cluster.network.set_link("work", "up")
    driver.until(lambda: cluster.starts() == 2)
    log("the node is back; requests are let in")
    server.raise_gate(10**6)
    driver.finish()
    log("the job ends")


def test_a_host_that_is_cut_off_and_comes_back_costs_what_was_in_hand(
    network: Network, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    def say(line: str) -> None:
        with capsys.disabled():
            print(line)

    with temporary_place() as place, serve(network.address(254)) as server:
        arguments, log = write_job(tmp_path, server.url), Log(say)
        cluster = Cluster(network, place)
        cluster.start()
        server.gate = 100
        replicas = ["--llm.replicas", f"{{min: {REPLICAS}, max: {REPLICAS}}}"]
        command = [sys.executable, str(ROOT / "jobs" / "annotate.py"), *arguments, *replicas,
                   "--out", bucket.format("cut")]  # fmt: skip
        wait_for_condition(lambda: cluster.starts() == 1, timeout=DEADLINE_S)
        with started(network.on("head", command), tmp_path / "log", cluster.environment) as driver:
            cut_and_mend(driver, server, cluster, log)
        begun = cluster.begun()
        here = ["--llm.replicas", "{min: 0, max: 0}", "--out", bucket.format("calm")]
        assert cli.main(["annotate", *arguments, *here]) == 0
    shards = ROWS // SHARD
    again = sum(begun.values()) - shards
    log(f"{len(begun)} shards, begun again: {again}, with at most {AT_ONCE} in hand at the cut")
    assert len(begun) == shards
    assert 0 < again <= AT_ONCE, begun
    cut, calm = (annotations(bucket.format(name)) for name in ("cut", "calm"))
    assert [array.tobytes() for array in cut] == [array.tobytes() for array in calm]
    log(f"all {calm[1].size} answers are those of an undisturbed run, to the last bit")


def annotations(out: str) -> list[np.ndarray]:
    """Return all that a table of annotations holds."""
    row_ids, scores = read_annotation_table(find_annotations(out), "annotations-00000.parquet")
    return [row_ids, *(getattr(scores, name) for name in ANNOTATION_ARRAYS)]
