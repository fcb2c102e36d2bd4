"""`annotate.sample` in whole runs with keywords: which rows are labelled, and what is said of all."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import hypsae_ray as hr
from hypsae_ray import cli
from hypsae_ray.commands import outlook, runner, trade
from hypsae_ray.config import loading
from hypsae_ray.console import Console
from hypsae_ray.data.arrays import hash_ids
from hypsae_ray.labels.draw import uniform_numbers
from hypsae_ray.stages import annotate
from hypsae_ray.store.schema import Status

N, H = 200, 8  # of the demo's holdout and hypotheses


@pytest.fixture
def place(demo_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run without what was labelled: its sentences are there."""
    shutil.copytree(demo_run, tmp_path / "run", ignore=shutil.ignore_patterns("annotate-*", "evaluate-*"))
    shutil.rmtree(tmp_path / "run" / "answers")
    return tmp_path / "run"


def run(tree: dict, place: Path, **sample) -> runner.Run:
    changed = {**tree, "annotate": {**tree["annotate"], "sample": sample}}
    return runner.run(loading.parse(changed, "sample"), str(place))


def stored(finished: runner.Run) -> pd.DataFrame:
    """row_id, probability and uniform of the annotated rows."""
    (folder,) = (r.step.folder for r in finished.records if r.step.stage.name == "annotate")
    tables = [folder.read_table(name) for name in folder.names("annotations-", ".parquet")]
    return pd.concat(
        table.select(["row_id", "probability", "uniform"]).to_pandas() for table in tables
    ).reset_index(drop=True)


def pairs_asked(place: Path) -> int:
    """Pairs in all shards that were ever written: one that was asked twice counts twice."""
    shards = [pd.read_parquet(path, columns=["status"]) for path in (place / "answers").glob("*/shard-*")]
    return sum(int((np.stack(shard["status"]) != Status.UNASKED).sum()) for shard in shards)


def first_by_hash(n: int) -> set[int]:
    return set(np.argsort(hash_ids(np.arange(N)))[:n].tolist())


def coefficients(finished: runner.Run) -> pd.DataFrame:
    return finished.chains["main"].evaluation.set_index("hypothesis_id")


def test_further_rows_are_drawn_by_what_the_first_ones_say(demo_tree: dict, place: Path, demo_run: Path):
    finished = run(demo_tree, place, rows=120, first=60)
    rows = stored(finished)
    assert set(rows.loc[rows["uniform"], "row_id"]) == first_by_hash(60)
    later = (rows["probability"] - 0.3) / 0.7  # 60 of 200 were drawn first
    assert (later >= 0.2 * 60 / 0.7 / N - 1e-9).all() and later.nunique() > 20
    below = uniform_numbers(rows["row_id"].to_numpy()) < later
    assert (below | rows["uniform"]).all()
    assert 95 < len(rows) < 145  # 120, with a standard deviation of 6
    # Weighted by one over their probabilities, they stand for all rows.
    assert (1 / rows["probability"]).sum() == pytest.approx(N, rel=0.15)
    metrics = finished.chains["main"].metrics
    assert (metrics["n"], metrics["n_all"], metrics["n_uniform"]) == (len(rows), N, 60)
    assert metrics["effective_labels"] > len(rows)  # keywords are easy to predict
    found, whole = coefficients(finished), pd.read_csv(demo_run / "evaluation.csv")
    off = (found["regression_coef"].to_numpy() - whole["regression_coef"]) / whole["regression_se"]
    assert off.abs().max() < 2.5
    report = (place / "report.html").read_text()
    assert f"{len(rows)} of {N} rows were labelled" in report
    assert "Kluger" in report


def test_more_rows_hold_the_fewer_ones_and_no_label_is_paid_twice(demo_tree: dict, place: Path):
    before: set[int] = set()
    for size in (50, 80, 130):
        finished = run(demo_tree, place, rows=size, first=50)
        rows = stored(finished)
        assert before <= set(rows["row_id"])
        before = set(rows["row_id"])
        assert pairs_asked(place) == len(before) * H
    assert len(before) > 100


