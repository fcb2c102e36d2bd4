"""`hypsae evaluate` on what `hypsae annotate` wrote, with keywords; its numbers are those of statsmodels."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from hypsae_ray import cli
from hypsae_ray.commands import annotation
from hypsae_ray.config import AnnotateJob
from hypsae_ray.models.pool import LocalPool
from hypsae_ray.models.protocols import DEFAULT_LABEL, Annotations
from hypsae_ray.store.schema import Status

WORDS = ("rain", "bread", "trains", "music")
ENGINE = ["--llm.engine", "keywords", "--llm.replicas", "{min: 0, max: 0}"]
QUICK = ["--evaluate.folds", "0", "--evaluate.n_permutations", "0"]


def reviews(n: int = 240) -> pd.DataFrame:
    """Reviews of four words each drawn or not, and a target that two of them change."""
    rng, draws = random.Random(3), np.random.default_rng(3)
    drawn = [[word for word in WORDS if rng.random() < 0.4] for _ in range(n)]
    table = pd.DataFrame({"id": [f"r{i}" for i in range(n)]})
    table["note"] = [f"visit {i}: {' '.join(words)}" for i, words in enumerate(drawn)]
    shop = draws.normal(0, 0.5, n // 8)
    table["shop"] = [f"s{i % (n // 8)}" for i in range(n)]
    table["length"] = draws.integers(10, 90, n)
    table["weight"] = draws.uniform(0.5, 2, n).round(3)
    effects = np.array([("rain" in words) * 1.2 - ("bread" in words) * 0.9 for words in drawn])
    table["stars"] = (effects + np.tile(shop, 8) + table["length"] / 50 + draws.normal(0, 1, n)).round(3)
    table["liked"] = (table["stars"] > table["stars"].median()).astype(int)
    table["mood"] = pd.cut(table["stars"], 3, labels=["sour", "plain", "merry"]).astype(str)
    return table


def labels(table: pd.DataFrame) -> np.ndarray:
    """Labels by looking for the words, without the code under test, (n, 4)."""
    return np.array([[float(word in note.split()) for word in WORDS] for note in table["note"]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.csv, and what `hypsae annotate` wrote for it in out."""
    folder = tmp_path_factory.mktemp("evaluate")
    reviews().to_csv(folder / "data.csv", index=False)
    sentences = [f'mentions "{word}"' for word in WORDS]
    pd.DataFrame({"hypothesis": sentences}).to_csv(folder / "h.csv", index=False)
    annotate(folder, "--id", "id")
    return folder


def annotate(folder: Path, *options: str, out: str = "out") -> None:
    files = ["--hypotheses", f"{folder}/h.csv", "--data", f"{folder}/data.csv", "--out", f"{folder}/{out}"]
    assert cli.main(["annotate", *files, "--text", "note", *ENGINE, *options]) == 0


@pytest.fixture
def evaluate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., pd.DataFrame]:
    """Run the command on the data of `folder`; returns the table that it wrote."""

    def run(*options: str, out: str = "out") -> pd.DataFrame:
        files = ["--annotations", f"{folder}/{out}", "--data", f"{folder}/data.csv"]
        assert cli.main(["evaluate", *files, *options, *QUICK, "--out", f"{tmp_path}/t.csv"]) == 0
        return pd.read_csv(tmp_path / "t.csv")

    return run


def fit(model: Any, table: pd.DataFrame, *covariates: str, target: str = "stars", **kind: Any) -> Any:
    """Fit a model of statsmodels on the labels and covariates of a table."""
    columns = np.column_stack([labels(table), table[list(covariates)]])
    return model(table[target].to_numpy(float), sm.add_constant(columns)).fit(**kind)


