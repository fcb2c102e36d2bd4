"""`hypsae annotate` in this process against a chat server with bad habits."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypsae_ray import cli
from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status
from tests.integration.openai_server import Fault, Server, serve

BAD = {
    "errorbody": Fault(body='{"error": {"message": "overloaded"}}'),
    "nochoices": Fault(body='{"choices": []}'),
    "refused": Fault.error(400, "bad words"),
    "busy": Fault.error(503, "busy", {"Retry-After": "0"}),
    "html": Fault(body="<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
    "silent": Fault(silent=True),
}

Annotate = Callable[..., int]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as chat:
        yield chat


@pytest.fixture
def annotate(server: Server, tmp_path: Path) -> Annotate:
    """Run the command on texts and hypotheses, with further words on its command line."""

    def run(texts: Sequence[str], hypotheses: Sequence[str], *more: str) -> int:
        pd.DataFrame({"text": texts}).to_json(tmp_path / "data.jsonl", orient="records", lines=True)
        pd.DataFrame({"hypothesis": hypotheses}).to_csv(tmp_path / "h.csv", index=False)
        place = ["--data", f"{tmp_path}/data.jsonl", "--hypotheses", f"{tmp_path}/h.csv"]
        engine = ["--llm.engine", "endpoint", "--llm.endpoint.url", server.url, "--llm.model", "tiny"]
        quick = ["--llm.replicas", "{min: 0, max: 0}", "--llm.endpoint.timeout_s", "2"]
        tries = ["--annotate.tries", "1"]
        if "--llm.endpoint.tries" not in more:
            tries += ["--llm.endpoint.tries", "2"]
        return cli.main(["annotate", *place, "--out", f"{tmp_path}/out", *engine, *quick, *tries, *more])

    return run


def labels(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """P(yes) and status of all rows, in their order."""
    found = tmp_path.glob("out/annotations-*/annotations-00000.parquet")
    last = max(found, key=lambda path: path.stat().st_mtime_ns)
    _, scores = read_annotation_table(Folder.at(last.parent), last.name)
    return scores.p_yes, scores.status


def shards(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("out/answers/*/shard-*"))


def test_one_request_in_a_hundred_answered_badly_costs_its_own_pair(
    server: Server, annotate: Annotate, tmp_path: Path, capsys: pytest.CaptureFixture
):
    texts = [f"{i} wait" for i in range(294)] + [f"{kind} wait" for kind in BAD]
    texts = [texts[i] for i in np.random.default_rng(0).permutation(300)]
    bad = np.array([text.split()[0] in BAD for text in texts])
    server.bad = BAD
    more = ["--annotate.shard_rows", "150"]
    assert annotate(texts, ["mentions a wait", "speaks of soup"], *more) == 0
    p_yes, status = labels(tmp_path)
    assert (status[~bad] == Status.OK).all()
    np.testing.assert_allclose(p_yes[~bad], [[8 / 9, 0.25]] * 294, rtol=1e-6)
    lacks = [Status.FAILED if text.startswith("refused") else Status.PENDING for text in texts]
    assert (status[bad] == np.array(lacks)[bad, None]).all()
    assert len(server.bodies) + len(server.trials) <= 600 * 1.1
    told = capsys.readouterr()
    assert "600 answers" in told.err
    assert "pending: no answer came; the same command asks again" in told.err
    assert "588 ok" in told.out

    server.bad, before = {"refused": BAD["refused"]}, len(server.bodies)
    assert annotate(texts, ["mentions a wait", "speaks of soup"], *more) == 0
    assert len(server.bodies) - before == 10  # what is refused is an answer, and stays
    p_yes, status = labels(tmp_path)
    assert (status == Status.OK).sum() == 598
    before = len(server.bodies)
    assert annotate(texts, ["mentions a wait", "speaks of soup"], *more) == 0
    assert len(server.bodies) == before
    assert "up to date" in capsys.readouterr().err


def test_a_text_with_bad_answers_to_all_its_questions_keeps_nobody_else_waiting(
    server: Server, annotate: Annotate, tmp_path: Path
):
    server.bad = {"nochoices": BAD["nochoices"]}
    texts = ["nochoices wait", *[f"{i} wait" for i in range(9)]]
    questions = [f"mentions word{i} or a wait" for i in range(4)]
    assert annotate(texts, questions, "--llm.endpoint.concurrency", "1") == 0
    assert (labels(tmp_path)[1] == [[Status.PENDING] * 4] + [[Status.OK] * 4] * 9).all()


@pytest.mark.parametrize(
    ("habit", "told"),
    [
        ({"broken": Fault.error(400, "no chat")}, "refuses every request, a harmless one too: 400 no chat"),
        ({"broken": Fault.error(401, "who are you?")}, "refuses the key in $OPENAI_API_KEY"),
        ({"bad": {"wait": Fault.error(400, "not that")}}, "the last pair without an answer: 400 not that"),
        ({"bad": {"wait": Fault(body="{}")}}, "no chat completion"),
        (
            {"refuses": ["chat_template_kwargs"], "thinks_unless_told": True},
            "answers without a yes or no begin with '<think>' (100%)",
        ),
    ],
)  # fmt: skip
def test_what_meets_every_pair_ends_the_job_and_is_no_answer(
    server: Server, annotate: Annotate, tmp_path: Path, capsys: pytest.CaptureFixture, habit: dict, told: str
):
    texts = [f"{i} wait" for i in range(300)]
    usual = {name: getattr(server, name) for name in habit}
    vars(server).update(habit)
    more = ["--annotate.shard_rows", "30", "--llm.endpoint.tries", "1"]
    assert annotate(texts, ["mentions a wait"], *more) == 1
    assert told in capsys.readouterr().err
    assert len(server.bodies) <= 210
    assert shards(tmp_path) == []
    vars(server).update(usual)
    assert annotate(texts, ["mentions a wait"], *more) == 0
    assert (labels(tmp_path)[1] == Status.OK).all()


@pytest.mark.parametrize("n", [1, 5, 500])
def test_answers_that_are_all_unsure_end_the_job_with_what_they_begin_with(
    server: Server, annotate: Annotate, tmp_path: Path, capsys: pytest.CaptureFixture, n: int
):
    assert annotate([f"{i} wait" for i in range(n)], ["blank"]) == 1
    told = capsys.readouterr().err
    first = min(n, 256)  # whole shards of 64
    assert f"none of the first {first} answers has a label: {first} unsure" in told
    assert "answers without a yes or no begin with 'Well' (100%)" in told
    assert "label.thinking: true" in told
    assert "none of these answers is kept" in told
    assert shards(tmp_path) == []


def test_a_few_unsure_answers_more_are_no_reason_to_end(server: Server, annotate: Annotate, tmp_path: Path):
    texts = [f"{i} wait" for i in range(20)]
    assert annotate(texts, ["mentions a wait"]) == 0
    assert annotate(texts, ["mentions a wait", "blank"]) == 0
    assert (labels(tmp_path)[1] == [Status.OK, Status.UNSURE]).all()


def test_a_model_that_thinks_by_default_is_asked_not_to(server: Server, annotate: Annotate, tmp_path: Path):
    server.thinks_unless_told = True
    assert annotate([f"{i} wait" for i in range(20)], ["mentions a wait"]) == 0
    assert (labels(tmp_path)[1] == Status.OK).all()


def test_an_outage_keeps_what_was_answered_and_the_rest_is_asked_by_the_same_command(
    server: Server, annotate: Annotate, tmp_path: Path, capsys: pytest.CaptureFixture
):
    texts = ["last wait" if i == 40 else f"{i} wait" for i in range(61)]
    server.ends_at, words = ("last", Fault.error(402, "no credit left")), ["mentions a wait"]
    assert annotate(texts, words, "--llm.endpoint.concurrency", "4") == 1
    assert "402 no credit left" in capsys.readouterr().err
    answered = sum(len(Folder.at(path.parent).read_table(path.name)) for path in shards(tmp_path))
    assert answered == 61  # one shard, with a mask of what it holds
    server.broken, server.ends_at, before = None, None, len(server.bodies)
    assert annotate(texts, words) == 0
    assert (labels(tmp_path)[1] == Status.OK).all()
    assert 0 < len(server.bodies) - before <= 61 - 37