def test_a_run_that_was_stopped_between_waves_goes_on(demo_tree: dict, place: Path, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(annotate, "draw_further", stop)
        with pytest.raises(KeyboardInterrupt):
            run(demo_tree, place, rows=120, first=60)
    assert pairs_asked(place) == 60 * H
    other = tmp_path / "other"
    shutil.copytree(place, other)
    shutil.rmtree(other / "answers")
    finished, uninterrupted = (run(demo_tree, where, rows=120, first=60) for where in (place, other))
    pd.testing.assert_frame_equal(stored(finished), stored(uninterrupted))
    pd.testing.assert_frame_equal(coefficients(finished), coefficients(uninterrupted))
    assert pairs_asked(place) == len(stored(finished)) * H


def test_a_half_width_says_how_many_rows_it_takes(demo_tree: dict, place: Path):
    wide, narrow = (
        run(demo_tree, place, half_width=width, first=60, hypotheses=[0, 1]) for width in (1.2, 0.5)
    )
    assert len(stored(wide)) < len(stored(narrow)) <= N
    found = coefficients(narrow)
    half = (found["regression_ci_high"] - found["regression_ci_low"])[:2] / 2
    assert (half < 0.55).all()


@pytest.mark.parametrize(
    "sample", [{"share": 0.3, "active": False}, {"rows": 60, "proxies": []}, {"rows": 60}]
)
def test_a_uniform_sample_is_that_of_the_hashes(demo_tree: dict, place: Path, sample: dict):
    finished = run(demo_tree, place, **sample)
    rows = stored(finished)
    assert set(rows["row_id"]) == first_by_hash(60)
    assert rows["uniform"].all() and (rows["probability"] == 0.3).all()
    with_proxies = sample.get("proxies") != []
    assert finished.chains["main"].evaluation["effective_labels"].notna().any() == with_proxies


def test_a_small_llm_labels_all_rows_for_proxies(demo_tree: dict, place: Path, demo_run: Path):
    # It is the same labeller here, so that its answers are the labels, and nothing is asked twice.
    small = {"engine": "keywords", "replicas": {"min": 0, "max": 0}}
    finished = run(demo_tree, place, rows=60, proxies=[], llm=small)
    assert pairs_asked(place) == N * H
    found, whole = coefficients(finished), pd.read_csv(demo_run / "evaluation.csv")
    close = np.abs(found["regression_coef"].to_numpy() - whole["regression_coef"]) < whole["regression_se"]
    assert close[found["n_yes"].to_numpy() >= 8].all()  # of fewer, Omega is no more than a guess
    assert finished.chains["main"].metrics["effective_labels"] > 120


def test_documents_that_are_labelled_whole_are_drawn_in_waves_too(demo_tree: dict, tmp_path: Path):
    chunk = {"words": 20, "overlap": 0, "labels": "whole"}
    tree = {**demo_tree, "data": {**demo_tree["data"], "chunk": chunk}, "select": {"n": 4}}
    finished = run(tree, tmp_path / "run", rows=120, first=60)
    rows = stored(finished)
    assert rows["uniform"].sum() == 60 and 95 < len(rows) < 145
    assert finished.chains["main"].metrics["n_all"] == N
    assert finished.chains["main"].metrics["effective_labels"] > len(rows)


def test_stored_annotations_of_a_sample_are_evaluated_as_such(demo_tree: dict, place: Path):
    finished = run(demo_tree, place, rows=120, first=60, proxies=["activations"])
    (folder,) = (r.step.folder for r in finished.records if r.step.stage.name == "annotate")
    rows = stored(finished)
    target = pd.read_json(demo_tree["data"]["holdout"], lines=True)["stars"][rows["row_id"]].to_numpy()
    options = {"task": "regression", "folds": 0, "n_permutations": 0}
    found = hr.evaluate_hypotheses(folder.path, target, **options)
    p_yes = hr.load_annotations(folder.path).to_numpy()
    labels = np.where(np.isnan(p_yes), np.nan, p_yes >= 0.5)
    expected = hr.evaluate_hypotheses(labels, target, weights=1 / rows["probability"], **options)
    np.testing.assert_allclose(found.table["regression_coef"], expected.table["regression_coef"])
    assert found.metrics["n_all"] == round((1 / rows["probability"]).sum())


def test_a_plan_says_what_a_sample_gives_and_costs(demo_tree: dict, place: Path, capsys, monkeypatch):
    monkeypatch.setattr(trade, "SIZES", (50,))
    config = place / "c.yaml"
    config.write_text(yaml.safe_dump(demo_tree))
    command = ["plan", "--config", str(config), "--out", str(place), "--rate", "2", "--price-per-hour", "3"]
    evaluation = pd.read_csv(place / "evaluation.csv")
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "as the labels of this folder show" in said
    width = 1.96 * evaluation["regression_se"][0] * np.sqrt([evaluation["n"][0] / 50, evaluation["n"][0] / N])
    line = next(line for line in said.splitlines() if line.startswith(evaluation["hypothesis"][0]))
    assert line.split()[-2:] == [f"{one:.3g}" for one in width]
    # 1,600 pairs at 2 a second; a quarter of the rows take a quarter of that.
    assert re.search(r"replica hours +0.06 +0.22\ncost +0.17 +0.67\n", said)
    (place / "evaluation.csv").unlink()  # before any label is known
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    target = pd.read_json(demo_tree["data"]["holdout"], lines=True)["stars"]
    p = pd.read_csv(place / "hypotheses.csv")["prevalence"][0]
    expected = 1.96 * target.std(ddof=0) / np.sqrt(p * (1 - p) * np.array([50, N]))
    line = next(line for line in said.splitlines() if line.startswith(evaluation["hypothesis"][0]))
    assert line.split()[-2:] == [f"{one:.3g}" for one in expected]


def test_where_many_rows_are_to_be_labelled_a_sample_is_proposed(
    demo_tree: dict, place: Path, capsys, monkeypatch
):
    monkeypatch.setattr(outlook, "MANY_ROWS", 100)
    monkeypatch.setattr(outlook, "SAMPLE_ROWS", 50)
    tree = {**demo_tree, "annotate": {**demo_tree["annotate"], "rate": 2}}
    runner.run(loading.parse(tree, "all rows"), str(place), show=print, console=Console())
    said = capsys.readouterr().err
    assert (
        "--annotate.sample.rows 50 would take 0.06 replica hours; intervals would be 2.0 times as wide"
        in said
    )