def assert_effects(found: pd.DataFrame, expected: Any) -> None:
    hypotheses = slice(1, 1 + len(WORDS))
    np.testing.assert_allclose(found["regression_coef"], expected.params[hypotheses], rtol=1e-6)
    np.testing.assert_allclose(found["regression_se"], expected.bse[hypotheses], rtol=1e-6)
    ends = found[["regression_ci_low", "regression_ci_high"]]
    np.testing.assert_allclose(ends, expected.conf_int()[hypotheses], rtol=1e-6)


def test_regression_is_least_squares_with_hc3_and_holms_correction(evaluate, capsys):
    table = reviews()
    found = evaluate("--target", "stars", "--covariates", "length", "--evaluate.correction", "holm")
    expected = fit(sm.OLS, table, "length", cov_type="HC3", use_t=True)
    assert_effects(found, expected)
    adjusted = multipletests(expected.pvalues[1:5], method="holm")[1]
    np.testing.assert_allclose(found["regression_pval_adj"], adjusted, rtol=1e-6)
    assert found["significant"].tolist() == (adjusted < 0.1).tolist() == [True, True, False, False]
    yes = labels(table) == 1
    stars = table["stars"].to_numpy()
    means = [stars[yes[:, j]].mean() - stars[~yes[:, j]].mean() for j in range(4)]
    np.testing.assert_allclose(found["separation_score"], means)
    np.testing.assert_allclose(found["feature_prevalence"], yes.mean(axis=0))
    told = capsys.readouterr()
    assert "data: task regression, since 'stars' runs from" in told.err
    assert "2 of 4 hypotheses significant (Holm at 0.1) on 240 holdout texts" in told.out


def test_rows_of_a_group_belong_together(evaluate):
    table = reviews()
    found = evaluate("--target", "stars", "--group", "shop")
    groups = {"groups": pd.factorize(table["shop"])[0]}
    assert_effects(found, fit(sm.OLS, table, cov_type="cluster", cov_kwds=groups, use_t=True))


def test_fixed_effects_are_absorbed_and_so_is_the_group_if_asked(evaluate):
    table = reviews()
    shops = pd.get_dummies(table["shop"], drop_first=True).astype(float)
    within = table.join(shops)
    expected = fit(sm.OLS, within, *shops.columns).params[1:5]
    found = evaluate("--target", "stars", "--fixed-effects", "shop")
    np.testing.assert_allclose(found["regression_coef"], expected, rtol=1e-6)
    absorbed = ("--task", "regression", "--group", "shop", "--evaluate.absorb_group", "true")
    found = evaluate("--target", "stars", *absorbed)
    np.testing.assert_allclose(found["regression_coef"], expected, rtol=1e-6)


def test_weights_are_those_of_weighted_least_squares(evaluate):
    table = reviews()
    found = evaluate("--target", "stars", "--weight", "weight")
    columns = sm.add_constant(labels(table))
    expected = sm.WLS(table["stars"], columns, weights=table["weight"]).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(found["regression_coef"], expected.params[1:], rtol=1e-6)


def test_a_target_of_0_and_1_is_a_logit(evaluate, capsys):
    found = evaluate("--target", "liked")
    assert_effects(found, fit(sm.Logit, reviews(), target="liked", disp=0, tol=1e-12))
    assert "task classification, since all 240 values of 'liked' are 0 or 1" in capsys.readouterr().err


def test_each_class_is_compared_with_the_rest(evaluate, capsys):
    table = reviews()
    found = evaluate("--target", "mood", "--task", "multiclass")
    merry = table.assign(merry=(table["mood"] == "merry").astype(float))
    expected = fit(sm.Logit, merry, target="merry", disp=0, tol=1e-12)
    of_class = found[found["target_class"] == "merry"]
    np.testing.assert_allclose(of_class["regression_coef"], expected.params[1:], rtol=1e-4)
    assert "data: 3 classes in 'mood': merry, plain, sour" in capsys.readouterr().err


