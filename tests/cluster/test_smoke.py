"""The one test of a cluster in `make test`: a job is submitted, loses its actor, is stopped, and goes on."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.head import Head, start_head
from tests.cluster.labelling import REQUESTS, SHARD, TEXTS, WORDS, Labelling
from tests.integration.openai_server import serve

pytestmark = pytest.mark.cluster


@pytest.fixture
def head() -> Iterator[Head]:
    with start_head() as head:
        yield head


def kill_actor(head: Head) -> None:
    """Kill the process that asks the server."""
    below = head.process.children(recursive=True)
    (actor,) = (process for process in below if _is_replica(process))
    actor.kill()


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "ray::Replica" in " ".join(process.cmdline())
    except psutil.Error:  # it is ending
        return False


def test_the_same_command_finishes_a_job_that_lost_its_actor_and_was_stopped(head: Head, tmp_path: Path):
    with serve() as server:
        job = Labelling(head, server, tmp_path)
        server.gate = 2 * REQUESTS + REQUESTS // 2
        submitted = job.submit("first", "--no-wait")
        assert submitted.returncode == 0, submitted.stderr
        server.wait_at_gate()
        kill_actor(head)
        server.raise_gate(2 * REQUESTS)  # what the actor had in hand is asked once more
        server.wait_at_gate()
        job.stop("first")
        assert 0 < job.finished < TEXTS // SHARD
        assert job.status.startswith("stopped: ")
        assert "terminated; the same command goes on from here" in head.get("/api/jobs/first/logs")
        server.raise_gate(10**6)
        again = job.submit("second")
        assert again.returncode == 0, again.stdout
        assert len(server.bodies) - job.asked == TEXTS * len(WORDS) - job.finished * REQUESTS
    job.check_annotations()
