"""`hypsae replicate` on a finished run of the demo and other reviews of its grammar, with keywords."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from hypsae_ray import cli
from hypsae_ray.demo import grammar
from hypsae_ray.models.keywords import Keywords
from tests.unit.test_report import Page

QUICK = ["--evaluate.folds", "0", "--evaluate.n_permutations", "0"]
NOT_FINISHED = "{run}: this run has no evaluation yet; hypsae run continues it"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 further reviews, from another seed than those of the run."""
    file = tmp_path_factory.mktemp("other") / "second wave.jsonl"
    grammar.generate(n_train=10, n_holdout=300, seed=7).holdout.to_json(file, orient="records", lines=True)
    return file


@pytest.fixture
def run(demo_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_run, tmp_path / "run"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """All pairs of text and question that the keywords are asked, as they come."""
    pairs: list[tuple[str, str]] = []
    score = Keywords.score

    def counting(self, texts, questions, *rest):
        pairs.extend((text, question) for text in texts for question in questions)
        return score(self, texts, questions, *rest)

    monkeypatch.setattr(Keywords, "score", counting)
    return pairs


def replicate(run: Path, data: Path | str, *options: str) -> int:
    return cli.main(["replicate", str(run), "--data", str(data), *options, *QUICK])


def labels(sentences: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Labels by looking for the quoted words, without the code under test, (n, H)."""

    def holds(text: str, sentence: str) -> bool:
        terms = [term.split() for term in re.findall(r'"([^"]+)"', sentence)]
        words = set(re.findall(r"\w+", text.lower()))
        return any(word in words for term in terms for word in term)

    return np.array([[float(holds(text, one)) for one in sentences] for text in texts])


def test_the_second_sample_is_least_squares_on_the_same_words(run: Path, other: Path, capsys):
    assert replicate(run, other) == 0
    (out,) = run.glob("replication-*")
    assert re.fullmatch(r"replication-second-wave-[0-9a-f]{8}", out.name)
    table, evaluated = pd.read_csv(out / "replication.csv"), pd.read_csv(run / "evaluation.csv")
    hypotheses, reviews = pd.read_csv(run / "hypotheses.csv"), pd.read_json(other, lines=True)
    assert table["hypothesis"].tolist() == hypotheses["interpretation"].tolist()
    named = {"coef": "regression_coef", "se": "regression_se", "pval": "regression_pval", "n": "n"}
    for name, column in named.items():
        np.testing.assert_allclose(table[f"first_{name}"], evaluated[column])

    columns = labels(hypotheses["interpretation"], reviews["text"])
    fit = sm.OLS(reviews["stars"].to_numpy(float), sm.add_constant(columns)).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(table["new_coef"], fit.params[1:], rtol=1e-6)
    np.testing.assert_allclose(table["new_se"], fit.bse[1:], rtol=1e-6)
    np.testing.assert_allclose(table["new_prevalence"], columns.mean(axis=0))
    assert (table["new_n"] == 300).all()
    np.testing.assert_allclose(table["difference"], fit.params[1:] - evaluated["regression_coef"], rtol=1e-6)

    significant = evaluated["significant"].to_numpy()
    adjusted = multipletests(table.loc[significant, "new_pval"], method="bonferroni")[1]
    np.testing.assert_allclose(table.loc[significant, "new_pval_adj"], adjusted)
    same = np.sign(table["new_coef"]) == np.sign(table["first_coef"])
    replicates = same[significant] & (adjusted < 0.1)
    assert table.loc[significant, "replicates"].astype(bool).tolist() == replicates.tolist()
    assert table.loc[~significant, "replicates"].isna().all()

    told = capsys.readouterr()
    assert (
        f"{replicates.sum()} of {significant.sum()} significant effects replicate on 300 new texts"
        in told.out
    )
    assert str(out / "replication.html") in told.out
    assert "annotate: 300 texts x 8 questions, 2,400 pairs to ask" in told.err
    assert not (out / "run.log").exists()


def test_the_page_draws_every_hypothesis_twice_and_pooled(run: Path, other: Path, tmp_path: Path):
    file = run / "stages" / stage(run, "evaluate") / "evaluation.parquet"
    table = pd.read_parquet(file)
    table.loc[2, "hypothesis"] = 'mentions <script>alert("1")</script> & more'
    table.loc[3, ["regression_coef", "regression_se", "regression_ci_low", "regression_ci_high"]] = np.nan
    table.loc[3, ["significant", "note"]] = [False, "no coefficient: <b>why</b>"]
    table.to_parquet(file)
    assert replicate(run, other, "--out", str(tmp_path / "out")) == 0
    html = (tmp_path / "out/replication.html").read_text()
    page, found = Page(html), pd.read_csv(tmp_path / "out/replication.csv")
    assert not page.unbalanced and not page.open and "script" not in {tag for tag, _ in page.tags}
    assert "Replication on second wave.jsonl" in page.text("header") and str(other.parent) not in html
    assert not any("style" in attrs for _, attrs in page.tags)
    assert not any(text in html for text in pd.read_json(other, lines=True)["text"])
    assert {"effects", "notes", "reading", "methods"} <= page.sections()
    assert "mentions <script>" in page.text("td") and "<b>why</b>" in page.text("td")
    assert found.loc[3, ["difference", "pooled_coef", "q"]].isna().all()
    assert found.loc[3, "note"].startswith("first run: no coefficient: <b>why</b>")
    # 8 hypotheses, one of which has no first estimate, so none pooled either
    assert len(page.having("svg", "strip")) == 8 and len(page.having("circle", "marker")) == 15
    assert len(page.having("polygon", "pooled")) == 7 + 1  # and one in the legend
    places = [float(one["cx"].rstrip("%")) for one in page.having("circle", "marker")]
    assert all(0 <= place <= 100 for place in places)
    rows = {one["cy"] for one in page.having("circle", "marker")}
    assert rows == {"16.67%", "50.0%"}
    for source in ("Clogg, Petkova and Haritou 1995", "Cochran 1954", "Higgins and Thompson 2002"):
        assert source in page.text("section")
    note = "only the model of the new texts holds #3: coefficients of the others are given these there"
    assert note in page.text("li")


def stage(run: Path, name: str) -> str:
    saved = json.loads((run / "run.json").read_text())
    (folder,) = [one["folder"] for one in saved["stages"] if one["stage"] == name]
    return folder


def test_nothing_is_asked_twice(run: Path, other: Path, asked: list, capsys):
    assert replicate(run, other, "--annotate.sample.rows", "100") == 0
    (out,) = run.glob("replication-*")
    table = pd.read_csv(out / "replication.csv")
    assert (table["new_n"] == 100).all() and len(asked) == 100 * 8
    (file,) = out.glob("labels/annotations-*/annotations-*.parquet")
    drawn = pd.read_json(other, lines=True).iloc[pd.read_parquet(file)["row_id"]]
    columns = sm.add_constant(labels(table["hypothesis"], drawn["text"]))
    fit = sm.OLS(drawn["stars"].to_numpy(float), columns).fit()
    np.testing.assert_allclose(table["new_coef"], fit.params[1:], rtol=1e-6)
    assert "significant effects replicate on 100 new texts" in capsys.readouterr().out
    assert "on 100 texts, a random sample, of a second corpus" in (out / "replication.html").read_text()

    assert replicate(run, other, "--annotate.sample.rows", "100") == 0
    assert len(asked) == 100 * 8 and "nothing to do" in capsys.readouterr().err
    assert replicate(run, other) == 0  # the other 200
    assert len(asked) == len(set(asked)) == 300 * 8
    assert (pd.read_csv(out / "replication.csv")["new_n"] == 300).all()
    before = (out / "replication.csv").read_bytes(), (out / "replication.html").read_bytes()
    assert replicate(run, other) == 0
    assert before == ((out / "replication.csv").read_bytes(), (out / "replication.html").read_bytes())
    assert len(asked) == 300 * 8


def test_what_was_labelled_before_an_error_is_kept(
    run: Path, other: Path, tmp_path: Path, asked, monkeypatch
):
    out, counting, calls = tmp_path / "out", Keywords.score, 0

    def breaks(self, *given):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return counting(self, *given)

    monkeypatch.setattr(Keywords, "score", breaks)
    assert replicate(run, other, "--out", str(out)) == 130
    assert not (out / "replication.csv").exists() and 0 < len(asked) < 300 * 8
    monkeypatch.setattr(Keywords, "score", counting)
    assert replicate(run, other, "--out", str(out)) == 0
    assert len(asked) == len(set(asked)) == 300 * 8


def test_columns_may_have_other_names_and_texts_of_the_run_are_left_out(
    run: Path, other: Path, demo_folder: Path, tmp_path: Path, capsys
):
    known = pd.read_json(demo_folder / "train.jsonl", lines=True)[:20]
    both = pd.concat([known, pd.read_json(other, lines=True)])
    names = {"text": "body", "stars": "score"}
    both.drop(columns="id").rename(columns=names).to_csv(tmp_path / "new.csv", index=False)
    options = ["--text", "body", "--target", "score", "--data.id", "null", "--out", str(tmp_path / "out")]
    assert replicate(run, tmp_path / "new.csv", *options) == 0
    assert replicate(run, other, "--out", str(tmp_path / "without")) == 0
    found, expected = (pd.read_csv(tmp_path / name / "replication.csv") for name in ("out", "without"))
    pd.testing.assert_frame_equal(found, expected)
    told = capsys.readouterr().out
    assert "20 texts stand in the data of the run too (data.overlap): left out" in told
    assert (
        "note: data.target is score, and stars in the run: differences and pooled effects mean nothing"
        in told
    )


def test_a_hypothesis_without_a_sentence_is_not_asked_and_keeps_its_number(
    run: Path, other: Path, tmp_path: Path, asked: list
):
    file = run / "stages" / stage(run, "score_fidelity") / "hypotheses.parquet"
    table = pd.read_parquet(file)
    table.loc[1, "interpretation"] = None
    table.to_parquet(file)
    assert replicate(run, other, "--out", str(tmp_path / "out")) == 0
    found = pd.read_csv(tmp_path / "out/replication.csv")
    assert found["hypothesis_id"].tolist() == list(range(8)) and len(asked) == 300 * 7
    assert found["new_coef"].isna().tolist() == [i == 1 for i in range(8)]
    why = "new texts: no text has a usable label; no coefficient: it has no usable label"
    assert found.loc[1, "note"] == why


def test_where_too_few_texts_have_labels_nothing_passes_as_measured(
    demo_run: Path, other: Path, tmp_path: Path, capsys
):
    pairs = pd.DataFrame({"row_id": np.repeat(range(20), 8), "hypothesis_id": list(range(8)) * 20})
    pairs.to_csv(tmp_path / "mask.csv", index=False)
    out = tmp_path / "out"
    masked = ["--annotate.mask", str(tmp_path / "mask.csv"), "--out", str(out)]
    assert replicate(demo_run, other, *masked) == 3
    table, told = pd.read_csv(out / "replication.csv"), capsys.readouterr()
    assert table[["new_coef", "difference", "pooled_coef", "replicates"]].isna().all(axis=None)
    n = int(table["first_significant"].sum())
    assert (
        f"0 of {n} significant effects replicate on 300 new texts; {n} could not be measured there"
        in told.out
    )
    assert (
        "hypsae: nothing was measured: none of 8 hypotheses has labels on half of the 300 new texts"
        in told.err
    )
    assert (out / "replication.html").exists()


def test_what_differs_from_the_run_is_told(demo_run: Path, other: Path, tmp_path: Path, capsys):
    table = pd.read_json(other, lines=True)
    table.assign(year=[2000 + i % 9 for i in table.index]).to_csv(tmp_path / "new.csv", index=False)
    changed = ["--covariates", "year", "--evaluate.correction", "holm"]
    assert replicate(demo_run, tmp_path / "new.csv", *changed, "--out", str(tmp_path / "out")) == 0
    told = capsys.readouterr().out
    assert "note: data.covariates is year, and not given in the run" in told
    assert "note: evaluate.correction differs from the run" in told
    assert "adjusted by Holm" in (tmp_path / "out/replication.html").read_text()


def unfinished(run: Path) -> None:
    saved = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**saved, "results": []}))


def of(run: Path, **data: Any) -> None:
    saved = json.loads((run / "run.json").read_text())
    saved["config"]["data"] |= data
    (run / "run.json").write_text(json.dumps(saved))


def of_task(run: Path, task: str) -> None:
    saved = json.loads((run / "run.json").read_text())
    for one in saved["stages"]:
        one["facts"] |= {"task": task} if one["stage"] == "data" else {}
    (run / "run.json").write_text(json.dumps(saved))


def wordless(run: Path) -> None:
    file = run / "stages" / stage(run, "score_fidelity") / "hypotheses.parquet"
    pd.read_parquet(file).assign(interpretation=None).to_parquet(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "run.json").unlink(), "{run}: not a run folder (no run.json)"),
        (unfinished, NOT_FINISHED),
        (wordless, "{run}: this run has no hypothesis with a usable sentence: nothing to replicate"),
        (lambda run: of(run, text="text", text_a="a", text_b="b"), "{run}: a run on pairs of texts"),
        (lambda run: of(run, chunk={"words": 50}), "{run}: its documents are labelled in chunks"),
        (lambda run: of_task(run, "multiclass"), "{run}: its task is multiclass: only regression"),
        (
            lambda run: of(run, overlap="error"),
            "1 of 301 texts stand in the data of the run, the first in row 301",
        ),
    ],
)
def test_a_run_that_cannot_be_replicated_is_refused(
    run: Path, other: Path, demo_folder: Path, tmp_path: Path, capsys, change: Callable, message: str
):
    known = pd.read_json(demo_folder / "train.jsonl", lines=True)[:1]
    both = pd.concat([pd.read_json(other, lines=True), known])
    both.to_json(tmp_path / "new.jsonl", orient="records", lines=True)
    change(run)
    assert replicate(run, tmp_path / "new.jsonl") == 2
    refused(capsys, message.format(run=run))
    assert not list(run.glob("replication-*"))


def refused(capsys: pytest.CaptureFixture, message: str) -> None:
    told = capsys.readouterr()
    assert message in told.err and told.out == ""
    assert told.err.count("hypsae: ") == 1 and "Traceback" not in told.err


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, (), "{data}: no such file"),
        (
            lambda t: t.drop(columns="stars"),
            (),
            "{data}: no column 'stars'; it has id, text. Columns are those",
        ),
        (lambda t: t, ("--group", "author"), "{data}: no column 'author'; it has id, text, stars"),
        (
            lambda t: t.assign(stars=t["stars"].astype(object).where(t.index > 1, "many")),
            (),
            "{data}: 2 bad row(s) in data:\n  row 1: column 'stars': 'many' is not a number",
        ),
        (
            lambda t: t.assign(stars=t["stars"].map("grade {}".format)),
            (),
            "'grade 5'): the task of the run is regression, which takes numbers: name another --target",
        ),
        (
            lambda t: t.assign(stars=(t["stars"] > 3).astype(int)),
            (),
            "column 'stars': its task is classification (logit), but that of the run is regression (OLS)",
        ),
        (lambda t: t, ("--task", "count"), "its task is count (Poisson), but that of the run is regression"),
        (lambda t: t.assign(stars=3), (), "{data}: column 'stars' has one value: nothing to predict"),
        (lambda t: t.assign(id=7), ("--data.text", "stars"), "column 'stars' is named twice"),
        (
            lambda t: t.assign(text=t["text"].where(t.index != 4, None)),
            (),
            "{data}: 1 bad row(s) in data:\n  row 5: column 'text': the text is missing",
        ),
        (lambda t: t, ("--select.n", "4"), "--select.n: only fields of llm, label, annotate and evaluate"),
        (lambda t: t, ("--label.threshold", "0.4"), "the thresholds of a replication are those of the run"),
        (
            lambda t: t,
            ("--annotate.sample.half_width", "0.1"),
            "annotate.sample.half_width is about coefficients",
        ),
        (lambda t: t, ("--evaluate.alhpa", "0.05"), "evaluate.alhpa: unknown key"),
    ],
)
def test_texts_and_options_that_cannot_be_used_are_refused_in_one_message(
    demo_run: Path, other: Path, tmp_path: Path, capsys, change: Callable | None, options: tuple, message: str
):
    data = tmp_path / "new.jsonl"
    if change is not None:
        table = change(pd.read_json(other, lines=True))
        table.to_json(data, orient="records", lines=True)
    assert replicate(demo_run, data, *options, "--out", str(tmp_path / "out")) == 2
    refused(capsys, message.format(data=data))
    assert not (tmp_path / "out").exists()