def test_only_the_rows_that_a_job_drew_are_tested(folder: Path, evaluate):
    annotate(folder, "--id", "id", "--annotate.sample.rows", "150", out="drawn")
    (file,) = (folder / "drawn").glob("annotations-*/annotations-*.parquet")
    drawn = reviews().iloc[pd.read_parquet(file)["row_id"]]
    assert len(drawn) == 150
    found = evaluate("--target", "stars", out="drawn")
    assert_effects(found, fit(sm.OLS, drawn, cov_type="HC3", use_t=True))


def test_a_mask_with_probabilities_is_a_design(folder: Path, evaluate, capsys):
    table, rng = reviews(), np.random.default_rng(0)
    chance = np.where(table["stars"] > 1.5, 0.9, 0.4)
    drawn = np.flatnonzero(rng.random(len(table)) < chance)
    pairs = [(row, h, chance[row]) for row in drawn for h in range(len(WORDS))]
    columns = ["row_id", "hypothesis_id", "probability"]
    pd.DataFrame(pairs, columns=columns).to_csv(folder / "design.csv", index=False)
    annotate(folder, "--id", "id", "--annotate.mask", f"{folder}/design.csv", out="design")
    found = evaluate("--target", "stars", out="design")
    mine = table.iloc[drawn]
    X = sm.add_constant(labels(mine))
    expected = sm.WLS(mine["stars"], X, weights=1 / chance[drawn]).fit(cov_type="HC3", use_t=True)
    assert_effects(found, expected)
    said = capsys.readouterr().out
    assert f"{len(drawn)} of {round((1 / chance[drawn]).sum())} rows were labelled, drawn at random" in said
    assert "biased" not in said


def test_the_same_rows_may_come_in_other_files_and_frames(
    folder: Path, tmp_path: Path, evaluate, monkeypatch: pytest.MonkeyPatch
):
    whole = evaluate("--target", "stars", "--group", "shop")
    monkeypatch.setattr("hypsae_ray.data.files.ROWS_PER_FRAME", 50)
    table = reviews().drop(columns="note")
    table[:110].to_json(tmp_path / "part-1.jsonl", orient="records", lines=True)
    table[110:].to_parquet(tmp_path / "part-2.parquet")
    arguments = ["--annotations", f"{folder}/out", "--data", f"{tmp_path}/part-*", "--target", "stars"]
    out = ["--out", f"{tmp_path}/t.csv"]
    assert cli.main(["evaluate", *arguments, "--group", "shop", *QUICK, *out]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), whole)


def test_texts_tell_the_rows_where_the_job_had_no_ids(folder: Path, evaluate, capsys):
    annotate(folder, out="no-ids")
    found = evaluate("--target", "stars", out="no-ids")
    assert_effects(found, fit(sm.OLS, reviews(), cov_type="HC3", use_t=True))
    reviews().assign(note=lambda table: table["note"].replace("visit 7:", "visit seven:", regex=True)).to_csv(
        folder / "edited.csv", index=False
    )
    arguments = ["--annotations", f"{folder}/no-ids", "--data", f"{folder}/edited.csv", "--target", "stars"]
    assert cli.main(["evaluate", *arguments]) == 2
    message = f"{folder}/edited.csv: row 8: another text (column 'note') than the row that was annotated"
    assert message in capsys.readouterr().err


