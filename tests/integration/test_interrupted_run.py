"""Ctrl-C in the middle of `hypsae run`, with Ray at work; and the key of its server, that no log may hold."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from hypsae_ray import pipeline
from hypsae_ray.cli import GOES_ON, INTERRUPTED
from tests.conftest import NOISE, OURS
from tests.integration.openai_server import Fault, Server, serve

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KEY = "sk-5tRq-in-no-log-of-a-run"
NAMED = pipeline.STAGE_NAMES.index("interpret") + 1
HERE = {"min": 0, "max": 0}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as chat:
        yield chat


@pytest.fixture
def tree(server: Server, tmp_path: Path) -> dict:
    """A config with vectors of its own; an LLM in this process names, and the same one in Ray labels."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 8))
    texts = [f"text {i} about {'rain' if vector[0] > 0 else 'bread'}" for i, vector in enumerate(vectors)]
    frame = pd.DataFrame({"text": texts, "y": vectors[:, 0], "vector": vectors.tolist()})
    frame.to_json(tmp_path / "data.jsonl", orient="records", lines=True)
    llm = {"engine": "endpoint", "model": "m", "endpoint": {"url": server.url, "key_env": "HYPSAE_TEST_KEY"}}
    return {
        "data": {
            "train": str(tmp_path / "data.jsonl"),
            "holdout_fraction": 0.3,
            "target": "y",
            "near_copy": None,
        },
        "embed": {"engine": "column", "column": "vector"},
        "train_sae": {"n_neurons": 8, "k": 2, "prefix_lengths": [8], "max_epochs": 2},
        "select": {"n": 2},
        "llm": {**llm, "replicas": {"min": 1, "max": 1, "cpus": 1}},
        "interpret": {"n_candidates": 1, "llm": {**llm, "replicas": HERE}},
        "score_fidelity": {"n_examples": 4},
        "evaluate": {"n_bootstrap": 0, "n_permutations": 0, "folds": 0},
    }


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, and a client library that logs all it can."""
    monkeypatch.setenv("HYPSAE_TEST_KEY", KEY)
    monkeypatch.setenv("OPENAI_LOG", "debug")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_run_that_is_interrupted_says_so_in_one_line_and_goes_on(
    environment: None, server: Server, tree: dict, run_apart: Callable, tmp_path: Path
):
    out, file = tmp_path / "run", tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "hypsae_ray.cli", "run", "--config", str(file), "--out", str(out)]
    server.faults.append(Fault.error(500, f"a server that repeats the key: {KEY}"))
    server.gate = 10
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as job:
        server.wait_at_gate()
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        told, said = job.communicate()
    assert (job.returncode, told) == (INTERRUPTED, ""), said
    *ours, last = said.splitlines()
    assert last == f"hypsae: interrupted; {GOES_ON}"
    assert [line for line in ours if not OURS.fullmatch(line)] == []
    assert ours[-1].startswith("score_fidelity")

    asked = len(server.bodies)
    server.raise_gate(10**6)
    again = run_apart(tree, out)
    done = again.stderr.splitlines()[0].removeprefix("done before: ").split(", ")
    assert [name for name in done if "(" not in name] == list(pipeline.STAGE_NAMES[:NAMED])
    assert len(server.bodies) > asked

    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    log = (out / "run.log").read_text()
    assert "openai" in log and "ray" in log.lower()
    assert KEY not in log + said + again.stdout + again.stderr
    assert not NOISE.search(again.stdout)
