"""`ray job submit` to a head node that asks for a token: who is refused, a run, and a job that is stopped.

What `cluster/README.md` says of tokens and keys is tested here.
"""

import json
import shutil
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray._common.test_utils import wait_for_condition

from tests.cluster.head import STRANGERS, Head, script, start_head
from tests.cluster.labelling import REQUESTS, SHARD, TEXTS, WORDS, Labelling
from tests.deadline import DEADLINE_S
from tests.integration.openai_server import CACHED_TOKENS, PROMPT_TOKENS, serve

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with start_head() as head:
        yield head


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_job_without_the_token(head: Head, stranger: str, tmp_path: Path):
    before = head.jobs()
    arguments = ["--config", "jobs/configs/demo.yaml", "--out", str(tmp_path / "run")]
    refused = head.job("submit", *script("run.py", arguments), environment=STRANGERS[stranger])
    assert refused.returncode == 1
    assert "authentication token" in refused.stderr
    assert head.jobs() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/api/jobs/", "/nodes?view=summary", "/api/cluster_status"])
def test_the_dashboard_tells_nothing_without_the_token(head: Head, path: str):
    for token, code in (("", 401), ("wrong", 403)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            head.get(path, token)
        assert refused.value.code == code
    assert json.loads(head.get(path)) is not None


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_driver_without_the_token(head: Head, stranger: str):
    code = f"import ray; ray.init('127.0.0.1:{head.ports['port']}'); print('it is in')"
    command = [sys.executable, "-c", code]
    environment = {**STRANGERS[stranger], "RAY_NUM_REDIS_GET_RETRIES": "1"}  # not 20, a second each
    driver = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE_S)
    assert driver.returncode == 1
    assert driver.stdout == ""
    assert "InvalidAuthToken" in driver.stderr


def test_a_submitted_run_prints_its_table(head: Head, demo_tree: dict, demo_run: Path, tmp_path: Path):
    shutil.copytree(demo_run / "stages", tmp_path / "run" / "stages")
    for stage in ("interpret", "score_fidelity", "annotate", "evaluate"):  # left for the cluster to do
        for folder in (tmp_path / "run" / "stages").glob(f"{stage}-*"):
            shutil.rmtree(folder)
    tree = {**demo_tree, "llm": {"engine": "keywords", "replicas": {"min": 1, "max": 1}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    arguments = ["--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    done = head.job("submit", *script("run.py", arguments))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hypotheses significant" in done.stdout
    assert "evaluate" in done.stdout
    by_actors = (tmp_path / "run" / "evaluation.csv").read_text()
    assert by_actors == (demo_run / "evaluation.csv").read_text()
    stages = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    assert [s["stage"] for s in stages if not s["reused"]] == [
        "interpret", "score_fidelity", "annotate", "evaluate"]  # fmt: skip


def test_a_job_with_bad_input_fails_and_says_why(head: Head, tmp_path: Path):
    tree = {"data": {"train": str(tmp_path / "none.csv"), "holdout": "none.csv", "target": "y"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    arguments = ["--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    done = head.job("submit", *script("run.py", arguments))
    assert done.returncode == 1
    assert "none.csv: no such file or folder" in done.stdout


@pytest.fixture(scope="module")
def stopped(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labelling]:
    """The job, stopped in the middle."""
    with serve() as server:
        labelling = Labelling(head, server, tmp_path_factory.mktemp("job"))
        server.gate = 2 * REQUESTS + REQUESTS // 2
        submitted = labelling.submit("first", "--no-wait")
        assert submitted.returncode == 0, submitted.stderr
        server.wait_at_gate()
        labelling.look()
        labelling.stop("first")
        yield labelling
        server.raise_gate(10**6)


def test_a_stopped_job_ends_in_order(head: Head, stopped: Labelling):
    assert 0 < stopped.finished < TEXTS // SHARD
    assert stopped.status.startswith("stopped: ")
    assert f"in all: {stopped.finished} finished shards" in stopped.status
    log = head.get("/api/jobs/first/logs")
    assert "terminated; the same command goes on from here" in log
    assert "Traceback" not in log
    assert not any("ray::Replica" in command for command in head.commands())


def test_metrics_tell_what_is_done_while_it_is_done(stopped: Labelling):
    answers = stopped.finished * REQUESTS
    assert stopped.count("shards_total") == stopped.finished
    assert stopped.count("answers_total") == stopped.count("answers_total", status="ok") == answers
    assert stopped.count("tokens_total", kind="prompt") == answers * PROMPT_TOKENS
    assert stopped.count("tokens_total", kind="cached") == answers * CACHED_TOKENS
    assert stopped.count("tokens_total", kind="generated") == answers
    assert stopped.count("errors_total") == 0
    assert 0 < stopped.count("seconds_total", kind="engine") <= stopped.count("seconds_total", kind="shard")


def test_the_same_command_finishes_a_stopped_job_and_asks_nothing_twice(head: Head, stopped: Labelling):
    stopped.server.raise_gate(10**6)
    again = stopped.submit("second")
    assert again.returncode == 0, again.stdout
    assert len(stopped.server.bodies) - stopped.asked == TEXTS * len(WORDS) - stopped.finished * REQUESTS
    stopped.check_annotations()
    wait_for_condition(
        lambda: stopped.count("shards_total", outcome="done") == TEXTS // SHARD, timeout=DEADLINE_S
    )


def test_the_endpoint_gets_the_key_and_nobody_else_sees_it(head: Head, stopped: Labelling):
    sent = {headers["authorization"] for headers in stopped.server.headers}
    assert sent == {f"Bearer {head.key}"}
    for secret in (head.key, head.token):
        assert secret not in stopped.seen
        assert secret not in head.get("/api/jobs/first/logs")
        assert secret not in json.dumps(head.jobs())
        for folder in (head.place, stopped.folder):
            assert holding(folder, secret) <= {head.place / "token"}


def holding(folder: Path, secret: str) -> set[Path]:
    """Return the files below a folder that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path for path in files if secret.encode() in path.read_bytes()}
