"""A job that labels texts on a head node, to be disturbed."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from ray._common.test_utils import wait_for_condition

from hypsae_ray.commands.annotation import status
from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.read import find_annotations
from tests.cluster.head import KEY_NAME, Head, script
from tests.deadline import DEADLINE_S
from tests.integration.openai_server import Server

WORDS = ("bread", "rain")
TEXTS, SHARD = 60, 10
REQUESTS = SHARD * len(WORDS)  # of a shard


@dataclass
class Labelling:
    """A job whose texts a chat server labels: it is stopped while requests are held, and submitted again.

    Attributes:
        head: where it runs.
        server: what it asks.
        folder: of data and result.
        seen: what others can see of it while it works: the arguments of all processes, and of all jobs.
        status: what `hypsae status` says when it is stopped.
        finished: shards that are finished then.
        asked: requests up to then.
    """

    head: Head
    server: Server
    folder: Path
    seen: str = ""
    status: str = ""
    finished: int = 0
    asked: int = 0

    @property
    def out(self) -> Path:
        return self.folder / "labels"

    def submit(self, job: str, *options: str) -> subprocess.CompletedProcess:
        endpoint = {"url": self.server.url, "concurrency": 2, "timeout_s": 300, "key_env": KEY_NAME}
        llm = {"engine": "endpoint", "model": "m", "endpoint": endpoint, "replicas": {"min": 1, "max": 1}}
        texts = [f"text {i} with {WORDS[i % 3 == 0]}" for i in range(TEXTS)]
        one_request = {"guard": False}  # of a pair
        config = {"llm": llm, "label": one_request, "annotate": {"shard_rows": SHARD}}
        (self.folder / "c.yaml").write_text(yaml.safe_dump(config))
        pd.DataFrame({"text": texts}).to_json(self.folder / "data.jsonl", orient="records", lines=True)
        (self.folder / "h.csv").write_text("\n".join(["hypothesis", *(f"mentions {w}" for w in WORDS)]))
        names = {"config": "c.yaml", "data": "data.jsonl", "hypotheses": "h.csv", "out": "labels"}
        arguments = [word for name, file in names.items() for word in (f"--{name}", str(self.folder / file))]
        return self.head.job("submit", "--submission-id", job, *options, *script("annotate.py", arguments))

    def check_annotations(self) -> None:
        """Compare the table with the odds that the server tells."""
        row_ids, scores = read_annotation_table(find_annotations(str(self.out)), "annotations-00000.parquet")
        assert row_ids.tolist() == list(range(TEXTS))
        rain = np.arange(TEXTS) % 3 == 0
        expected = np.where(np.column_stack([~rain, rain]), 0.8 / 0.9, 0.2 / 0.8)
        np.testing.assert_allclose(scores.p_yes, expected, rtol=1e-6)

    def count(self, name: str, **labels: str) -> float:
        return self.head.metric(f"ray_hypsae_{name}", run="labels", **labels)

    def shards(self) -> int:
        return len(list(self.out.glob("answers/*/shard-*")))

    def look(self) -> None:
        """Note what can be seen of the job now."""
        commands = self.head.commands()
        assert any("ray::Replica" in command for command in commands)
        self.seen = json.dumps([commands, self.head.jobs()])
        wait_for_condition(self._is_told, timeout=DEADLINE_S)

    def _is_told(self) -> bool:
        """Whether the metrics know of all there is, which they learn one after the other."""
        done = self.count("shards_total", outcome="done")
        return done == self.shards() > 0 and self.count("seconds_total", kind="shard") > 0

    def stop(self, job: str) -> None:
        """Stop the job, and note what it leaves."""
        stopped = self.head.job("stop", job)
        assert stopped.returncode == 0, stopped.stderr
        assert self.head.jobs()[job]["status"] == "STOPPED"
        self.status, self.finished, self.asked = status(str(self.out)), self.shards(), len(self.server.bodies)
