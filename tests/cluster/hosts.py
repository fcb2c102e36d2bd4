"""Nodes of Ray, in this process or as `ray start --block` makes them, and a job on them as time goes on."""

import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ray._common.test_utils import wait_for_condition
from ray.cluster_utils import Cluster

from tests.cluster.head import OUTSIDE, RAY, SETTINGS
from tests.deadline import DEADLINE_S

STARTS = 4  # a raylet allows its helpers 15 s to come up, which a busy machine may exceed
RUNS = "Ray runtime started"
MEMORY = 100_000_000  # bytes of the object store
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}
"""Ray's settings by which a node that is dead is given up in some 4 s, and one that is silent, in 15 s."""


@contextmanager
def nodes_of_one_cpu(count: int) -> Iterator[Cluster]:
    """Start a head that holds nothing but the driver, and nodes with room for one replica or worker each."""
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def temporary_place() -> Iterator[Path]:
    """Make a folder for a cluster's sessions, its path short for the sake of sockets, and a token in it."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as name:
        place = Path(name)
        (place / "token").touch(mode=0o600)
        (place / "token").write_text(secrets.token_hex(32))
        try:
            yield place
        finally:
            stop_all(place)


def environment(place: Path, **more: str) -> dict[str, str]:
    """Return the environment of a node, and of a driver, that has the token of a place."""
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place / "token")}
    return {**OUTSIDE, **SETTINGS, **auth, **more}


def ray_start(place: Path, *options: str) -> list[str]:
    """Return the command that starts a node with its sessions in a place, and that ends with the node."""
    return [RAY, "start", "--block", "--include-log-monitor=false", f"--object-store-memory={MEMORY}",
            f"--temp-dir={place}", *options]  # fmt: skip


def start_head(command: Sequence[str], place: Path, environment: Mapping[str, str]) -> None:
    """Start a head node and wait until it runs."""
    log = place / "head.log"
    for _ in range(STARTS):
        with log.open("w") as output:
            head = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        while head.poll() is None:
            if RUNS in log.read_text():
                return
            with suppress(subprocess.TimeoutExpired):
                head.wait(0.5)
    raise AssertionError(f"the head node does not come up:\n{log.read_text()}")


def stop_all(place: Path) -> None:
    """End all processes that name a place, and those below them, until none is started any more."""
    while nodes := [p for p in psutil.process_iter(["cmdline"]) if _names(p, place)]:
        below = []
        for node in nodes:
            with suppress(psutil.NoSuchProcess):
                below += node.children(recursive=True)
                node.terminate()
        _, left = psutil.wait_procs([*nodes, *below], timeout=60)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _names(process: psutil.Process, place: Path) -> bool:
    return str(place) in " ".join(process.info["cmdline"] or [])  # of a zombie it is None


@dataclass
class Log:
    """Lines with the seconds since the clock was set."""

    say: Callable[[str], None]
    _zero: float = field(default_factory=time.monotonic)

    def set_clock(self) -> None:
        """Begin to count here."""
        self._zero = time.monotonic()

    def __call__(self, line: str) -> None:
        self.say(f"{time.monotonic() - self._zero:6.1f} s  {line}")


@dataclass(frozen=True)
class Driver:
    """A job that is under way."""

    process: subprocess.Popen
    output: Path

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something, as long as the job has not failed."""

        def held() -> bool:
            assert not self.process.poll(), self.output.read_text()
            return holds()

        wait_for_condition(held, timeout=DEADLINE_S, retry_interval_ms=300, raise_exceptions=True)

    def finish(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.process.wait(DEADLINE_S) == 0, self.output.read_text()


@contextmanager
def started(command: Sequence[str], output: Path, environment: Mapping[str, str]) -> Iterator[Driver]:
    """Start a job; it is killed with the context if it has not ended."""
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        yield Driver(process, output)
    finally:
        process.kill()
        process.wait()
