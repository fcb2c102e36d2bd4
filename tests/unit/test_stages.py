"""The stages' own logic, with a scripted model in hand: no Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp

from hypsae_ray.artifacts import Folder
from hypsae_ray.boundary import DEFAULT_LABEL, Answer, LocalPool, NamingPrompt, Scores, Usage
from hypsae_ray.config import Interpret, ScoreFidelity
from hypsae_ray.config_file import parse
from hypsae_ray.core.rows import text_ids
from hypsae_ray.schema import Status
from hypsae_ray.stages import annotate, embed, interpret, score_fidelity
from hypsae_ray.stages.corpus import Corpus
from hypsae_ray.stages.workspace import Input, Workspace


@dataclass(frozen=True)
class Scripted:
    """Names texts by their first word, and labels a text yes if it holds the last word of the question.

    What it says of texts that start with "odd" cannot be parsed.
    """

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        words = [prompt.positives[0].split()[0] for prompt in prompts]
        said = ["<think>hm" if word == "odd" else f'- "mentions {word}"' for word in words]
        return [Answer(text, Status.OK, Usage(10, 0, 2)) for text in said]

    def score(self, texts: Sequence[str], questions: Sequence[str], how=DEFAULT_LABEL, asked=None) -> Scores:
        yes = np.array([[q.split()[-1] in t for q in questions] for t in texts], dtype=np.float32)
        status = np.array([[Status.TOO_LONG if "long" in t else Status.OK] * len(questions) for t in texts])
        yes[status != Status.OK] = np.nan
        return Scores(yes, yes * 0, status.astype(np.int8), Usage(len(texts) * len(questions), 0, 0))


KINDS = ("rain", "odd", "bread")
TEXTS = {100 + i: f"{KINDS[i % 3]} number {i}" for i in range(60)}
CORPUS = Corpus(np.array(list(TEXTS)), sp.csc_matrix(np.eye(3, 4)[np.arange(60) % 3]))  # neuron 3 is dead
OPTIONS = Interpret(n_candidates=2, n_examples=8)
POOL = LocalPool(Scripted())


def untracked(items, _total, _unit):
    return iter(items)


@pytest.fixture
def candidates() -> pd.DataFrame:
    asks = interpret.plan(CORPUS, [2, 1, 0, 3], OPTIONS)
    table, usage = interpret.write_candidates(POOL, asks, TEXTS, OPTIONS, untracked)
    assert usage == Usage(60, 0, 12)  # 3 neurons x 2 candidates: a dead neuron costs no call
    return table


def test_one_unparsable_answer_costs_only_itself(candidates: pd.DataFrame):
    names = candidates.groupby("neuron_idx")["interpretation"].first()
    assert names[0] == "mentions rain"
    assert names[2] == "mentions bread"
    status = candidates.groupby("neuron_idx")["status"].first()
    assert status.to_dict() == {0: Status.OK, 1: Status.UNPARSABLE, 2: Status.OK, 3: Status.NO_EXAMPLES}
    assert interpret.count_statuses(candidates["status"]) == {"ok": 4, "unparsable": 2, "no_examples": 2}


def test_candidates_see_different_texts_and_fidelity_sees_none_of_them(candidates: pd.DataFrame):
    mine = candidates[candidates["neuron_idx"] == 0]
    first, second = (set(rows) for rows in mine["positives"])
    assert first.isdisjoint(second)
    (trial,) = [t for t in score_fidelity.plan(CORPUS, candidates, ScoreFidelity()) if t.neuron_idx == 0]
    shown = {i for column in ("positives", "negatives") for rows in mine[column] for i in rows}
    assert shown.isdisjoint(trial.rows)
    assert [TEXTS[i].startswith("rain") for i in trial.rows] == trial.fires.tolist()


def test_a_neuron_without_a_sentence_stays_in_the_table(candidates: pd.DataFrame):
    trials = score_fidelity.plan(CORPUS, candidates, ScoreFidelity())
    scored, _ = score_fidelity.score_candidates(
        POOL, trials, TEXTS, ScoreFidelity(), DEFAULT_LABEL, untracked
    )
    chosen = pd.DataFrame({"neuron_idx": [2, 1, 0, 3]})
    table = score_fidelity.choose(chosen, candidates, scored)
    assert table["hypothesis_id"].tolist() == [0, 1, 2, 3]
    assert table["neuron_idx"].tolist() == [2, 1, 0, 3]
    assert table["status"].tolist() == ["ok", "unparsable", "ok", "no_examples"]
    assert table["interpretation"].isna().tolist() == [False, True, False, True]
    assert table["f1_fidelity_score"].fillna(-1).tolist() == [1, -1, 1, -1]


@pytest.mark.parametrize(
    ("answer", "name", "status"),
    [
        (Answer("mentions a dog\nand", Status.TRUNCATED), "mentions a dog", Status.OK),
        (Answer("mentions a dog and", Status.TRUNCATED), None, Status.TRUNCATED),
        (Answer("<think>so", Status.TRUNCATED), None, Status.TRUNCATED),
        (Answer("<think>so</think>\nmentions a do", Status.TRUNCATED), None, Status.TRUNCATED),
        (Answer("<think>so</think>\nmentions a dog\nand", Status.TRUNCATED), "mentions a dog", Status.OK),
        (Answer("none of the texts matter", Status.OK), "none of the texts matter", Status.OK),
        (Answer("", Status.OK), None, Status.UNPARSABLE),
        (Answer("", Status.TOO_LONG), None, Status.TOO_LONG),
    ],
)
def test_reading_answers(answer: Answer, name: str | None, status: Status):
    assert interpret.read_answer(answer) == (name, status)


def test_unnamed_hypotheses_are_not_asked_and_failed_rows_have_a_status():
    scores = annotate.score_named(Scripted(), ["rain", "a long one"], ["mentions rain", None])
    assert scores.usage.prompt == 2
    assert scores.status.tolist() == [[Status.OK, Status.FAILED], [Status.TOO_LONG, Status.FAILED]]
    assert np.isnan(scores.p_yes).tolist() == [[False, True], [True, True]]
    labels = annotate.to_labels(scores.p_yes, 0.5)
    np.testing.assert_array_equal(labels, [[1, np.nan], [np.nan, np.nan]])


def test_equal_sentences_of_two_neurons_stay_two_columns():
    scores = annotate.score_named(Scripted(), ["rain", "bread"], ["mentions rain", "mentions rain"])
    assert scores.p_yes.tolist() == [[1, 1], [0, 0]]


def test_embedding_tables_round_trip():
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    for dtype in ("float32", "float16"):
        table = embed.to_table(np.array([4, 5, 6]), vectors, dtype)
        np.testing.assert_array_equal(embed.to_vectors(table), vectors)


@dataclass(frozen=True)
class Lengths:
    """Embeds a text as its length, and keeps what it was given."""

    seen: list[str]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.seen.extend(texts)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


@dataclass(frozen=True)
class OneEmbedder:
    """Engines that hold this embedder and nothing else."""

    model: Lengths

    def embedder(self, _options) -> LocalPool[Lengths]:
        return LocalPool(self.model)


def test_equal_texts_are_embedded_once_wherever_they_stand(tmp_path):
    data, out = Folder.at(tmp_path / "data"), Folder.at(tmp_path / "out")
    shards = {"train-00000": ["a", "bb"], "train-00001": ["ccc", "a", "dddd"], "val-00000": ["bb", "a"]}
    row_id = iter(range(100))
    for name, texts in shards.items():
        ids = text_ids(pd.Series(texts))
        rows = {"row_id": [next(row_id) for _ in texts], "text_id": ids, "text": texts}
        data.write_table(f"{name}.parquet", pa.table(rows))
    model = Lengths([])
    tree = {"data": {"train": "a", "holdout": "b", "target": "y"}}
    engines: Any = OneEmbedder(model)
    inputs = {"data": Input(data, {})}
    work = Workspace(parse(tree, "c"), inputs, {}, out, out, engines, untracked, print)
    assert embed.run(work).facts == {"repeats": 3}
    assert sorted(model.seen) == ["a", "bb", "ccc", "dddd"]
    table = pa.concat_tables([*out.tables("train-"), *out.tables("val-")])
    lengths = dict(zip(table["row_id"].to_pylist(), embed.to_vectors(table)[:, 0], strict=True))
    assert lengths == {0: 1, 1: 2, 2: 3, 3: 1, 4: 4, 5: 2, 6: 1}