def test_rows_without_a_target_are_refused_or_left_out_and_counted(folder: Path, tmp_path: Path, capsys):
    table = reviews()
    table.loc[[4, 9], "stars"] = np.nan
    table.to_csv(tmp_path / "gaps.csv", index=False)
    arguments = ["--annotations", f"{folder}/out", "--data", f"{tmp_path}/gaps.csv", "--target", "stars"]
    assert cli.main(["evaluate", *arguments, *QUICK]) == 2
    told = capsys.readouterr().err
    assert (
        f"{tmp_path}/gaps.csv: 2 bad row(s) in data:\n  row 5: column 'stars': the target is missing" in told
    )
    drop = ["--data.on_bad_rows", "drop", "--out", f"{tmp_path}/t.csv"]
    assert cli.main(["evaluate", *arguments, *QUICK, *drop]) == 0
    left = "note: 2 of 240 annotated rows are left out (data.on_bad_rows), the first:"
    assert f"{left} {tmp_path}/gaps.csv: row 5" in capsys.readouterr().out
    expected = fit(sm.OLS, table.drop(index=[4, 9]), cov_type="HC3", use_t=True)
    assert_effects(pd.read_csv(tmp_path / "t.csv"), expected)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t[::-1], (), "{data}: row 1: another id (column 'id') than the row that was annotated"),
        (lambda t: t[:200], (), "{data}: 200 rows, but 240 were read"),
        (lambda t: t.drop(columns=["id", "note"]), (), "{data}: no column 'note'; it has shop"),
        (lambda t: t, ("--target", "score"), "{data}: no column 'score'; it has id, note"),
        (
            lambda t: t,
            ("--target", "mood"),
            "names ('merry', 'plain', 'sour'): data.task: multiclass compares",
        ),
        (lambda t: t.assign(weight=0), ("--weight", "weight"), "row 1: column 'weight': '0' is not a weight"),
        (lambda t: t.assign(stars=1), (), "{data}: column 'stars' has one value: nothing to predict"),
        (lambda t: t, ("--evaluate.alhpa", "0.05"), "evaluate.alhpa: unknown key"),
        (lambda t: t, ("--data.chunk", "{}"), "--data.chunk: only data.encoding, data.delimiter"),
        (lambda t: t, ("--evaluate.cov_type", "cluster"), "cov_type cluster needs data.group"),
        (lambda t: t, ("--out", "table.xlsx"), "table.xlsx: a table can be .csv, .parquet, .jsonl"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_message(
    folder: Path, tmp_path: Path, capsys, change: Callable, options: Sequence[str], message: str
):
    data = tmp_path / "other.csv"
    change(reviews()).to_csv(data, index=False)
    target = [] if "--target" in options else ["--target", "stars"]
    out = [] if "--out" in options else ["--out", f"{tmp_path}/t.csv"]
    arguments = ["--annotations", f"{folder}/out", "--data", str(data), *target, *out]
    assert cli.main(["evaluate", *arguments, *options]) == 2
    told = capsys.readouterr()
    assert message.format(data=data) in told.err
    assert told.err.count("hypsae: ") == 1 and "Traceback" not in told.err
    assert told.out == "" and list(tmp_path.iterdir()) == [data]


def test_annotations_that_do_not_say_their_rows_are_refused_until_the_job_runs_again(
    folder: Path, evaluate, capsys
):
    annotate(folder, "--id", "id", out="old")
    (source,) = (folder / "old").glob("annotations-*/source.json")
    source.unlink()
    arguments = ["--annotations", f"{folder}/old", "--data", f"{folder}/data.csv", "--target", "stars"]
    assert cli.main(["evaluate", *arguments]) == 2
    assert "there is no source.json; the same `hypsae annotate` writes that" in capsys.readouterr().err
    annotate(folder, "--id", "id", out="old")
    assert "nothing to do" in capsys.readouterr().err
    assert len(evaluate("--target", "stars", out="old")) == 4


def test_texts_that_repeat_are_told(folder: Path, tmp_path: Path, capsys):
    table = reviews()
    table["note"] = table["note"].to_numpy()[np.arange(240) % 60]
    table.to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "h.csv").write_bytes((folder / "h.csv").read_bytes())
    annotate(tmp_path)
    arguments = ["--annotations", f"{tmp_path}/out", "--data", f"{tmp_path}/data.csv", "--target", "stars"]
    assert cli.main(["evaluate", *arguments, *QUICK]) == 0
    told = capsys.readouterr().out
    assert "note: 240 rows hold only 60 distinct texts: rows with one text are not independent" in told


