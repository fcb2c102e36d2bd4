"""`hypsae gold sample` on a finished run, labels filled in, and the run that they correct."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from hypsae_ray import cli
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.report.run_folder import RunFolder

ERRORS = 0.1


@pytest.fixture(scope="module")
def config(demo_tree: dict, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("gold") / "c.yaml"
    file.write_text(yaml.safe_dump(demo_tree))
    return str(file)


@pytest.fixture
def run(demo_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_run, tmp_path / "run"))


def labels_of(run: Path) -> pd.DataFrame:
    """The labels of the run (0 or 1), by row_id and hypothesis."""
    folders = RunFolder.at(str(run)).folders()
    table = folders["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    stored = StoredLabels(folders["annotate"], table["threshold"].to_numpy())
    return pd.DataFrame(np.concatenate(list(stored.blocks())), index=stored.row_ids())


def drawn(run: Path, file: Path, *more: str) -> pd.DataFrame:
    assert cli.main(["gold", "sample", str(run), "--out", str(file), *more]) == 0
    return pd.read_csv(file, keep_default_na=False)


def filled(lines: pd.DataFrame, run: Path, rng: np.random.Generator) -> pd.DataFrame:
    """People say what the run's labels say, but for every tenth."""
    labels = labels_of(run)
    pairs = zip(lines["row_id"], lines["hypothesis_id"], strict=True)
    said = np.array([labels.at[row, hypothesis] for row, hypothesis in pairs])
    wrong = rng.random(len(lines)) < ERRORS
    return lines.assign(label=np.where(wrong, 1 - said, said).astype(int), coder="eva")


