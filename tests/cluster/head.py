"""A head node that asks for a token, on loopback and on ports of its own, and what a user does with it."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.deadline import DEADLINE_S

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
HERE = "127.0.0.1"
KEY_NAME = "TEST_ENDPOINT_KEY"
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "ray-client-server-port",
)
# Ray gives the agent of a node 15 s to start, too few beside processes that no test here needs.
LIGHT = ("--no-monitor", "--include-log-monitor=false")
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
STRANGERS = {
    "no token": {**OUTSIDE, "RAY_AUTH_MODE": "disabled"},
    "a wrong token": {**OUTSIDE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
}
"""Environments of those who do not have the token."""
SETTINGS = {
    "RAY_metrics_report_interval_ms": "1000",  # not 10 s, which a test would wait for
    "RAY_JOB_STOP_WAIT_TIME_S": "300",  # not 3 s: time to end in order on a busy machine
    "RAY_raylet_start_wait_time_s": "120",  # not 30 s, likewise
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # not 30 s: nothing is at work when it ends
    "RAY_USAGE_STATS_ENABLED": "0",  # an actor less for each job
}


@dataclass(frozen=True)
class Head:
    """A head node with two CPUs. Its environment holds the key of an endpoint under `KEY_NAME`.

    Attributes:
        process: `ray start --block`.
        place: folder of the sessions, and of the file with the token.
        ports: by name of the option.
        token: what a user needs.
        key: what nobody is to see.
    """

    process: psutil.Process
    place: Path
    ports: dict[str, int]
    token: str
    key: str

    @property
    def url(self) -> str:
        """Of the dashboard and the jobs API."""
        return f"http://{HERE}:{self.ports['dashboard-port']}"

    @property
    def users(self) -> dict[str, str]:
        """Environment of one who has the token in a file."""
        return {**OUTSIDE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.place / "token")}

    def get(self, path: str, token: str | None = None) -> str:
        """Ask the dashboard with a token; None: the right one."""
        token = self.token if token is None else token
        request = urllib.request.Request(self.url + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as reply:
            return reply.read().decode()

    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs that were ever submitted, by their id."""
        found = json.loads(self.get("/api/jobs/"))
        return {job["submission_id"]: job for job in found if job["submission_id"]}

    def job(self, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        """Do `ray job`, by default as one who has the token."""
        command = [RAY, "job", words[0], "--address", self.url, *words[1:]]
        given = environment or self.users
        return subprocess.run(command, capture_output=True, text=True, env=given, timeout=DEADLINE_S)

    def commands(self) -> list[str]:
        """Return the command lines of all processes of the node; one that is ending has none."""
        found = []
        for process in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(" ".join(process.cmdline()))
        return found

    def metric(self, name: str, **labels: str) -> float:
        """Add up what the metrics endpoint says under a name and these labels."""
        url = f"http://{HERE}:{self.ports['metrics-export-port']}/metrics"
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as reply:
            families = list(text_string_to_metric_families(reply.read().decode()))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def script(name: str, arguments: list[str]) -> list[str]:
    """Return the words of `ray job submit` that run a script of jobs/ from the root of the project."""
    return ["--working-dir", str(ROOT), "--", sys.executable, f"jobs/{name}", *arguments]


@contextmanager
def start_head() -> Iterator[Head]:
    """Start a head node, wait until it answers, and end it with the context."""
    place, token, key = Path(tempfile.mkdtemp(prefix="ray")), secrets.token_hex(32), secrets.token_hex(16)
    ports = free_ports()
    (place / "token").touch(mode=0o600)
    (place / "token").write_text(token)
    options = {"node-ip-address": HERE, "dashboard-host": HERE, "temp-dir": place, "num-cpus": 2, **ports}
    command = [RAY, "start", "--head", "--block", *LIGHT, *(f"--{name}={options[name]}" for name in options)]
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place / "token")}
    with (place / "log").open("w") as log:
        environment = {**OUTSIDE, **SETTINGS, **auth, KEY_NAME: key}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        head = Head(psutil.Process(process.pid), place, ports, token, key)
        wait_until_up(head, process)
        yield head
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        shutil.rmtree(place, ignore_errors=True)


def free_ports() -> dict[str, int]:
    """Return a free port for each of `PORTS`."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in PORTS]
        for one in found:
            one.bind((HERE, 0))
        return {name: one.getsockname()[1] for name, one in zip(PORTS, found, strict=True)}


def wait_until_up(head: Head, process: subprocess.Popen) -> None:
    """Ask until jobs API and metrics endpoint answer; fails when the head ends, or after a time."""
    for _ in range(DEADLINE_S):
        with contextlib.suppress(OSError):
            head.jobs()
            head.metric("anything")
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            break
    raise AssertionError(f"the head node does not come up:\n{(head.place / 'log').read_text()}")
