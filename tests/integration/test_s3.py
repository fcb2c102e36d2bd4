"""A whole run from S3 to S3, on a real S3 server on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.fs as pafs
import pytest
from moto.server import ThreadedMotoServer

from hypsae_ray import config_file, runner
from hypsae_ray.artifacts import Folder


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
    settings = config_file.parse({**demo_tree, "data": {**demo_tree["data"], **data}}, "s3")
    run = runner.run(settings, bucket.format("run"))
    pd.testing.assert_frame_equal(
        run.evaluation, runner.run(config_file.parse(demo_tree, "c"), str(demo_run)).evaluation
    )
    again = runner.run(settings, bucket.format("run"), show=print)
    assert all(record.reused for record in again.records)
    assert "nothing to do" in capsys.readouterr().out
