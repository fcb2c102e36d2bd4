"""The stages' own logic, with a scripted model in hand: no Ray."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import binom

from hypsae_ray.config import Interpret, Label, NamingOptions, ScoreFidelity
from hypsae_ray.config.loading import parse
from hypsae_ray.data.rows import text_ids
from hypsae_ray.labels.read import to_labels
from hypsae_ray.models.pool import LocalPool
from hypsae_ray.models.prompts.wording import render_naming
from hypsae_ray.models.protocols import DEFAULT_LABEL, Annotations, Answer, Embedded, NamingPrompt
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.sae.model import SparseAutoencoder
from hypsae_ray.stages import annotate, embed, embed_holdout, interpret, score_fidelity, train_sae, trials
from hypsae_ray.stages.evaluate import repeat_notes
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store.artifacts import Folder, Manifest, Outcome
from hypsae_ray.store.schema import Status
from hypsae_ray.store.stage_tables import read_activations
from hypsae_ray.store.usage import Usage


@dataclass(frozen=True)
class Scripted:
    """Names texts by their first word, and labels a text yes if it holds the last word of the question.

    What it says of texts that start with "odd" cannot be parsed.
    """

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        words = [prompt.positives[0].split()[0] for prompt in prompts]
        said = ["<think>hm" if word == "odd" else f'- "mentions {word}"' for word in words]
        return [Answer(text, Status.OK, Usage(10, 0, 2)) for text in said]

    def score(
        self, texts: Sequence[str], questions: Sequence[str], options=DEFAULT_LABEL, asked=None
    ) -> Annotations:
        yes = np.array([[q.split()[-1] in t for q in questions] for t in texts], dtype=np.float32)
        status = np.array([[Status.TOO_LONG if "long" in t else Status.OK] * len(questions) for t in texts])
        yes[status != Status.OK] = np.nan
        return Annotations(yes, yes * 0, status.astype(np.int8), Usage(len(texts) * len(questions), 0, 0))


KINDS = ("rain", "odd", "bread")
TEXTS = {100 + i: f"{KINDS[i % 3]} number {i}" for i in range(60)}
CORPUS = Corpus(np.array(list(TEXTS)), sp.csc_matrix(np.eye(3, 4)[np.arange(60) % 3]))  # neuron 3 is dead
OPTIONS = Interpret(n_candidates=2, n_examples=8)
POOL = LocalPool(Scripted())
HALF = Label(threshold=0.5)


def untracked(items, _total, _unit):
    return iter(items)


@pytest.fixture
def candidates() -> pd.DataFrame:
    asks = interpret.plan(CORPUS, [2, 1, 0, 3], OPTIONS)
    table, usage = interpret.write_candidates(POOL, asks, TEXTS, OPTIONS, untracked)
    # 3 neurons x 2 candidates, those of one neuron 3 times: a dead neuron costs no call.
    assert usage == Usage(100, 0, 20)
    return table


def test_one_unparsable_answer_costs_only_itself(candidates: pd.DataFrame):
    names = candidates.groupby("neuron_idx")["interpretation"].first()
    assert names[0] == "mentions rain"
    assert names[2] == "mentions bread"
    status = candidates.groupby("neuron_idx")["status"].first()
    assert status.to_dict() == {0: Status.OK, 1: Status.UNPARSABLE, 2: Status.OK, 3: Status.NO_EXAMPLES}
    assert interpret.count_statuses(candidates["status"]) == {"ok": 4, "unparsable": 2, "no_examples": 2}
    assert candidates.groupby("neuron_idx")["tries"].first().to_dict() == {0: 1, 1: 3, 2: 1, 3: 0}


@dataclass(frozen=True)
class Parrot(Scripted):
    """Repeats words of the prompt until it is asked for the n-th time."""

    n: int
    asked: list[NamingPrompt] = field(default_factory=list)

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        self.asked.extend(prompts)
        said = "mentions rain" if len(self.asked) >= self.n else "says one thing that no text of group B says"
        return [Answer(said, Status.OK)] * len(prompts)


@dataclass(frozen=True)
class Copyist(Scripted):
    """Answers with its first text, and from the n-th time on with what it mentions."""

    n: int
    asked: list[NamingPrompt] = field(default_factory=list)

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        self.asked.extend(prompts)
        said = "mentions rain" if len(self.asked) == self.n else f"says {prompts[0].positives[0]}"
        return [Answer(said, Status.OK)]


@pytest.mark.parametrize(("n", "tries", "copied"), [(2, 2, False), (9, 3, True)])
def test_a_copy_of_one_text_is_asked_for_again_and_kept_where_nothing_else_comes(
    n: int, tries: int, copied: bool
):
    texts = {row: f"rain {row} fell on street {row} and {row}" for row in TEXTS}
    options = OPTIONS.model_copy(update={"n_candidates": 1})
    asks = interpret.plan(CORPUS, [0], options)
    table, _ = interpret.write_candidates(LocalPool(Copyist(n)), asks, texts, options, untracked)
    assert table[["status", "tries"]].to_numpy().tolist() == [[Status.OK, tries]]
    assert table["interpretation"].str.startswith("says rain").tolist() == [copied]


@pytest.mark.parametrize(
    ("n", "tries", "status"), [(1, 1, Status.OK), (3, 3, Status.OK), (9, 3, Status.NO_FINDING)]
)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_candidate_that_repeats_the_prompt_is_asked_for_again_otherwise_and_not_for_ever(
    n: int, tries: int, status: Status, temperature: float
):
    model, options = Parrot(n), OPTIONS.model_copy(update={"n_candidates": 1, "temperature": temperature})
    asks = interpret.plan(CORPUS, [0], options)
    table, _ = interpret.write_candidates(LocalPool(model), asks, TEXTS, options, untracked)
    assert table[["status", "tries"]].to_numpy().tolist() == [[status, tries]]
    assert table["interpretation"].tolist() == ["mentions rain" if status == Status.OK else None]
    assert len(model.asked) == len({prompt.sampling.seed for prompt in model.asked}) == tries
    assert len({prompt.positives for prompt in model.asked}) == (1 if temperature else tries), "other orders"
    assert len({frozenset(prompt.positives) for prompt in model.asked}) == 1, "the same texts"
    assert [prompt.broad for prompt in model.asked] == [True, False, True][:tries]


def test_candidates_take_turns_with_the_two_questions():
    asks = interpret.plan(CORPUS, [0, 2], OPTIONS)
    assert [interpret.to_prompt(ask, TEXTS, OPTIONS).broad for ask in asks] == [True, False] * 2
    first, second = (render_naming(NamingPrompt(("a",), ("b",), broad=broad)) for broad in (True, False))
    assert first != second


def test_candidates_see_different_texts_and_fidelity_sees_none_of_them(candidates: pd.DataFrame):
    mine = candidates[candidates["neuron_idx"] == 0]
    first, second = (set(rows) for rows in mine["positives"])
    assert first.isdisjoint(second)
    (trial,) = [t for t in trials.plan(CORPUS, candidates, ScoreFidelity()) if t.neuron_idx == 0]
    shown = {i for column in ("positives", "negatives") for rows in mine[column] for i in rows}
    assert shown.isdisjoint(trial.rows)
    assert [TEXTS[i].startswith("rain") for i in trial.rows] == trial.fires.tolist()


def test_a_neuron_without_a_sentence_stays_in_the_table(candidates: pd.DataFrame):
    planned = trials.plan(CORPUS, candidates, ScoreFidelity())
    scored, _ = trials.score_candidates(POOL, planned, TEXTS, ScoreFidelity(), DEFAULT_LABEL, untracked)
    chosen = pd.DataFrame({"neuron_idx": [2, 1, 0, 3]})
    table = score_fidelity.choose(chosen, candidates, scored)
    assert table["hypothesis_id"].tolist() == [0, 1, 2, 3]
    assert table["neuron_idx"].tolist() == [2, 1, 0, 3]
    assert table["status"].tolist() == ["ok", "unparsable", "ok", "no_examples"]
    assert table["interpretation"].isna().tolist() == [False, True, False, True]
    assert table["f1_fidelity_score"].fillna(-1).tolist() == [1, -1, 1, -1]
    # A neuron fires on a third of the texts, and its sentence is true of these alone.
    (trial,) = [t for t in planned if t.neuron_idx == 0]
    assert trial.prevalence == pytest.approx(1 / 3)
    assert table["precision_corpus"].dropna().tolist() == [1, 1]
    stored = score_fidelity.to_table(scored).to_pandas()
    assert stored[["neuron_idx", "candidate"]].to_numpy().tolist() == [[0, 0], [0, 1], [2, 0], [2, 1]]
    assert stored["choosing_f1"].tolist() == [1, 1, 1, 1]


def test_the_best_of_candidates_that_are_noise_is_reported_without_flattery():
    neurons, rng, options = range(400), np.random.default_rng(0), ScoreFidelity()
    fires = np.array([True] * 20 + [False] * 20)
    scored = []
    for neuron in neurons:
        trial = trials.Trial(neuron, (0, 1, 2), ("a", "b", "c"), tuple(range(40)), fires, 0.1)
        scored += trials.score_trial(trial, rng.integers(0, 2, (40, 3)).astype(float), options, HALF)
    named = [(neuron, n, f"{neuron}{'abc'[n]}", Status.OK) for neuron in neurons for n in range(3)]
    candidates = pd.DataFrame(named, columns=["neuron_idx", "candidate", "interpretation", "status"])
    table = score_fidelity.choose(pd.DataFrame({"neuron_idx": neurons}), candidates, scored)
    assert set(table["n"]) == {20}
    assert set(table["interpretation"].str[-1]) == {"a", "b", "c"}
    yes = np.arange(11)
    chance = np.outer(*[binom.pmf(yes, 10, 0.5)] * 2)  # of hits and of false alarms, by guessing
    expected = (chance * 2 * yes[:, None] / (10 + yes[:, None] + yes)).sum()
    error = table["f1_fidelity_score"].std() / 20
    assert abs(table["f1_fidelity_score"].mean() - expected) < 3 * error
    stored = score_fidelity.to_table(scored).to_pandas()
    flattered = stored.groupby("neuron_idx")["f1"].max().mean()
    assert flattered > expected + 8 * error


def test_what_is_reported_is_of_texts_that_placed_no_threshold():
    fires = np.array([True] * 20 + [False] * 20)
    first = np.arange(40) % 2 == 0  # texts take turns
    p_yes = np.where(first, np.where(fires, 0.3, 0.1), np.where(fires, 0.9, 0.5))
    trial = trials.Trial(0, (0, 1), ("a", "b"), tuple(range(40)), fires, 0.1)
    one, _ = trials.score_trial(trial, p_yes[:, None].repeat(2, axis=1), ScoreFidelity(), Label())
    assert (one.choosing.recall, one.choosing.precision) == (1, 1)
    assert (one.reporting.recall, one.reporting.precision) == (1, 0.5)  # all are above what the first place
    assert (one.whole.recall, one.whole.precision) == (0.5, 0.5)  # and all of the first below the second's
    assert 0.1 < one.threshold < 0.9


def test_too_few_texts_place_no_threshold_and_a_given_one_holds_for_all():
    fires = np.array([True] * 7 + [False] * 7)
    trial = trials.Trial(0, (0, 1), ("a", "b"), tuple(range(14)), fires, 0.1)
    p_yes = np.where(fires[:, None], 0.3, 0.1).repeat(2, axis=1)
    few = trials.score_trial(trial, p_yes, ScoreFidelity(), Label())
    assert [(one.threshold, one.reporting.f1) for one in few] == [(0.5, 0), (0.5, 0)]
    given = trials.score_trial(trial, p_yes, ScoreFidelity(), Label(threshold=0.2))
    assert [(one.threshold, one.reporting.f1) for one in given] == [(0.2, 1), (0.2, 1)]


def test_each_hypothesis_is_labelled_at_the_threshold_of_its_own_sentence():
    fires = np.array([True] * 8 + [False] * 8)
    trial = trials.Trial(0, (0, 1), ("a", "b"), tuple(range(16)), fires, 0.1)
    p_yes = np.column_stack([np.where(fires, 0.3, 0.1), np.where(np.arange(16) % 2, 0.9, 0.6)])
    scored = trials.score_trial(trial, p_yes, ScoreFidelity(), Label())
    named = [(0, 0, "a", Status.OK), (0, 1, "b", Status.OK), (1, 0, None, Status.UNPARSABLE)]
    candidates = pd.DataFrame(named, columns=["neuron_idx", "candidate", "interpretation", "status"])
    table = score_fidelity.choose(pd.DataFrame({"neuron_idx": [0, 1]}), candidates, scored)
    assert table["interpretation"].fillna("").tolist() == ["a", ""]
    first, unnamed = table["threshold"]
    assert 0.1 < first < 0.3
    assert unnamed == 0.5
    labels = to_labels(np.array([[0.3, 0.3], [0.1, 0.6]]), table["threshold"].to_numpy())
    assert labels.tolist() == [[1, 0], [0, 1]]


def test_no_two_hypotheses_have_one_sentence():
    fires = np.array([True] * 8 + [False] * 8)
    right, wrong = np.where(fires, 0.9, 0.1), np.where(np.arange(16) % 3 == 0, 0.9, 0.2)
    named = {0: "ab", 1: "bca", 2: "ba"}  # of each neuron, the best sentence first
    scored, rows = list[trials.Scored](), list[tuple]()
    for neuron, sentences in named.items():
        numbers = tuple(range(len(sentences)))
        trial = trials.Trial(neuron, numbers, tuple(sentences), tuple(range(16)), fires, 0.1)
        p_yes = np.column_stack([right, *[wrong] * (len(sentences) - 1)])
        scored += trials.score_trial(trial, p_yes, ScoreFidelity(), HALF)
        rows += [(neuron, n, sentence, Status.OK) for n, sentence in enumerate(sentences)]
    candidates = pd.DataFrame(rows, columns=["neuron_idx", "candidate", "interpretation", "status"])
    table = score_fidelity.choose(pd.DataFrame({"neuron_idx": [0, 2, 1]}), candidates, scored)
    assert table["interpretation"].fillna("").tolist() == ["a", "b", "c"]
    table = score_fidelity.choose(pd.DataFrame({"neuron_idx": [0, 1, 2]}), candidates, scored)
    assert table["interpretation"].fillna("").tolist() == ["a", "b", ""]
    assert table["status"].tolist() == ["ok", "ok", "repeats"]


def test_a_sentence_that_restates_the_target_is_taken_only_where_there_is_no_other():
    fires = np.array([True] * 8 + [False] * 8)
    trial = trials.Trial(0, (0, 1), ("a", "b"), tuple(range(16)), fires, 0.1)
    other = trials.Trial(1, (0,), ("c",), tuple(range(16)), fires, 0.1)
    right, wrong = np.where(fires, 0.9, 0.1), np.where(np.arange(16) % 3 == 0, 0.9, 0.2)
    scored = trials.score_trial(trial, np.column_stack([right, wrong]), ScoreFidelity(), HALF)
    scored += trials.score_trial(other, right[:, None], ScoreFidelity(), HALF)
    named = [(0, 0, "a", Status.RESTATES), (0, 1, "b", Status.OK), (1, 0, "c", Status.RESTATES)]
    candidates = pd.DataFrame(named, columns=["neuron_idx", "candidate", "interpretation", "status"])
    table = score_fidelity.choose(pd.DataFrame({"neuron_idx": [0, 1]}), candidates, scored)
    assert table["interpretation"].tolist() == ["b", "c"]
    assert table["status"].tolist() == ["ok", "restates"]
    assert table["f1_fidelity_score"].iloc[1] == 1


@dataclass
class Evasive:
    """Names texts by a word that each of them holds, so many times; else it is `Scripted`."""

    left: int
    asked: list[NamingPrompt] = field(default_factory=list)

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        self.asked += prompts
        self.left -= 1
        if self.left < 0:
            return Scripted().generate(prompts)
        return [Answer("mentions number", Status.OK, Usage(10, 0, 2))] * len(prompts)

    def score(
        self, texts: Sequence[str], questions: Sequence[str], options=DEFAULT_LABEL, asked=None
    ) -> Annotations:
        return Scripted().score(texts, questions, options, asked)


def tried(model: Evasive, label: Label) -> tuple[score_fidelity.Tried, pd.DataFrame]:
    """Candidates of neurons 2 and 0 after scoring, and the hypotheses."""
    pool = LocalPool(model)
    asks = interpret.plan(CORPUS, [2, 0], OPTIONS)
    first, _ = interpret.write_candidates(pool, asks, TEXTS, OPTIONS, untracked)
    options = NamingOptions(interpret=OPTIONS, label=label)
    setting = score_fidelity.Setting(
        score_fidelity.Source(CORPUS, lambda _: TEXTS), lambda: pool, lambda: pool, options, untracked
    )
    found = score_fidelity.score_until_informative(first, setting)
    table = score_fidelity.choose(pd.DataFrame({"neuron_idx": [2, 0]}), found.candidates, found.scored)
    return found, table


@pytest.mark.parametrize("label", [Label(), HALF])
def test_neurons_whose_sentences_are_true_of_nearly_every_text_are_asked_about_again(label: Label):
    model = Evasive(left=2)
    found, table = tried(model, label)
    assert table["interpretation"].tolist() == ["mentions bread", "mentions rain"]
    assert table["f1_fidelity_score"].tolist() == [1, 1]
    assert (found.true_of_all, found.asked_again) == (8, 2)
    assert found.candidates["status"].tolist() == [Status.TRUE_OF_ALL] * 8 + [Status.OK] * 4
    assert (
        found.candidates.groupby("neuron_idx")["candidate"].apply(list).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    )
    shown = [set(prompt.positives) for prompt in model.asked]
    assert shown[0] != shown[4]  # texts of its first candidate, and of the first one of the next round
    assert len({prompt.sampling.seed for prompt in model.asked}) == 12


def test_neurons_that_get_no_other_sentence_stay_without_one():
    found, table = tried(Evasive(left=99), Label())
    assert table["interpretation"].isna().all()
    assert table["status"].tolist() == ["true_of_all"] * 2
    assert (found.true_of_all, found.asked_again) == (12, 2)
    assert len(found.scored) == 12
    assert table["f1_fidelity_score"].isna().all()


def test_one_candidate_that_tells_is_enough():
    fires = np.array([True] * 10 + [False] * 10)
    trial = trials.Trial(0, (0, 1), ("a", "b"), tuple(range(20)), fires, 0.1)
    p_yes = np.column_stack([np.full(20, 0.9), np.where(fires, 0.9, 0.6)])
    placed = trials.score_trial(trial, p_yes, ScoreFidelity(), Label())
    assert [one.true_of_all for one in placed] == [True, False]  # all yes at 0.5, and a threshold tells them
    given = trials.score_trial(trial, p_yes, ScoreFidelity(), HALF)
    assert [one.true_of_all for one in given] == [True, True]


def test_candidates_with_the_same_sentence_are_no_choice():
    rng, fires = np.random.default_rng(0), np.array([True] * 20 + [False] * 20)
    trial = trials.Trial(0, (0, 1), ("a", "a"), tuple(range(40)), fires, 0.1)
    said = np.repeat(rng.integers(0, 2, (40, 1)), 2, axis=1).astype(float)
    for one in trials.score_trial(trial, said, ScoreFidelity(), HALF):
        assert one.whole == one.choosing == one.reporting


@pytest.mark.parametrize(
    ("answer", "name", "status"),
    [
        (Answer("mentions a dog\nand", Status.TRUNCATED), "mentions a dog", Status.OK),
        (Answer("mentions a dog and", Status.TRUNCATED), None, Status.TRUNCATED),
        (Answer("<think>so", Status.TRUNCATED), None, Status.TRUNCATED),
        (Answer("<think>so</think>\nmentions a do", Status.TRUNCATED), None, Status.TRUNCATED),
        (Answer("<think>so</think>\nmentions a dog\nand", Status.TRUNCATED), "mentions a dog", Status.OK),
        (Answer(" mentions a dog, while group B menti", Status.TRUNCATED), "mentions a dog", Status.OK),
        (Answer(" mentions a dog. The texts of", Status.TRUNCATED), "mentions a dog", Status.OK),
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
    labels = to_labels(scores.p_yes, 0.5)
    np.testing.assert_array_equal(labels, [[1, np.nan], [np.nan, np.nan]])


def test_equal_sentences_of_two_neurons_stay_two_columns():
    scores = annotate.score_named(Scripted(), ["rain", "bread"], ["mentions rain", "mentions rain"])
    assert scores.p_yes.tolist() == [[1, 1], [0, 0]]


def test_embedding_tables_round_trip():
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    for dtype in ("float32", "float16"):
        table = embed.to_table(np.array([4, 5, 6]), Embedded(vectors, np.array([0, 256, 0])), dtype)
        np.testing.assert_array_equal(embed.to_vectors(table), vectors)
        assert table["cut_at"].to_pylist() == [0, 256, 0]


@dataclass(frozen=True)
class Lengths:
    """Embeds a text as its length, reads three letters of it at the most, and keeps what it was given."""

    seen: list[str]

    def embed(self, texts: Sequence[str]) -> Embedded:
        self.seen.extend(texts)
        cut_at = np.array([3 if len(text) > 3 else 0 for text in texts], dtype=np.int32)
        return Embedded(np.array([[len(text), 1.0] for text in texts], dtype=np.float32), cut_at)


@dataclass(frozen=True)
class OneEmbedder:
    """Engines that hold this embedder and nothing else."""

    model: Lengths

    def embedder(self, _options) -> LocalPool[Lengths]:
        return LocalPool(self.model)


def write_texts(data: Folder, shards: dict[str, list[str]]) -> None:
    """Write the texts of stage `data`, numbered through."""
    row_id = iter(range(100))
    for name, texts in shards.items():
        ids = text_ids(pd.Series(texts))
        rows = {"row_id": [next(row_id) for _ in texts], "text_id": ids, "text": texts}
        data.write_table(f"{name}.parquet", pa.table(rows))


def embedding_work(model: Lengths, out: Folder, inputs: dict[str, Folder], **sections: dict) -> Workspace:
    engines: Any = OneEmbedder(model)
    config = parse({"data": {"train": "a", "holdout": "b", "target": "y"}, **sections}, "c")
    return Workspace(config, inputs, out, out, engines, untracked, print)


def lengths_of(tables: Iterable[pa.Table]) -> dict[int, float]:
    """Return the first dimension of the embeddings by row id."""
    table = pa.concat_tables(tables)
    return dict(zip(table["row_id"].to_pylist(), embed.to_vectors(table)[:, 0].tolist(), strict=True))


def test_equal_texts_are_embedded_once_wherever_they_stand(tmp_path):
    data, out = Folder.at(tmp_path / "data"), Folder.at(tmp_path / "out")
    shards = {"train-00000": ["a", "bb"], "train-00001": ["ccc", "a", "dddd"], "val-00000": ["bb", "a"]}
    write_texts(data, shards)
    model = Lengths([])
    assert embed.run(embedding_work(model, out, {"data": data})).facts["repeats"] == 3
    assert sorted(model.seen) == ["a", "bb", "ccc", "dddd"]
    lengths = lengths_of([*out.tables("train-"), *out.tables("val-")])
    assert lengths == {0: 1, 1: 2, 2: 3, 3: 1, 4: 4, 5: 2, 6: 1}


def test_cut_texts_are_counted_from_what_is_stored_and_told_once(tmp_path, capsys):
    data, out = Folder.at(tmp_path / "data"), Folder.at(tmp_path / "out")
    shards = {"train-00000": ["a", "bbbb"], "train-00001": ["ccc", "bbbb", "dddd"], "val-00000": ["bbbb"]}
    write_texts(data, shards)
    work = embedding_work(Lengths([]), out, {"data": data})
    counted = {"texts": 4, "of": 6, "at": 3, "unit": "tokens"}  # a repeated text as often as it stands there
    assert embed.run(work).facts["cut"] == counted
    assert "embed: 4 of 6 texts (66.7 %) were cut at 3 tokens; " in capsys.readouterr().out
    out.remove("train-00001.parquet")  # as after a crash: only one shard is computed again
    assert embed.run(work).facts["cut"] == counted
    out.remove("val-00000-repeats.parquet")
    assert embed.run(work).facts["cut"] == counted


def test_texts_that_are_read_to_their_end_are_not_spoken_of(tmp_path, capsys):
    data, out = Folder.at(tmp_path / "data"), Folder.at(tmp_path / "out")
    write_texts(data, {"train-00000": ["a", "bb"], "val-00000": ["ccc"]})
    assert embed.run(embedding_work(Lengths([]), out, {"data": data})).facts["cut"]["texts"] == 0
    assert "cut" not in capsys.readouterr().out


@pytest.fixture
def holdout(tmp_path) -> dict[str, Folder]:
    """Texts of a holdout, and an SAE whose one neuron fires with the length of a text."""
    inputs = {"data": Folder.at(tmp_path / "data"), "train_sae": Folder.at(tmp_path / "sae")}
    shards = {"train-00000": ["eeeee"], "holdout-00000": ["a", "bb"], "holdout-00001": ["ccc", "a", "dddd"]}
    write_texts(inputs["data"], shards)
    sae = SparseAutoencoder(dim=2, n_neurons=1, k=1)
    sae.load_state_dict({"encoder": torch.tensor([[1.0, 0.0]])}, strict=False)
    train_sae.save(sae, inputs["train_sae"])
    Manifest("train_sae", "", 0.0, Outcome(1, facts={"k": 1, "n_neurons": 1})).save(inputs["train_sae"])
    return inputs


def test_of_the_holdout_the_rows_that_are_drawn_are_embedded(holdout: dict[str, Folder], tmp_path):
    model, out = Lengths([]), Folder.at(tmp_path / "out")
    work = embedding_work(model, out, holdout, annotate={"sample": {"rows": 4, "proxies": []}})
    outcome = embed_holdout.run(work)
    assert outcome.rows == 4
    found = lengths_of(out.tables("holdout-"))
    every = {1: 1, 2: 2, 3: 3, 4: 1, 5: 4}
    assert len(found) == 4
    assert found.items() < every.items()
    row_ids, fired = read_activations(out, "holdout", 1)
    assert row_ids.tolist() == sorted(found)
    assert fired.toarray().ravel().tolist() == [every[row] for row in row_ids]


def test_only_missing_files_of_the_holdout_are_embedded(holdout: dict[str, Folder], tmp_path):
    model, out = Lengths([]), Folder.at(tmp_path / "out")
    work = embedding_work(model, out, holdout)
    embed_holdout.run(work)
    model.seen.clear()
    for name in ("holdout-00001.parquet", "activations-holdout-00001.parquet"):
        out.remove(name)
    assert embed_holdout.run(work).rows == 5
    assert sorted(model.seen) == ["ccc", "dddd"]
    assert lengths_of(out.tables("holdout-")) == {1: 1, 2: 2, 3: 3, 4: 1, 5: 4}


def test_few_texts_in_many_rows_are_noted():
    few = pd.Series([f"text {i % 7}" for i in range(59)])
    (note,) = repeat_notes(few)
    assert note == "59 rows hold only 7 distinct texts: rows with one text are not independent evidence"
    assert repeat_notes(pd.Series([f"text {i}" for i in range(59)])) == []
