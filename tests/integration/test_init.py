"""`hypsae init` writes a config that `hypsae run` takes as it is."""

import csv
from pathlib import Path

import pytest

from hypsae_ray import cli, config_file
from hypsae_ray.demo import grammar


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reviews as a spreadsheet writes them in Germany, one without a text."""
    monkeypatch.chdir(tmp_path)
    reviews = grammar.generate(150, 1, 0).train
    with Path("survey.csv").open("w", encoding="cp1252", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["Nr", "Kommentar", "Größe"])
        for i, (text, stars) in enumerate(zip(reviews["text"], reviews["stars"], strict=True)):
            rows.writerow([i, text if i else "", f"{stars:.1f}".replace(".", ",")])
    return tmp_path


def test_a_written_config_runs_as_it_is(survey: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["init", "survey.csv"]) == 0
    assert "written to survey.yaml" in capsys.readouterr().out
    written = config_file.load("survey.yaml")
    assert (written.data.text, written.data.target, written.data.decimal) == ("Kommentar", "Größe", ",")
    assert (written.data.on_bad_rows, written.llm.engine) == ("drop", "keywords")
    assert tuple(written.train_sae.shape) == (64, 4, (16, 64))
    quick = ["--embed.replicas", "{min: 0, max: 0}", "--llm.replicas", "{min: 0, max: 0}"]
    quick += ["--train_sae.max_epochs", "3", "--evaluate.n_bootstrap", "0", "--evaluate.n_permutations", "0"]
    assert cli.main(["run", "--config", "survey.yaml", *quick]) == 0
    assert (survey / "runs" / "survey" / "report.html").exists()


def test_a_config_that_is_there_is_kept(survey: Path, capsys: pytest.CaptureFixture):
    (survey / "survey.yaml").write_text("mine")
    assert cli.main(["init", "survey.csv"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (survey / "survey.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.csv"], "nothing.csv: no such file"),
        (["survey.csv", "--target", "stars"], "no column 'stars'; it has Nr, Kommentar, Größe"),
        (["survey.csv", "--out", "no/folder.yaml"], "no/folder.yaml: cannot be written"),
    ],
)
def test_what_cannot_be_used_is_one_line(survey: Path, capsys, arguments: list[str], said: str):
    assert cli.main(["init", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(survey.glob("**/*.yaml"))