def test_labels_of_people_correct_a_run(
    run: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    file = tmp_path / "people.csv"
    lines = drawn(run, file, "--n", "120")
    told = capsys.readouterr().out
    assert f"--out {run} --evaluate.gold {file}" in told
    sentences = pd.read_csv(run / "hypotheses.csv")["interpretation"]
    assert lines.columns.tolist() == [
        "row_id", "hypothesis_id", "probability", "property", "text", "label", "coder",
    ]  # fmt: skip
    assert (lines["property"] == sentences.loc[lines["hypothesis_id"]].to_numpy()).all()
    assert 90 <= lines["row_id"].nunique() <= 150 and (lines["label"] == "").all()
    runs_of_rows = (lines["row_id"].diff() != 0).sum()
    assert runs_of_rows == lines["row_id"].nunique()  # lines of one text lie together
    before = pd.read_csv(run / "evaluation.csv")

    filled(lines, run, np.random.default_rng(0)).to_csv(file, index=False)
    assert cli.main(["run", "--config", config, "--out", str(run), "--evaluate.gold", str(file)]) == 0
    said = capsys.readouterr().out
    n = lines["row_id"].nunique()
    assert f"{n} texts were labelled by people: coefficients corrected" in said
    assert "corrected by labels of people:" in said
    table = pd.read_csv(run / "gold.csv")
    assert (table["n_gold"] == n).all() and (table["n_joint"] == n).all()
    kept = before.set_index("hypothesis_id").loc[table["hypothesis_id"]]
    np.testing.assert_allclose(table["raw_coef"], kept["regression_coef"])
    np.testing.assert_allclose(table["raw_coef_ci_low"], kept["regression_ci_low"])
    np.testing.assert_allclose(table["raw_prevalence"], kept["feature_prevalence"])
    assert np.isfinite(table["corrected_coef"]).all()
    # People disagree with a tenth of the labels, so a rare property is found where they say no.
    assert (table["specificity"] > 0.8).all() and (table["kappa"] < 0.95).all()
    assert "Corrected by labels of people" in (run / "report.html").read_text()
    after = pd.read_csv(run / "evaluation.csv")
    pd.testing.assert_frame_equal(before, after)  # the other tables are as they were

    assert cli.main(["run", "--config", config, "--out", str(run)]) == 0
    assert not (run / "gold.csv").exists() and file.exists()


def test_other_labels_run_the_stage_again_and_the_same_do_not(
    run: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    file = tmp_path / "people.csv"
    lines = filled(drawn(run, file, "--n", "100", "--hypotheses", "0", "2"), run, np.random.default_rng(1))
    assert set(lines["hypothesis_id"]) == {0, 2}
    command = ["run", "--config", config, "--out", str(run), "--evaluate.gold", str(file)]
    lines.to_csv(file, index=False)
    assert cli.main(command) == 0
    first = pd.read_csv(run / "gold.csv")
    assert first["hypothesis_id"].tolist() == [0, 2]
    assert "the model's labels are taken as right" in capsys.readouterr().out
    moved = file.rename(tmp_path / "moved.csv")
    assert cli.main([*command[:-1], str(moved)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    second = filled(lines.assign(coder="max"), run, np.random.default_rng(2)).assign(coder="max")
    pd.concat([lines, second]).to_csv(moved, index=False)
    assert cli.main([*command[:-1], str(moved)]) == 0
    both = pd.read_csv(run / "gold.csv")
    assert first["coder_kappa"].isna().all() and both["coder_kappa"].between(0.2, 0.95).all()
    assert "as many people say yes as say no" in capsys.readouterr().out


def test_a_larger_sample_holds_the_smaller_one(run: Path, tmp_path: Path):
    few, more = (set(drawn(run, tmp_path / f"{n}.csv", "--n", n)["row_id"]) for n in ("40", "80"))
    assert few <= more and len(few) < len(more)
    again = drawn(run, tmp_path / "again.csv", "--n", "40")
    assert set(again["row_id"]) == few
    everything = drawn(run, tmp_path / "all.csv", "--n", "1000")
    assert everything["row_id"].nunique() == 200 and (everything["probability"] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--n", "0"], "--n 0: expected 1 or more"),
        (["--hypotheses", "8"], "--hypotheses 8: they run from 0 to 7"),
        (["--out", "{run}/gold.csv"], "the run writes a table of its own there"),
        (["--out", "{run}/run.log"], "is there already, and may hold labels of people"),
    ],
)
def test_what_cannot_be_drawn(
    run: Path, arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    words = [word.format(run=run) for word in arguments]
    out = [] if "--out" in words else ["--out", str(tmp_path / "none.csv")]
    assert cli.main(["gold", "sample", str(run), *words, *out]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()


def files(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": "perhaps"}, "row 3: column 'label': 'perhaps'; expected 1 or yes"),
        ({"row_id": 10**6}, "row 3: column 'row_id': 1000000; it is none of the 200 rows"),
        ({"hypothesis_id": 8}, "row 3: column 'hypothesis_id': 8; hypotheses of this run are 0 to 7"),
        ({"probability": 0}, "row 3: column 'probability': '0"),
        ({"property": "mentions a whale"}, "row 3: column 'property': 'mentions a whale'; hypothesis"),
    ],
)
def test_bad_labels_end_with_2_and_leave_the_run_as_it_was(
    run: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture, change: dict, says: str
):
    file = tmp_path / "people.csv"
    lines = filled(drawn(run, file, "--n", "30"), run, np.random.default_rng(0)).astype(object)
    for column, value in change.items():
        lines.loc[2, column] = value
    lines.to_csv(file, index=False)
    before = files(run)
    assert cli.main(["run", "--config", config, "--out", str(run), "--evaluate.gold", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}: {says}" in error and error.count(str(file)) == 1
    after = files(run)
    assert [name for name in before if before[name] != after.get(name) and "run.log" not in name] == []


def test_files_that_are_none(run: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    command = ["run", "--config", config, "--out", str(run), "--evaluate.gold"]
    assert cli.main([*command, str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
    drawn(run, tmp_path / "empty.csv", "--n", "30")
    assert cli.main([*command, str(tmp_path / "empty.csv")]) == 2
    assert "no line has a label yet" in capsys.readouterr().err
    (run / "gold.csv").write_text("row_id,hypothesis_id,probability,label\n0,0,1,1\n")
    assert cli.main([*command, str(run / "gold.csv")]) == 2
    assert "the run writes a table of its own there" in capsys.readouterr().err
