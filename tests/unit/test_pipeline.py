"""What a stage's hash covers: design section 6, item 13 (the reference's cache keys leave out most of it)."""

import sys
from pathlib import Path

import pytest

from hypsae_ray import pipeline
from hypsae_ray.config import loading
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.store.artifacts import Folder


@pytest.fixture
def tree(tmp_path: Path) -> dict:
    (tmp_path / "a.csv").write_text("text,y\nx,1\nz,2\n")
    place = str(tmp_path / "a.csv")
    return {"data": {"train": place, "holdout": place, "target": "y"}, "llm": {"model": "m/one"}}


def hashes(tree: dict, out: Path, chain: str = "main") -> dict[str, str]:
    steps = pipeline.plan(loading.parse(tree, "c"), Folder.at(out))
    return {step.stage.name: step.hash for step in steps if step.chain in (chain, "main")}


def from_stage(first: str) -> list[str]:
    """The stages from this one on; the selection of neurons is nothing to the embeddings of the holdout."""
    rest = pipeline.STAGE_NAMES[pipeline.STAGE_NAMES.index(first) :]
    return [name for name in rest if first != "select" or name != "embed_holdout"]


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"embed": {"advanced": {"layer": -2}}}, "embed"),
        ({"embed": {"prompt": "clustering: "}}, "embed"),
        ({"train_sae": {"seed": 1}}, "train_sae"),
        ({"select": {"method": "lasso"}}, "select"),
        ({"llm": {"model": "m/two"}}, "interpret"),
        ({"llm": {"model": "m/one", "revision": "abc"}}, "interpret"),
        ({"interpret": {"temperature": 0.1}}, "interpret"),
        ({"interpret": {"instructions": "these are reviews"}}, "interpret"),
        ({"score_fidelity": {"seed": 3}}, "score_fidelity"),
        ({"annotate": {"max_words": 9}}, "annotate"),
        ({"evaluate": {"alpha": 0.01}}, "evaluate"),
    ],
)
def test_a_change_reruns_its_stage_and_what_reads_it(tree: dict, tmp_path: Path, change: dict, first: str):
    after = changed(hashes(tree, tmp_path), hashes({**tree, **change}, tmp_path))
    assert after == from_stage(first)


def test_embedding_fewer_holdout_rows_leaves_the_sentences_alone(tree: dict, tmp_path: Path):
    fewer = {**tree, "annotate": {"sample": {"rows": 1, "proxies": []}}}
    after = changed(hashes(tree, tmp_path), hashes(fewer, tmp_path))
    assert after == ["embed_holdout", "annotate", "evaluate"]


def test_a_sample_with_proxies_embeds_the_whole_holdout(tree: dict, tmp_path: Path):
    fewer = {**tree, "annotate": {"sample": {"rows": 1}}}
    assert changed(hashes(tree, tmp_path), hashes(fewer, tmp_path)) == ["annotate", "evaluate"]


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"evaluate": {"covariates": False}}, True),
        ({"select": {"given": "none"}}, True),
        ({"select": {"method": "correlation", "interactions": True}}, True),
        (
            {"select": {"method": "custom", "function": "operator:add"}, "evaluate": {"covariates": False}},
            False,
        ),
    ],
)
def test_what_is_held_fixed_counts_where_neurons_are_selected_by_it(
    tree: dict, tmp_path: Path, change: dict, counts: bool
):
    known = {**tree, "data": {**tree["data"], "covariates": ["age"]}}
    same = {**known, **{name: one for name, one in change.items() if name == "select" and not counts}}
    before, after = hashes(same, tmp_path), hashes({**known, **change}, tmp_path)
    assert ("select" in changed(before, after)) == counts


def test_ways_to_hold_nothing_fixed_are_one(tree: dict, tmp_path: Path):
    known = {**tree, "data": {**tree["data"], "covariates": ["age"]}}
    ways = [{"select": {"given": "none"}}, {"evaluate": {"covariates": False}}]
    assert len({hashes({**known, **way}, tmp_path)["select"] for way in ways}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"llm": {"model": "m/one", "replicas": {"max": 4}}},
        {"embed": {"batch_size": 1}},
        {"train_sae": {"replicas": {"min": 2, "max": 2}}},
        {"report": {"texts": "none", "max_texts": 5}},
    ],
)
def test_where_and_how_fast_changes_nothing(tree: dict, tmp_path: Path, change: dict):
    assert changed(hashes(tree, tmp_path), hashes({**tree, **change}, tmp_path)) == []


