"""`cluster/drain.py` against a real metadata server on loopback; `--command` stands in for `ray`."""

import importlib.util
import json
import stat
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from tests.deadline import DEADLINE_S

DRAIN = Path(__file__).parents[2] / "cluster" / "drain.py"
LOOKS = 3  # the notice stands from this look on


@pytest.fixture(scope="module")
def drain() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("drain", DRAIN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Metadata(BaseHTTPRequestHandler):
    """What EC2 (IMDSv2) and Compute Engine answer, on the paths that tell of an end."""

    looks = 0

    def do_PUT(self) -> None:
        asked = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if asked else 404, "the-session")

    def do_GET(self) -> None:
        if self.path == "/latest/meta-data/spot/instance-action":
            self._aws()
        elif self.path == "/computeMetadata/v1/instance/preempted":
            known = self.headers["Metadata-Flavor"] == "Google"
            self._answer(200 if known else 403, "TRUE" if self._due() else "FALSE")
        else:
            self._answer(404, "")

    def _aws(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "the-session":
            self._answer(401, "")
        elif not self._due():
            self._answer(404, "")
        else:
            end = datetime.now(UTC) + timedelta(seconds=119)
            stamp = end.isoformat(timespec="seconds").replace("+00:00", "Z")
            self._answer(200, json.dumps({"action": "terminate", "time": stamp}))

    def _due(self) -> bool:
        type(self).looks += 1
        return self.looks >= LOOKS

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def metadata() -> Iterator[str]:
    """Address of a metadata server whose third look finds a notice."""
    Metadata.looks = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def ray(tmp_path: Path) -> Path:
    """A command that writes down its arguments, one a line, and ends with 0."""
    command = tmp_path / "ray"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$(dirname "$0")/asked"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def asked(ray: Path) -> dict[str, str]:
    """The options that the command was given; its first word under "command"."""
    command, *options = ray.with_name("asked").read_text().splitlines()
    return {"command": command, **dict(zip(options[::2], options[1::2], strict=True))}


@pytest.mark.parametrize(("cloud", "least", "most"), [("aws", 110, 119), ("gcp", 25, 25)])
def test_a_notice_drains_the_node_in_the_time_that_is_left(
    drain: ModuleType, metadata: str, ray: Path, cloud: str, least: int, most: int
):
    words = ["--watch", cloud, "--every", "0.01", "--metadata", metadata, "--node-id", "f00d"]
    assert drain.main([*words, "--command", str(ray)]) == 0
    assert Metadata.looks == LOOKS
    told = asked(ray)
    assert told["command"] == "drain-node"
    assert told["--node-id"] == "f00d"
    assert told["--reason"] == "DRAIN_NODE_REASON_PREEMPTION"
    assert least <= int(told["--deadline-remaining-seconds"]) <= most


def test_a_hook_drains_at_once(drain: ModuleType, ray: Path):
    assert drain.main(["--seconds", "90", "--node-id", "f00d", "--command", str(ray)]) == 0
    assert asked(ray)["--deadline-remaining-seconds"] == "90"


def test_a_drain_that_ray_refuses_ends_in_its_exit_code(drain: ModuleType):
    assert drain.main(["--node-id", "f00d", "--command", "false"]) == 1


@pytest.fixture
def raylet() -> Iterator[subprocess.Popen]:
    """A process that looks like the raylet of node f00d, until it is told to end."""
    words = ["raylet", "-c", "read _; :", "raylet", "--node_id=f00d"]
    with subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE) as process:
        yield process
        process.terminate()


def test_a_hook_that_waits_returns_when_the_node_is_gone(
    drain: ModuleType, raylet: subprocess.Popen, ray: Path
):
    ray.write_text(f"#!/bin/sh\nkill {raylet.pid}\n")
    assert "f00d" in drain.local_nodes()
    assert drain.main(["--wait", "--seconds", "3600", "--node-id", "f00d", "--command", str(ray)]) == 0
    assert raylet.wait(DEADLINE_S) != 0


def test_a_hook_waits_no_longer_than_it_may(drain: ModuleType, raylet: subprocess.Popen, ray: Path):
    assert drain.main(["--wait", "--seconds", "1", "--node-id", "f00d", "--command", str(ray)]) == 0
    assert raylet.poll() is None


def test_a_metadata_server_that_does_not_answer_is_no_notice(drain: ModuleType, capsys):
    assert drain._aws_seconds("http://127.0.0.1:9") is None
    assert "http://127.0.0.1:9/latest/api/token" in capsys.readouterr().err


def test_ray_knows_the_options_that_it_is_given(drain: ModuleType, ray: Path):
    from ray.scripts.scripts import drain_node

    drain.drain(str(ray), "f00d", 90)
    known = {name for option in drain_node.params for name in option.opts}
    told = asked(ray)
    assert set(told) - {"command"} <= known
    (reason,) = [option for option in drain_node.params if "--reason" in option.opts]
    assert told["--reason"] in reason.type.choices
