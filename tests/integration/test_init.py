"""`hypsae init` writes a config that `hypsae run` takes as it is."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypsae_ray import cli
from hypsae_ray.config import Chunk, loading
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
    written = loading.load("survey.yaml")
    assert (written.data.text, written.data.target, written.data.decimal) == ("Kommentar", "Größe", ",")
    assert (written.data.on_bad_rows, written.llm.engine) == ("drop", "keywords")
    assert (written.data.chunk.sentences, written.data.chunk.labels) == (1, "whole")
    assert (written.train_sae.n_neurons, written.train_sae.k) == (64, (1, 2, 4))
    quick = ["--embed.replicas", "{min: 0, max: 0}", "--llm.replicas", "{min: 0, max: 0}"]
    quick += [
        "--embed.max_tokens",
        "32",
        "--train_sae.max_epochs",
        "3",
        "--evaluate.n_bootstrap",
        "0",
        "--evaluate.n_permutations",
        "0",
    ]
    assert cli.main(["run", "--config", "survey.yaml", *quick]) == 0
    assert (survey / "runs" / "survey" / "report.html").exists()


def write_shape(shape: str, reviews: pd.DataFrame) -> None:
    """Write 300 reviews as one of the shapes that people have them in."""
    rng, n = np.random.default_rng(0), len(reviews)
    texts, stars = reviews["text"].tolist(), reviews["stars"].to_numpy()
    if shape == "umfrage.csv":
        with Path(shape).open("w", encoding="cp1252", newline="") as file:
            rows = csv.writer(file, delimiter=";")
            rows.writerow(["Nr", "Datum", "Straße", "Kommentar", "Bewertung"])
            for i in range(n):
                rating = f"{stars[i]:.2f}".replace(".", ",")
                rows.writerow([i, f"{i % 28 + 1:02d}.03.2026", f"Hauptstraße {i % 90}", texts[i], rating])
    elif shape == "feedback.jsonl.gz":
        with gzip.open(shape, "wt") as file:
            for i in range(n):
                row = {"id": f"f{i}", "user": {"name": f"u{i % 90}"}, "review": {"body": texts[i]}}
                file.write(json.dumps({**row, "recommended": "yes" if stars[i] > 3 else "no"}) + "\n")
    elif shape == "shops":
        Path(shape).mkdir()
        shop = [f"s{i}" for i in rng.integers(0, 60, n)]
        frame = pd.DataFrame({"review": texts, "shop_id": shop, "rating": stars})
        for i in range(3):
            frame[i::3].to_parquet(f"shops/part-{i}.parquet")
    elif shape == "posts.tsv":
        likes = rng.poisson(np.exp(0.4 * (stars - 2)))
        frame = pd.DataFrame({"post_id": range(9_000, 9_000 + n), "message": texts, "likes": likes})
        frame.assign(created_at="2026-03-01 12:00").to_csv(shape, sep="\t", index=False)
    else:
        sales = [f"{1000 * max(one, 0.1):,.1f}" for one in stars]
        rows = [{"title": text[:9], "description": text} for text in texts]
        Path(shape).write_text(
            json.dumps([{**row, "sales": one} for row, one in zip(rows, sales, strict=True)])
        )


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("umfrage.csv", {"text": "Kommentar", "target": "Bewertung", "decimal": ",", "id": "Nr"}),
        ("feedback.jsonl.gz", {"text": "review.body", "target": "recommended", "group": "user.name"}),
        ("shops", {"text": "review", "target": "rating", "group": "shop_id"}),
        ("posts.tsv", {"text": "message", "target": "likes", "task": "count", "id": "post_id"}),
        ("products.json", {"text": "description", "target": "sales", "group": None}),
    ],
)
def test_files_of_many_shapes_are_read_with_what_is_written(tmp_path, monkeypatch, shape: str, wanted: dict):
    monkeypatch.chdir(tmp_path)
    write_shape(shape, grammar.generate(300, 1, 0).train)
    assert cli.main(["init", shape, "--out", "first.yaml"]) == 0
    written = loading.load("first.yaml")
    assert {name: getattr(written.data, name) for name in wanted} == wanted
    assert written.select.n == 6  # of 90 holdout rows, 15 for each
    assert cli.main(["run", "--config", "first.yaml", "--until", "data"]) == 0


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


@pytest.mark.parametrize(
    ("words", "chunk", "n_neurons"),
    [(20, None, 64), (250, Chunk(sentences=1, labels="whole"), 64), (3000, Chunk(), 256)],
)
def test_long_texts_are_split_into_chunks(tmp_path: Path, words: int, chunk: Chunk | None, n_neurons: int):
    rng = np.random.default_rng(0)
    rows = [
        {"text": " ".join(rng.choice(["rain", "bread", "music"], words)), "stars": i % 5} for i in range(400)
    ]
    pd.DataFrame(rows).to_json(tmp_path / "long.jsonl", orient="records", lines=True)
    assert cli.main(["init", str(tmp_path / "long.jsonl"), "--out", str(tmp_path / "c.yaml")]) == 0
    written = loading.load(str(tmp_path / "c.yaml"))
    assert written.data.chunk == chunk
    assert written.train_sae.n_neurons == n_neurons  # 400 x 0.63 texts, or 22 chunks of each: 5,600
