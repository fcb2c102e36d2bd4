"""`hypsae explain` on a finished run, with keywords and against a chat server."""

import re
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypsae_ray import cli
from hypsae_ray.commands import explanation
from hypsae_ray.labels.reasons import AGREES, FIRES_NO, SILENT_YES
from tests.integration.openai_server import Fault, Server, serve


@pytest.fixture(scope="module")
def run(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(demo_run, tmp_path_factory.mktemp("explain") / "run"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as chat:
        yield chat


def written(run: Path, hypothesis: int) -> pd.DataFrame:
    return pd.read_csv(run / f"explanations-{hypothesis}.csv", keep_default_na=False)


def test_keywords_say_which_words_they_found(run: Path, demo_folder: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["explain", str(run), "--hypothesis", "1", "--n", "500"]) == 0
    table, sentence = written(run, 1), pd.read_csv(run / "hypotheses.csv")["interpretation"][1]
    texts = pd.read_json(demo_folder / "holdout.jsonl", lines=True)["text"]
    assert len(table) == texts.nunique()
    assert (table["status"] == "ok").all() and (table["hypothesis"] == sentence).all()
    terms = re.findall(r'"([^"]+)"', sentence)
    for row in table.itertuples():
        assert row.quote in row.text
        found = {
            word for term in terms for word in term.split() if re.search(rf"\b{word}\b", row.quote.lower())
        }
        assert bool(found) == bool(row.quote) == (row.label == "yes")
    fires, yes = table["activation"] > 0, table["label"] == "yes"
    kinds = np.select([fires & ~yes, ~fires & yes], [FIRES_NO, SILENT_YES], AGREES)
    assert table["chosen_for"].tolist() == kinds.tolist()
    assert (np.diff((fires != yes).astype(int)) <= 0).all()  # those that disagree are first
    told = capsys.readouterr().out
    assert f"hypothesis 1: {sentence}" in told and str(run / "explanations-1.csv") in told


def test_a_quote_that_is_not_in_the_text_is_asked_for_once_more_and_then_refused(
    run: Path, server: Server, capsys: pytest.CaptureFixture
):
    engine = {"engine": "endpoint", "endpoint.url": server.url, "model": "tiny", "endpoint.concurrency": "1"}
    overrides = {f"llm.{name}": value for name, value in engine.items()}
    audit = explanation.plan(str(run), 2, 3, overrides)
    first, second, _ = (" ".join(text.split()[:5]).upper() for text in audit.pairs["text"])
    answers = [first, "words of no text", second.replace(" ", " and ")]
    again = [f"“{second}”", "other words of no text"]
    server.faults = deque(Fault.says(f"Reason: it says so.\nQuote: {quote}") for quote in answers + again)
    command = ["explain", str(run), "--hypothesis", "2", "--n", "3"]
    command += [word for name, value in overrides.items() for word in (f"--{name}", value)]
    assert cli.main(command) == 0

    table = written(run, 2)
    assert table["row_id"].tolist() == audit.pairs.index.tolist()
    assert table["status"].tolist() == ["ok", "ok", "no_quote"]
    assert table["tries"].tolist() == [1, 2, 2]
    assert table["reason"].tolist() == ["it says so.", "it says so.", ""]
    assert [quote.upper() for quote in table["quote"]] == [first, second, ""]
    assert all(row.quote in row.text for row in table.itertuples())
    assert table["label"].tolist() == audit.pairs["label"].tolist()
    assert ["words of no text" in prompt for prompt in server.prompts] == [False] * 3 + [True, False]
    assert len(server.prompts) == 5
    told = capsys.readouterr()
    assert "2 of 3 labels explained" in told.err
    assert "refused: no quote that stands in the text" in told.out

    assert cli.main(command) == 0
    assert len(server.prompts) == 5  # all answers were kept
    assert written(run, 2).equals(table)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--hypothesis", "8"], "--hypothesis 8: they run from 0 to 7"),
        (["--hypothesis", "-1"], "--hypothesis -1: they run from 0 to 7"),
        (["--hypothesis", "0", "--n", "0"], "--n 0: expected 1 or more"),
        (["--hypothesis", "0", "--select.n", "3"], "only fields of llm can be set here"),
        (["--hypothesis", "0", "--llm.engine", "magic"], "llm.engine"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(
    run: Path, capsys: pytest.CaptureFixture, arguments: list[str], told: str
):
    assert cli.main(["explain", str(run), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not (run / "explanations-0.csv").exists()


def test_there_must_be_a_run_with_labels(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["explain", str(tmp_path / "none"), "--hypothesis", "0"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
