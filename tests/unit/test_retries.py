"""Tasks that fail are tried again, what was done is kept, and a run that stopped asks only for the rest."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hypsae_ray.config import Config, Interpret, Label, ScoreFidelity
from hypsae_ray.config.loading import parse
from hypsae_ray.errors import ConfigError, StageError, TransientError
from hypsae_ray.labels.retries import FAILURES_IN_A_ROW, TRIES, KeepingPool, RetryingPool
from hypsae_ray.models.pool import LocalPool
from hypsae_ray.models.protocols import DEFAULT_LABEL, Annotations, Answer, Embedded
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.stages import embed, interpret, trials
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage

TEXTS = {100 + i: f"{('rain', 'odd', 'bread')[i % 3]} number {i}" for i in range(60)}
CORPUS = Corpus(np.array(list(TEXTS)), sp.csc_matrix(np.eye(3)[np.arange(60) % 3]))
NAMING, SCORING = Interpret(n_candidates=2, n_examples=8), ScoreFidelity(n_examples=8)


def untracked(items: Iterable, _total: int, _unit: str):
    return iter(items)


@dataclass
class Counter:
    """A model that fails as often as it is told to, on texts with a word, and counts its calls."""

    fails: int = 0
    on: str = ""
    error: Exception = field(default_factory=lambda: OSError("AWS Error SLOW_DOWN (503)"))
    calls: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    def _may_fail(self, texts: Iterable[str]) -> None:
        self.calls += 1
        if self.fails and any(self.on in text for text in texts):
            self.fails -= 1
            raise self.error

    def embed(self, texts: list[str]) -> Embedded:
        self._may_fail(texts)
        vectors = np.array([[len(text), 1.0] for text in texts], dtype=np.float32)
        return Embedded(vectors, np.zeros(len(texts), np.int32))

    def generate(self, prompts):
        self._may_fail([text for prompt in prompts for text in prompt.positives])
        return [Answer(f"mentions {p.positives[0].split()[0]}", Status.OK, Usage(10, 0, 2)) for p in prompts]

    def score(self, texts, questions, options=DEFAULT_LABEL, asked=None) -> Annotations:
        self._may_fail(texts[:1])
        yes = np.array([[q.split()[-1] in t for q in questions] for t in texts], dtype=np.float32)
        return Annotations(yes, yes * 0, np.zeros(yes.shape, np.int8), Usage(yes.size, 0, 0))


def double(model: Counter, task: int) -> int:
    model._may_fail([str(task)])
    return 2 * task


@pytest.mark.parametrize("error", [OSError("503"), TransientError("the server is busy"), KeyError("x")])
def test_a_task_that_fails_is_tried_again_when_the_others_are_done(error: Exception):
    model, said = Counter(TRIES - 1, on="3", error=error), []
    pool = RetryingPool(LocalPool(model), said.append, lambda task: f"number {task}")
    assert list(pool.map(double, range(5))) == [0, 2, 4, 8, 6]
    assert model.calls == 5 + TRIES - 1
    assert said[0].startswith("1 failed and are tried again, such as number 3: ")


def test_what_fails_each_time_ends_the_stage_after_the_others_are_done():
    model, done = Counter(99, on="3"), []
    pool = RetryingPool(LocalPool(model), name=lambda task: f"number {task}")
    with pytest.raises(StageError, match=r"(?s)1 failed, 4 are done and kept.*number 3: OSError: AWS"):
        done.extend(pool.map(double, range(5)))
    assert model.calls == 4 + TRIES
    lost = RetryingPool(LocalPool(Counter(99, on="3"))).map(double, range(5), lambda task, reason: -task)
    assert list(lost) == [0, 2, 4, 8, -3]


def test_what_can_never_succeed_is_not_tried_again():
    model = Counter(99, error=ConfigError("no such layer"))
    with pytest.raises(ConfigError, match="no such layer"):
        list(RetryingPool(LocalPool(model)).map(double, range(5)))
    assert model.calls == 1
    model = Counter(999)  # nothing works at all
    with pytest.raises(StageError, match=f"{FAILURES_IN_A_ROW} failed, 0 are done"):
        list(RetryingPool(LocalPool(model)).map(double, range(100), lambda task, reason: task))
    assert model.calls == FAILURES_IN_A_ROW
    model, done = Counter(999, on="1"), []  # numbers 10 to 19 and more: it breaks down after a good start
    with pytest.raises(StageError, match=f"{FAILURES_IN_A_ROW + 1} failed, 9 are done and kept"):
        done.extend(RetryingPool(LocalPool(model)).map(double, range(100)))
    assert len(done) == 9
    with pytest.raises(StageError, match="19 failed, 81 are done"):  # as many are in flight on two replicas
        list(RetryingPool(LocalPool(Counter(999, on="1")), replicas=2).map(double, range(100)))


def workspace(tmp_path: Path, model: Counter, config: Config) -> Workspace:
    pool = LocalPool(model)
    engines = SimpleNamespace(embedder=lambda _: pool)
    data = Folder.at(tmp_path / "data")
    for part in range(3):
        ids = np.arange(4) + 4 * part
        table = pd.DataFrame(
            {"row_id": ids, "text_id": [f"{i:02x}" + 30 * "0" for i in ids], "text": ids.astype(str)}
        )
        data.write_bytes(f"train-{part}.parquet", table.to_parquet())
    out = Folder.at(tmp_path / "out")
    return Workspace(config, {"data": data}, out, out, engines, untracked, lambda _: None)  # type: ignore


@pytest.fixture
def config() -> Config:
    return parse({"data": {"train": "a", "holdout": "b", "target": "y"}}, "c")


def test_an_embed_shard_that_storage_refused_is_tried_again(tmp_path: Path, config: Config):
    model = Counter(fails=2, on="5")
    assert embed.run(workspace(tmp_path, model, config)).rows == 12
    assert model.calls == 3 + 2
    assert len(Folder.at(tmp_path / "out").names(suffix=".parquet")) == 3


def test_an_embed_shard_that_fails_each_time_ends_the_stage_and_the_next_run_does_it_alone(
    tmp_path: Path, config: Config
):
    with pytest.raises(StageError, match=r"train-1\.parquet: OSError: AWS Error SLOW_DOWN"):
        embed.run(workspace(tmp_path, Counter(fails=9, on="5", versions={"torch": "2.13"}), config))
    assert Folder.at(tmp_path / "out").names() == ["train-0.parquet", "train-2.parquet"]
    model = Counter(versions={"torch": "2.14"})
    facts = embed.run(workspace(tmp_path, model, config)).facts
    assert model.calls == 1
    assert facts["made_with"] == ["torch 2.13", "torch 2.14"]


def keeping(model: Counter, tmp_path: Path) -> KeepingPool:
    pool = RetryingPool(LocalPool(model))
    return KeepingPool(pool, Folder.at(tmp_path), interpret.dump_answers, interpret.load_answers)


def test_names_that_were_paid_for_are_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interpret, "PROMPTS_PER_TASK", 2)
    asks = interpret.plan(CORPUS, [0, 1, 2], NAMING)
    broken = Counter(fails=9, on="odd", error=ConfigError("the server says 401"))
    with pytest.raises(ConfigError):  # neuron 0 is done, neuron 1 ends the run
        interpret.write_candidates(keeping(broken, tmp_path), asks, TEXTS, NAMING, untracked)
    model = Counter()
    table, usage = interpret.write_candidates(keeping(model, tmp_path), asks, TEXTS, NAMING, untracked)
    assert model.calls == 2
    whole, paid = interpret.write_candidates(LocalPool(Counter()), asks, TEXTS, NAMING, untracked)
    pd.testing.assert_frame_equal(table, whole)
    assert usage == paid == Usage(60, 0, 12)


def test_one_neuron_that_cannot_be_named_has_a_status_and_is_asked_again_by_a_later_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(interpret, "PROMPTS_PER_TASK", 2)
    asks = interpret.plan(CORPUS, [0, 1, 2], NAMING)
    broken = Counter(fails=9, on="odd", error=TransientError("503"))
    table, _ = interpret.write_candidates(keeping(broken, tmp_path), asks, TEXTS, NAMING, untracked)
    assert table["status"].tolist() == [Status.OK] * 2 + [Status.PENDING] * 2 + [Status.OK] * 2
    model = Counter()
    table, _ = interpret.write_candidates(keeping(model, tmp_path), asks, TEXTS, NAMING, untracked)
    assert model.calls == 1
    assert table["interpretation"].tolist()[2:4] == ["mentions odd"] * 2


def test_labels_that_were_paid_for_are_not_asked_again_and_other_sentences_are(tmp_path: Path):
    asks = interpret.plan(CORPUS, [0, 1, 2], NAMING)
    table, _ = interpret.write_candidates(LocalPool(Counter()), asks, TEXTS, NAMING, untracked)
    planned = trials.plan(CORPUS, table, SCORING)

    def score(model: Counter, some: list[trials.Trial], label: Label = DEFAULT_LABEL):
        pool = RetryingPool(LocalPool(model))
        kept = KeepingPool(pool, Folder.at(tmp_path), trials.dump_annotations, trials.load_annotations)
        return trials.score_candidates(kept, some, TEXTS, SCORING, label, untracked)

    broken = Counter(fails=9, on="odd", error=TransientError("503"))
    scored, _ = score(broken, planned)
    assert [np.isnan(one.whole.f1) for one in scored] == [False, False, True, True, False, False]
    model = Counter()
    scored, usage = score(model, planned)
    assert model.calls == 1
    assert [one.whole.f1 for one in scored] == [1.0] * 6
    assert usage.prompt == sum(len(trial.rows) * 2 for trial in planned)
    scored, _ = score(model, planned, Label(threshold=0.3))
    assert {one.threshold for one in scored} == {0.3}
    assert model.calls == 1  # a threshold is applied to answers that are there
    renamed = table.assign(interpretation=table["interpretation"] + " or rain")
    score(model, trials.plan(CORPUS, renamed, SCORING))
    assert model.calls == 1 + 3
