"""A whole run with an LLM, small and random: vLLM in a Ray actor, and the keyword baseline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hypsae_ray
from hypsae_ray import config, pipeline
from hypsae_ray.commands import runner
from hypsae_ray.config import loading
from hypsae_ray.report import words
from hypsae_ray.report.page import render, report_data
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.store.artifacts import Folder

pytestmark = [pytest.mark.llm, pytest.mark.cluster]


@pytest.fixture(scope="module")
def run(
    demo_tree: dict, small_llm: str, run_apart: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> runner.Run:
    """Two neurons, eight holdout texts in two shards, on a CPU that is to do without bfloat16.

    The command line runs it, and what it prints is looked at: nothing of Ray or vLLM may be in it.
    """
    tree = {
        **demo_tree,
        "select": {"n": 2},
        "llm": {"model": small_llm, "max_model_len": 1024, "replicas": {"cpus": 2}},
        "interpret": {"n_candidates": 2, "n_examples": 4, "max_words": 20, "max_tokens": 40},
        "score_fidelity": {"n_examples": 4, "max_words": 20},
        "annotate": {"sample": {"rows": 8}, "max_words": 30, "shard_rows": 5},
    }
    out = tmp_path_factory.mktemp("llm") / "run"
    told = run_apart(tree, out, ATEN_CPU_CAPABILITY="avx2").stderr
    assert f"LLM: {small_llm} by vllm, replicas in Ray: 1, each with 2 CPUs" in told
    return runner.run(loading.parse(tree, "llm"), str(out))


def test_every_pair_of_text_and_hypothesis_is_answered(run: runner.Run):
    (annotate,) = [r for r in run.records if r.step.stage.name == "annotate" and r.step.chain == "main"]
    facts, usage = annotate.manifest.outcome.facts, annotate.manifest.outcome.usage
    assert facts["shards"] == 2
    assert [line.rpartition(", ")[2] for line in facts["made_with"]] == ["precision float32"]
    assert sum(facts["answers"].values()) == 8 * 2
    sentences = run.chains[pipeline.MAIN].hypotheses["interpretation"].dropna().unique()
    assert usage.generated == 8 * len(sentences) > 0  # one token for each answer, equal sentences asked once
    labelled = facts["answers"].get("ok", 0) + facts["answers"].get("cut", 0)
    assert 0 < usage.cached < usage.prompt
    p_yes = hypsae_ray.load_annotations(annotate.step.folder.path)
    assert len(p_yes) == 8 and (np.diff(p_yes.index) > 0).all()  # drawn at random, in order
    assert ((p_yes >= 0) & (p_yes <= 1)).to_numpy().sum() == labelled


def test_the_baseline_stands_beside_the_llm(run: runner.Run):
    assert set(run.chains) == {pipeline.MAIN, pipeline.BASELINE}
    sentences = run.chains[pipeline.BASELINE].evaluation["hypothesis"]
    assert sentences.str.startswith("mentions ").all()
    folder = Path(run.out.path)
    for name in ("evaluation.csv", "keywords_evaluation.csv"):
        assert len(pd.read_csv(folder / name)) == 2
    assert set(json.loads((folder / "metrics.json").read_text())) == {"main", "keywords"}
    compared = pd.read_csv(folder / "chain.csv")["features"].tolist()
    assert compared == ["embedding", "neurons", "selected neurons", "hypotheses", "keywords"]
    assert sentences[0].split()[-1].strip('"') in (folder / "report.html").read_text()


def test_the_report_tells_what_a_known_model_is_worth(run: runner.Run, monkeypatch: pytest.MonkeyPatch):
    known = run.records[-1].step.config.llm.model
    monkeypatch.setitem(words.CAVEATS, known, "a random model: not what the method can do")
    assert words.CAVEATS[known] in render(report_data(RunFolder.at(run.out), run.chains))


def test_the_same_again_loads_no_model(run: runner.Run):
    saved = json.loads((Path(run.out.path) / "run.json").read_text())
    again = runner.run(config.Config.model_validate(saved["config"]), run.out.path)
    assert all(record.reused for record in again.records)
    assert Folder.at(run.out.path).read_json("run.json") == saved