def test_where_too_few_rows_have_labels_nothing_passes_as_measured(folder: Path, tmp_path: Path, capsys):
    pairs = pd.DataFrame({"row_id": np.repeat(range(20), 4), "hypothesis_id": list(range(4)) * 20})
    pairs.to_csv(tmp_path / "mask.csv", index=False)
    annotate(folder, "--id", "id", "--annotate.mask", f"{tmp_path}/mask.csv", out="masked")
    arguments = ["--annotations", f"{folder}/masked", "--data", f"{folder}/data.csv", "--target", "stars"]
    assert cli.main(["evaluate", *arguments, *QUICK]) == 3
    told = capsys.readouterr()
    assert "hypsae: nothing was measured: none of 4 hypotheses has labels on half of the 240" in told.err
    assert "note: a mask left out 880 of 960 pairs of text and hypothesis" in told.out


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_whole_table_is_written_in_the_format_of_its_ending(folder: Path, tmp_path: Path, ending: str):
    out = tmp_path / f"new/table.{ending}"
    arguments = ["--annotations", f"{folder}/out", "--data", f"{folder}/data.csv", "--target", "stars"]
    assert cli.main(["evaluate", *arguments, *QUICK, "--out", str(out)]) == 0
    readers = {
        "csv": pd.read_csv,
        "parquet": pd.read_parquet,
        "jsonl": lambda path: pd.read_json(path, lines=True),
    }
    table = readers[ending](out)
    assert table["hypothesis"].tolist() == [f'mentions "{word}"' for word in WORDS]
    expected = fit(sm.OLS, reviews(), cov_type="HC3", use_t=True)
    np.testing.assert_allclose(table["regression_pval"], expected.pvalues[1:], rtol=1e-6)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


class Graded:
    """An engine whose P(yes) is higher the more often a word of the sentence stands in a text."""

    def check(self, _wanted) -> None: ...

    def publish(self, _job, _counts) -> None: ...

    def language_model(self, _options) -> LocalPool:
        return LocalPool(self)

    def score(self, texts, questions, _options=DEFAULT_LABEL, _asked=None) -> Annotations:
        found = Annotations.empty(len(texts), len(questions), Status.OK)
        for j, question in enumerate(questions):
            word = question.split('"')[1]
            found.p_yes[:, j] = [0.1 + 0.25 * text.split().count(word) for text in texts]
        found.p_neither[:] = 0
        return found


def test_thresholds_of_the_hypotheses_decide_labels(tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, (120, 2))
    notes = [" ".join(["rain"] * a + ["bread"] * b + [str(i)]) for i, (a, b) in enumerate(counts)]
    stars = (counts[:, 0] + rng.normal(0, 1, 120)).round(3)
    pd.DataFrame({"text": notes, "stars": stars}).to_csv(tmp_path / "d.csv", index=False)
    hypotheses = pd.DataFrame({"hypothesis": ['mentions "rain"', 'mentions "bread"']})
    prevalence = {}
    for name, cuts in (("placed", [0.3, 0.8]), ("plain", None)):
        given = hypotheses if cuts is None else hypotheses.assign(threshold=cuts)
        given.to_csv(tmp_path / "h.csv", index=False)
        job = AnnotateJob(hypotheses=f"{tmp_path}/h.csv", data=f"{tmp_path}/d.csv")
        annotation.run(job, f"{tmp_path}/out", Graded(), lambda _: None)
        arguments = ["--annotations", f"{tmp_path}/out", "--data", f"{tmp_path}/d.csv", "--target", "stars"]
        assert cli.main(["evaluate", *arguments, *QUICK, "--out", f"{tmp_path}/{name}.csv"]) == 0
        assert ("no threshold was given" in capsys.readouterr().out) == (cuts is None)
        prevalence[name] = pd.read_csv(tmp_path / f"{name}.csv")["feature_prevalence"]
    np.testing.assert_allclose(prevalence["placed"], [(counts[:, 0] >= 1).mean(), (counts[:, 1] >= 3).mean()])
    np.testing.assert_allclose(prevalence["plain"], (counts >= 2).mean(axis=0))