def test_content_counts_and_place_does_not(tree: dict, tmp_path: Path):
    before = hashes(tree, tmp_path)
    (tmp_path / "b.csv").write_text((tmp_path / "a.csv").read_text())
    moved = {**tree, "data": {**tree["data"], "holdout": str(tmp_path / "b.csv")}}
    assert changed(before, hashes(moved, tmp_path)) == []
    (tmp_path / "b.csv").write_text("text,y\nx,1\nz,3\n")
    assert set(changed(before, hashes(moved, tmp_path))) == set(pipeline.STAGE_NAMES) - {"embed", "train_sae"}
    moved = {**tree, "data": {**tree["data"], "train": str(tmp_path / "b.csv")}}
    assert changed(before, hashes(moved, tmp_path)) == list(pipeline.STAGE_NAMES)


@pytest.mark.parametrize(("on_bad_rows", "again"), [("error", False), ("drop", True)])
def test_another_column_embeds_again_only_where_rows_may_be_dropped_for_it(
    tree: dict, tmp_path: Path, on_bad_rows: str, again: bool
):
    data = {**tree["data"], "on_bad_rows": on_bad_rows}
    before = hashes({**tree, "data": data}, tmp_path)
    after = changed(before, hashes({**tree, "data": {**data, "covariates": ["y2"]}}, tmp_path))
    assert ("embed" in after) is again
    assert {"data", "select", "evaluate"} <= set(after)


def test_the_files_of_a_local_model_count(tree: dict, tmp_path: Path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_text("one")
    tree = {**tree, "embed": {"model": str(weights.parent)}}
    before = hashes(tree, tmp_path)
    weights.write_text("another")
    assert changed(before, hashes(tree, tmp_path)) == list(pipeline.STAGE_NAMES[1:])


def test_the_source_of_a_selection_function_counts(tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    custom = {**tree, "select": {"method": "custom", "function": "own_scores:score"}}
    found = []
    for result in ("1.0", "20.0"):
        (tmp_path / "own_scores.py").write_text(f"def score(a, y):\n    return {result}\n")
        sys.modules.pop("own_scores", None)  # as a later run would find it
        found.append(hashes(custom, tmp_path))
    assert changed(*found) == from_stage("select")
    (tmp_path / "own_scores.py").write_text("HELP = 3\n\n\ndef score(a, y):\n    return 20.0\n")
    assert changed(found[1], hashes(custom, tmp_path)) == from_stage("select")  # what it may call counts too
    with pytest.raises(ConfigError, match="cannot import no_scores"):
        hashes({**tree, "select": {"method": "custom", "function": "no_scores:score"}}, tmp_path)


def test_the_baseline_shares_the_stages_before_naming(tree: dict, tmp_path: Path):
    steps = pipeline.plan(loading.parse(tree, "c"), Folder.at(tmp_path))
    named = [(step.chain, step.stage.name) for step in steps]
    chain = ["interpret", "score_fidelity", "annotate", "evaluate"]
    shared = ["data", "embed", "train_sae", "select", "embed_holdout"]
    assert named[:5] == [("main", name) for name in shared]
    assert named[5:] == [*(("keywords", name) for name in chain), *(("main", name) for name in chain)]
    keywords = loading.parse({**tree, "llm": {"engine": "keywords"}}, "c")
    alone = pipeline.plan(keywords, Folder.at(tmp_path))
    assert [step.chain for step in alone] == ["main"] * 9
    assert [s.hash for s in alone[5:]] == [s.hash for s in steps[5:9]]


def test_planning_writes_nothing_and_says_what_is_wrong(tree: dict, tmp_path: Path):
    hashes(tree, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="no such stage"):
        pipeline.plan(loading.parse(tree, "c"), Folder.at(tmp_path), until="none")
    tree["data"]["holdout"] = str(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="missing"):
        hashes(tree, tmp_path)
