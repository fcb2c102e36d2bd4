"""What a run says about how long it takes, before anything is embedded."""

from pathlib import Path

import pandas as pd
import pytest

from hypsae_ray import pipeline
from hypsae_ray.commands import outlook
from hypsae_ray.config.loading import parse
from hypsae_ray.console import Console
from hypsae_ray.store.artifacts import Folder

TWO = {"replicas": {"min": 1, "max": 2, "cpus": 1}}


def said(folder: Path, embed: dict, chunk: dict | None = None) -> str:
    """What is said after stage `data` of 700 training and 100 validation texts of 140 letters each."""
    for name, n in (("train", 700), ("val", 100), ("holdout", 50)):
        texts = [f"{name:>7} {i:04d}{' wait' * 25}..." for i in range(n)]
        frame = pd.DataFrame({"text": texts, "y": [i % 5 for i in range(n)]})
        frame.to_json(folder / f"{name}.jsonl", orient="records", lines=True)
    places = {name: str(folder / f"{name}.jsonl") for name in ("train", "val", "holdout")}
    data = {**places, "target": "y", "near_copy": None, "chunk": chunk}
    config = parse({"data": data, "embed": embed, "llm": {"engine": "keywords"}}, "c.yaml")
    steps = pipeline.plan(config, Folder.at(folder / "run"))
    list(pipeline.run_steps(steps[:1], Folder.at(folder / "run"), Console()))
    (line,) = outlook.sizes(steps, config)
    return line.removeprefix("texts: 700 train, 100 val, 50 holdout; 20 neurons to name")


@pytest.mark.parametrize(
    ("embed", "expected"),
    [
        (TWO, "some 4.0 s on 2 CPU cores"),  # 800 texts of 35 tokens, by 3,500 a second on each core
        ({**TWO, "max_tokens": 7}, "some 0.8 s on 2 CPU cores"),
        ({"replicas": {"min": 1, "max": 1, "cpus": 1}}, "some 8.0 s on 1 CPU core"),
    ],
)
def test_the_time_to_embed_follows_tokens_and_cores(tmp_path: Path, embed: dict, expected: str):
    assert said(tmp_path, embed) == f"; to embed: {expected}, once the model is loaded"


def test_chunks_are_what_is_embedded(tmp_path: Path):
    line = said(tmp_path, TWO, {"words": 9, "overlap": 0})  # three of each text, a third as long
    assert 3.6 <= float(line.removeprefix("; to embed: some ").split()[0]) <= 4.4


@pytest.mark.parametrize(
    "embed",
    [{**TWO, "model": "another/model"}, {**TWO, "dtype": "bfloat16"}, {"replicas": {"min": 1, "gpus": 1}}],
)
def test_no_time_is_said_where_none_was_measured(tmp_path: Path, embed: dict):
    assert said(tmp_path, embed) == ""
