"""`ray job submit` to a cluster that the test starts, on ports of its own."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled"}
ENVIRONMENT.pop("RAY_ADDRESS", None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Address of the jobs API of a head node on loopback; the node ends with its `--block` process."""
    port, place = free_port(), tempfile.mkdtemp(prefix="ray")  # sockets need a short path
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1",
               f"--port={free_port()}", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
               "--include-dashboard=true",
               f"--ray-client-server-port={free_port()}", f"--temp-dir={place}"]  # fmt: skip
    with Path(place, "log").open("w") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)
        try:
            wait_until_up(head, f"http://127.0.0.1:{port}/api/version", Path(place, "log"))
            yield f"http://127.0.0.1:{port}"
        finally:
            head.terminate()
            head.wait(60)
            shutil.rmtree(place, ignore_errors=True)


def wait_until_up(head: subprocess.Popen, url: str, log: Path) -> None:
    """Ask until the jobs API answers; fails when the head ends, or after two minutes."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                head.wait(1)
                break
    pytest.fail(f"the head node does not come up:\n{log.read_text()}")


def submit(dashboard: str, *arguments: str) -> subprocess.CompletedProcess:
    """Submit jobs/run.py from the root of the project, and wait for its end."""
    command = [RAY, "job", "submit", "--address", dashboard, "--working-dir", str(ROOT), "--",
               sys.executable, "jobs/run.py", *arguments]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=600)


def test_a_submitted_run_prints_its_table(dashboard: str, demo_tree: dict, demo_run: Path, tmp_path: Path):
    shutil.copytree(demo_run / "stages", tmp_path / "run" / "stages")
    for stage in ("interpret", "score_fidelity", "annotate", "evaluate"):  # left for the cluster to do
        for folder in (tmp_path / "run" / "stages").glob(f"{stage}-*"):
            shutil.rmtree(folder)
    tree = {**demo_tree, "llm": {"engine": "keywords", "replicas": {"min": 1, "max": 2}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    done = submit(dashboard, "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hypotheses significant" in done.stdout
    assert "evaluate" in done.stdout
    by_actors = (tmp_path / "run" / "evaluation.csv").read_text()
    assert by_actors == (demo_run / "evaluation.csv").read_text()
    stages = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    assert [s["stage"] for s in stages if not s["reused"]] == [
        "interpret", "score_fidelity", "annotate", "evaluate"]  # fmt: skip


def test_a_job_with_bad_input_fails_and_says_why(dashboard: str, tmp_path: Path):
    tree = {"data": {"train": str(tmp_path / "none.csv"), "holdout": "none.csv", "target": "y"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    done = submit(dashboard, "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "none.csv: no such file or folder" in done.stdout
