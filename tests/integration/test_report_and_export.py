"""`hypsae report` and `hypsae export` on finished runs of the demo with keywords."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from hypsae_ray import cli
from hypsae_ray.report import text_map
from tests.unit.test_report import Page


@pytest.fixture(scope="module")
def shared_run(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo run that tests read, and write no other results into."""
    return Path(shutil.copytree(demo_run, tmp_path_factory.mktemp("a") / "first"))


@pytest.fixture(scope="module")
def second(demo_run: Path, demo_tree: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with five hypotheses, one of which has another wording."""
    folder = tmp_path_factory.mktemp("b")
    run = Path(shutil.copytree(demo_run, folder / "second"))
    (folder / "c.yaml").write_text(yaml.safe_dump({**demo_tree, "select": {"n": 5}}))
    assert cli.main(["run", "--config", str(folder / "c.yaml"), "--out", str(run)]) == 0
    for stage, name, column in (
        ("score_fidelity", "hypotheses", "interpretation"),
        ("evaluate", "evaluation", "hypothesis"),
    ):
        file = stage_of(run, stage) / f"{name}.parquet"
        table = pd.read_parquet(file)
        table.loc[1, column] = "in <b>other</b> words"
        table.to_parquet(file)
    return run


def stage_of(run: Path, stage: str) -> Path:
    saved = json.loads((run / "run.json").read_text())["stages"]
    return run / "stages" / next(one["folder"] for one in saved if one["stage"] == stage)


def tables(folder: Path, prefix: str) -> pd.DataFrame:
    return pd.concat(map(pd.read_parquet, sorted(folder.glob(f"{prefix}*.parquet"))), ignore_index=True)


def export(run: Path, out: Path, *options: str) -> pd.DataFrame:
    assert cli.main(["export", str(run), "--out", str(out), *options]) == 0
    return pd.read_parquet(out)


def test_an_export_has_each_holdout_row_with_its_labels_and_activations(
    shared_run: Path, demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (shared_run / "map.parquet").unlink(missing_ok=True)
    table = export(shared_run, tmp_path / "e.parquet")
    reviews = pd.read_json(demo_folder / "holdout.jsonl", lines=True).set_index("id")
    assert len(table) == 200 and table["id"].is_unique
    assert (reviews.loc[table["id"], "text"].to_numpy() == table["text"]).all()
    assert (reviews.loc[table["id"], "stars"].to_numpy() == table["target"]).all()
    assert capsys.readouterr().err == "map: placing 200 texts by t-SNE\n"

    hypotheses = pd.read_csv(shared_run / "hypotheses.csv")
    stored = tables(stage_of(shared_run, "annotate"), "annotations-").set_index("row_id").loc[table["row_id"]]
    p_yes = np.stack(stored["p_yes"].tolist())
    fired = tables(stage_of(shared_run, "embed_holdout"), "activations-").set_index("row_id")
    for number, one in hypotheses.iterrows():
        name = f"h{number:02d}"
        np.testing.assert_array_equal(table[f"{name}_p_yes"], p_yes[:, number])
        np.testing.assert_array_equal(table[f"{name}_label"], p_yes[:, number] >= one["threshold"])
        for row, value in zip(table["row_id"], table[f"{name}_activation"], strict=True):
            active = dict(zip(fired.loc[row, "neurons"], fired.loc[row, "values"], strict=True))
            assert value == pytest.approx(active.get(one["neuron_idx"], 0.0))


def test_the_file_says_what_its_columns_are(shared_run: Path, tmp_path: Path):
    export(shared_run, tmp_path / "e.parquet")
    layout = pq.read_schema(tmp_path / "e.parquet")
    sentence = pd.read_csv(shared_run / "hypotheses.csv").loc[3, "interpretation"]
    assert layout.field("h03_label").metadata[b"description"].decode().startswith(f"{sentence} (1 if ")
    assert layout.field("x").type == "float" and layout.field("h03_label").type == "int8"
    facts = json.loads(layout.metadata[b"hypsae"])
    assert facts["target"] == "stars" and facts["rows_on_map"] == 200
    assert facts["hypotheses"][3]["interpretation"] == sentence


@pytest.mark.parametrize(
    ("policy", "there"), [("none", set()), ("ids", {"id"}), ("cut", {"id", "text"}), ("all", {"id", "text"})]
)
def test_an_export_holds_of_texts_what_the_policy_allows(
    shared_run: Path, tmp_path: Path, policy: str, there: set[str]
):
    table = export(shared_run, tmp_path / "e.parquet", "--report.texts", policy)
    assert {"id", "text"} & set(table) == there
    if policy == "cut":
        assert table["text"].str.len().between(1, 202).all()


def test_rows_beyond_the_most_have_no_place(
    demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = shutil.copytree(demo_run, tmp_path / "run")
    table = export(run, tmp_path / "e.parquet", "--report.max_texts", "50")
    assert table["x"].notna().sum() == table["y"].notna().sum() == 50
    assert pq.read_table(tmp_path / "e.parquet")["x"].null_count == 0  # NaN
    assert "map: 150 of the labelled rows have no place on it" in capsys.readouterr().err


def test_a_map_is_computed_once(shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = export(shared_run, tmp_path / "e.parquet")
    monkeypatch.setattr(text_map, "place", None)
    again = export(shared_run, tmp_path / "again.parquet")
    pd.testing.assert_frame_equal(first, again)
    facts = json.loads(pq.read_schema(shared_run / "map.parquet").metadata[b"hypsae"])
    assert facts == {"embed_holdout": stage_of(shared_run, "embed_holdout").name, "seed": 0, "rows": 200}


def test_a_report_is_written_again_and_only_its_section_changes(demo_run: Path, tmp_path: Path):
    run = Path(shutil.copytree(demo_run, tmp_path / "run"))
    before = {name: (run / name).read_bytes() for name in ("report.html", "evaluation.csv", "metrics.json")}
    for name in before:
        (run / name).unlink()
    assert cli.main(["report", str(run)]) == 0
    assert {name: (run / name).read_bytes() for name in before} == before
    assert cli.main(["report", str(run), "--report.texts", "none"]) == 0
    saved = json.loads((run / "run.json").read_text())
    assert saved["config"]["report"]["texts"] == "none" and saved["results"]
    assert (run / "evaluation.csv").read_bytes() == before["evaluation.csv"]
    assert (run / "report.html").read_bytes() != before["report.html"]


def test_a_report_keeps_what_was_planted(demo_run: Path, demo_folder: Path, tmp_path: Path):
    run = Path(shutil.copytree(demo_run, tmp_path / "run"))
    assert cli.main(["demo-recovery", str(run), str(demo_folder)]) == 0
    report, table = (run / "report.html").read_text(), (run / "recovery.csv").read_text()
    assert cli.main(["report", str(run)]) == 0
    assert (run / "recovery.csv").read_text() == table
    caption = re.search(r"\d+ of \d+ planted[^<]*", report)
    assert caption is None or caption[0] in (run / "report.html").read_text()


def test_two_runs_side_by_side(
    shared_run: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "page.html"
    capsys.readouterr()
    assert cli.main(["report", str(shared_run), str(second), "--out", str(out)]) == 0
    told, html = capsys.readouterr().out, out.read_text()
    sentences = [
        pd.read_parquet(stage_of(run, "score_fidelity") / "hypotheses.parquet")["interpretation"]
        for run in (shared_run, second)
    ]
    equal = len(set(sentences[0]) & set(sentences[1]))
    assert "200 texts labelled by both runs" in told and f": {equal} by sentence, 1 by labels" in told
    page = Page(html)
    assert not page.unbalanced and not page.open and "script" not in {tag for tag, _ in page.tags}
    assert {"effects", "only-A", "corpora", "settings"} <= page.sections() and "only-B" not in page.sections()
    assert "in <b>other</b> words" in page.text("td")
    assert len(page.having("svg", "strip")) == equal + 1
    assert "select.n" in page.text("td") and "select.method" not in page.text("td")
    assert str(shared_run.parent) not in html


def test_the_page_lies_in_the_first_run(shared_run: Path, second: Path):
    assert cli.main(["report", str(second), str(shared_run)]) == 0
    assert (second / "comparison.html").exists()
    assert "Only in B" in (second / "comparison.html").read_text()


def test_what_cannot_be_shown_is_said_in_one_line(
    shared_run: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    unfinished = Path(shutil.copytree(shared_run, tmp_path / "unfinished"))
    saved = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps({**saved, "results": []}))
    a, b, nowhere = str(shared_run), str(second), str(tmp_path / "nowhere")
    link = tmp_path / "link"
    link.symlink_to(shared_run)
    for arguments, said in (
        (["report", nowhere], "not a run folder (no run.json)"),
        (["report", a, nowhere], "not a run folder (no run.json)"),
        (["export", nowhere], "not a run folder (no run.json)"),
        (["report", str(unfinished)], "has no evaluation yet; hypsae run continues it"),
        (["report", a, str(unfinished)], "has no evaluation yet; hypsae run continues it"),
        (["export", str(unfinished)], "has no evaluation yet; hypsae run continues it"),
        (["report", a, str(link)], "the same run twice"),
        (["report", a, b, a], "expected one run or two, and got 3"),
        (["report", a, b, "--out", f"{nowhere}/page.html"], f"there is no folder {nowhere}"),
        (["report", a, b, "--out", f"{tmp_path}/page.txt"], "let its name end in .html"),
        (["report", a, "--out", f"{tmp_path}/page.html"], "--out is for the page of two runs"),
        (["report", a, b, "--report.texts", "none"], "a page of two runs has no settings"),
        (["report", a, "--select.n", "3"], "only fields of report can be set here"),
        (["export", a, "--out", f"{nowhere}/e.parquet"], f"there is no folder {nowhere}"),
        (["export", a, "--out", f"{tmp_path}/e.csv"], "let its name end in .parquet"),
        (["export", a, "--report.texts", "some"], "report.texts"),
    ):
        assert cli.main(arguments) == 2
        assert said in capsys.readouterr().err
