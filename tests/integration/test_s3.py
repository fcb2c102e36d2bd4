"""A run from S3 to S3, and labelling to S3 interrupted and done twice, on a real S3 server on loopback."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.fs as pafs
import pytest
from moto.server import ThreadedMotoServer

from hypsae_ray import cli
from hypsae_ray.commands import runner
from hypsae_ray.commands.annotation import status
from hypsae_ray.config import loading
from hypsae_ray.errors import UsageError
from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.read import find_annotations
from hypsae_ray.models.protocols import ANNOTATION_ARRAYS
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status
from tests.deadline import DEADLINE_S
from tests.integration.openai_server import Server, serve

JOB = Path(__file__).parents[2] / "jobs" / "annotate.py"
WORDS = ("bread", "rain")
TEXTS, SHARD, AT_ONCE = 60, 10, 4
REQUESTS = SHARD * len(WORDS)  # of a shard
WITHOUT_TEXT = 25


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URI of a bucket with a place for the rest of the path: `bucket.format("run")`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        place = f"s3://reviews/{{}}?scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"
        filesystem, _ = pafs.FileSystem.from_uri(place.format(""))
        filesystem.create_dir("reviews")
        yield place
    server.stop()


def test_a_run_on_s3_is_that_on_local_disk(
    bucket: str, demo_tree: dict, demo_folder: Path, demo_run: Path, capsys: pytest.CaptureFixture
):
    for name in ("train.jsonl", "holdout.jsonl"):
        Folder.at(bucket.format("data")).write_bytes(name, (demo_folder / name).read_bytes())
    data = {"train": bucket.format("data/train*.jsonl"), "holdout": bucket.format("data/holdout.jsonl")}
    settings = loading.parse({**demo_tree, "data": {**demo_tree["data"], **data}}, "s3")
    run = runner.run(settings, bucket.format("run"))
    pd.testing.assert_frame_equal(
        run.evaluation, runner.run(loading.parse(demo_tree, "c"), str(demo_run)).evaluation
    )
    again = runner.run(settings, bucket.format("run"), show=print)
    assert all(record.reused for record in again.records)
    assert "nothing to do" in capsys.readouterr().out


def test_a_bucket_that_is_not_there_is_told_in_one_line(bucket: str):
    nowhere = bucket.replace("s3://reviews", "s3://nowhere").replace("&allow_bucket_creation=true", "")
    with pytest.raises(UsageError) as told:
        Folder.at(nowhere.format("run")).write_bytes("x", b"1")
    assert str(told.value) == "nowhere/run: cannot be written: no such bucket; choose another path"


@dataclass
class Drivers:
    """Processes that do the same job: a chat server labels texts; one row has none."""

    server: Server
    folder: Path
    started: dict[subprocess.Popen, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts: list[str | None] = [f"text {i} with {WORDS[i % 3 == 0]}" for i in range(TEXTS)]
        texts.insert(WITHOUT_TEXT, None)
        pd.DataFrame({"text": texts}).to_json(self.folder / "data.jsonl", orient="records", lines=True)
        (self.folder / "h.csv").write_text("\n".join(["hypothesis", *(f"mentions {w}" for w in WORDS)]))

    def arguments(self, out: str) -> list[str]:
        endpoint = f"{{url: '{self.server.url}', concurrency: {AT_ONCE}, timeout_s: 3600}}"
        engine = ["--llm.engine=endpoint", "--llm.model=m", f"--llm.endpoint={endpoint}"]
        here = ["--llm.replicas", "{min: 0, max: 0}", "--annotate.shard_rows", str(SHARD)]
        files = ["--data", f"{self.folder}/data.jsonl", "--hypotheses", f"{self.folder}/h.csv"]
        return [*files, "--out", out, *engine, *here]

    def start(self, out: str) -> subprocess.Popen:
        command, log = [sys.executable, JOB, *self.arguments(out)], self.folder / f"{len(self.started)}.log"
        with log.open("w") as stderr:
            self.started[driver := subprocess.Popen(command, stderr=stderr)] = log
        return driver

    def start_and_hold(self, out: str) -> subprocess.Popen:
        """Start a driver; return it when two shards are finished and requests of the third one are held."""
        self.server.raise_gate(2 * REQUESTS + REQUESTS // 2)
        driver = self.start(out)
        self.server.wait_at_gate(AT_ONCE)
        return driver

    def finish(self, *drivers: subprocess.Popen) -> None:
        for driver in drivers:
            assert driver.wait(DEADLINE_S) == 0, self.said(driver)

    def said(self, driver: subprocess.Popen) -> str:
        return self.started[driver].read_text()

    def check(self, out: str) -> None:
        """Compare a table with that of an undisturbed job, and with the odds that the server tells."""
        calm = str(self.folder / "calm")
        assert cli.main(["annotate", *self.arguments(calm)]) == 0
        row_ids, p_yes, _, status = found = annotations(out)
        assert [array.tobytes() for array in found] == [array.tobytes() for array in annotations(calm)]
        assert row_ids.tolist() == list(range(TEXTS + 1))
        assert np.flatnonzero((status == Status.NO_TEXT).all(axis=1)).tolist() == [WITHOUT_TEXT]
        rain = np.arange(TEXTS) % 3 == 0
        expected = np.where(np.column_stack([~rain, rain]), 0.8 / 0.9, 0.2 / 0.8)
        np.testing.assert_allclose(np.delete(p_yes, WITHOUT_TEXT, axis=0), expected, rtol=1e-6)


def annotations(out: str) -> list[np.ndarray]:
    row_ids, scores = read_annotation_table(find_annotations(out), "annotations-00000.parquet")
    return [row_ids, *(getattr(scores, name) for name in ANNOTATION_ARRAYS)]


def count_shards(out: str) -> int:
    answers = Folder.at(out).sub("answers")
    found = answers.filesystem.get_file_info(pafs.FileSelector(answers.path, recursive=True))
    return sum(info.base_name.startswith("shard-") for info in found)


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[Drivers]:
    with serve() as server:
        drivers = Drivers(server, tmp_path)
        yield drivers
        for driver in drivers.started:
            driver.kill()
            driver.wait()


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_on_s3_stops_at_once_and_goes_on_from_there(
    bucket: str, drivers: Drivers, by: signal.Signals, code: int
):
    out, server = bucket.format(f"interrupted-{code}"), drivers.server
    driver = drivers.start_and_hold(out)
    driver.send_signal(by)
    assert driver.wait(DEADLINE_S) == code
    assert status(out).startswith("stopped: ")
    assert "the same command goes on from here" in drivers.said(driver)
    assert "Traceback" not in drivers.said(driver)
    assert count_shards(out) == 2
    asked = len(server.bodies)
    server.raise_gate(10**6)
    assert cli.main(["annotate", *drivers.arguments(out)]) == 0
    assert len(server.bodies) - asked == TEXTS * len(WORDS) - 2 * REQUESTS
    drivers.check(out)


def test_a_second_driver_of_a_job_on_s3_says_so_and_the_result_is_the_same(bucket: str, drivers: Drivers):
    out, server = bucket.format("doubled"), drivers.server
    first = drivers.start_and_hold(out)
    second = drivers.start(out)
    server.wait_at_gate(2 * AT_ONCE)
    assert "another job is at work here" in drivers.said(second)
    assert "another job" not in drivers.said(first)
    server.raise_gate(10**6)
    drivers.finish(first, second)
    assert count_shards(out) == TEXTS // SHARD
    drivers.check(out)
