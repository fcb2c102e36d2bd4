"""`annotate.sample.minutes`: as many rows as fit, with the keywords and a clock that answers advance."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.cluster.session import Session
from hypsae_ray.commands import annotation
from hypsae_ray.data.arrays import hash_ids
from hypsae_ray.errors import PartialResultError
from hypsae_ray.labels import work
from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.read import find_annotations
from hypsae_ray.models.protocols import DEFAULT_LABEL
from hypsae_ray.store.schema import Status
from tests.integration.test_annotate_job import Counting, Place, expected, texts

N, H = 200, 4
RATE = 10.0  # pairs per second
FIRST_ROWS = 8  # 32 pairs of 4 hypotheses are asked before anything is known


@dataclass
class Clocked(Counting):
    """The keywords as slow as an LLM: their clock goes on by a tenth of a second per pair."""

    now: float = 1e9
    rate: float = RATE
    asked: list[int] = field(default_factory=list)  # pairs of each call

    def score(self, texts, questions, options=DEFAULT_LABEL, asked=None):
        before = self.pairs
        scores = super().score(texts, questions, options, asked)
        self.asked.append(self.pairs - before)
        self.now += self.asked[-1] / self.rate
        return scores


@dataclass
class Unsure(Clocked):
    """Says neither yes nor no about one text in five, the first that it is asked about among them."""

    def score(self, texts, questions, options=DEFAULT_LABEL, asked=None):
        scores = super().score(texts, questions, options, asked)
        if len(self.asked) == 1:
            scores.p_yes[:] = np.nan
            scores.status[scores.status == Status.OK] = Status.UNSURE
        return scores


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def run(place: Place, engines: Clocked, monkeypatch: pytest.MonkeyPatch, rows: list[str], **options: Any):
    def clock() -> float:
        return engines.now

    monkeypatch.setattr(work, "time", SimpleNamespace(time=clock, monotonic=clock))
    said: list[str] = []
    done = annotation.run(place.job(rows, H, **options), place.out, engines, said.append)
    return done, said


def labelled(place: Place) -> tuple[np.ndarray, np.ndarray]:
    folder = find_annotations(place.out)
    found = [read_annotation_table(folder, name) for name in folder.names("annotations-", ".parquet")]
    return np.concatenate([i for i, _ in found]), np.concatenate([s.p_yes for _, s in found])


def first_by_hash(n: int) -> list[int]:
    return sorted(np.argsort(hash_ids(np.arange(N)))[:n].tolist())


@pytest.mark.parametrize("rate", [0.05, RATE, 37.0])
def test_rows_that_fit_the_time_are_drawn_by_hash_and_labelled_whole(place: Place, monkeypatch, rate: float):
    rows, engines = texts(N), Clocked(rate=rate)
    done, said = run(place, engines, monkeypatch, rows, sample={"minutes": 0.25})
    ids, p_yes = labelled(place)
    n = len(ids)
    fit = 15 * rate / H
    assert max(1, 0.8 * fit) <= n <= max(FIRST_ROWS, fit), "at most 15 seconds, and most of them"
    assert ids.tolist() == first_by_hash(n)
    np.testing.assert_array_equal(p_yes, expected(rows, H)[ids])
    assert done.outcome.facts["rows_unasked"] == N - n
    assert not done.is_final
    assert any(
        f"{n} of {N} rows have labels" in line and f"{N - n} rows are unasked" in line for line in said
    )


def test_the_same_command_goes_on_and_asks_nothing_twice(place: Place, monkeypatch):
    rows, seen, counts = texts(N), [], []
    for _ in range(10):
        engines = Clocked()
        done, said = run(place, engines, monkeypatch, rows, sample={"minutes": 0.4})
        seen.append(engines.pairs)
        counts.append(len(labelled(place)[0]))
        if done.is_final:
            break
    assert counts == sorted(set(counts))
    assert len(counts) >= 3
    assert counts[-1] == N
    assert sum(seen) == N * H
    assert not any("unasked" in line for line in said)
    np.testing.assert_array_equal(labelled(place)[1], expected(rows, H))
    engines = Clocked()
    assert run(place, engines, monkeypatch, rows, sample={"minutes": 0.4})[0].is_final
    assert engines.pairs == 0


def test_without_a_limit_the_rest_is_labelled(place: Place, monkeypatch):
    rows, first, second = texts(N), Clocked(), Clocked()
    run(place, first, monkeypatch, rows, sample={"minutes": 0.25})
    done, _ = run(place, second, monkeypatch, rows)
    assert first.pairs + second.pairs == N * H
    assert done.is_final
    assert len(labelled(place)[0]) == N


def test_enough_time_labels_all(place: Place, monkeypatch):
    engines = Clocked()
    done, said = run(place, engines, monkeypatch, texts(N), sample={"minutes": 60})
    assert done.is_final
    assert done.outcome.facts["rows_unasked"] == 0
    assert engines.pairs == N * H
    assert any("as many rows as fit 60 min" in line for line in said)
    assert not any("unasked" in line for line in said)


def test_a_limit_holds_within_a_mask(place: Place, monkeypatch):
    rows, mask = texts(N), place.folder / "mask.csv"
    pairs = [(row, h) for row in range(N) for h in (0, 2)]
    pd.DataFrame(pairs, columns=["row_id", "hypothesis_id"]).to_csv(mask, index=False)
    done, _ = run(place, Clocked(), monkeypatch, rows, sample={"minutes": 0.1}, mask=str(mask))
    ids, p_yes = labelled(place)
    assert 8 <= len(ids) < N
    assert ids.tolist() == first_by_hash(len(ids))
    assert done.outcome.facts["rows_unasked"] == N - len(ids)
    np.testing.assert_array_equal(p_yes[:, [0, 2]], expected(rows, H)[ids][:, [0, 2]])
    assert np.isnan(p_yes[:, [1, 3]]).all()


def test_failed_shards_end_the_rounds_with_a_partial_result(place: Place, monkeypatch):
    rows, engines = texts(N), Clocked()
    engines.fails_on = rows[first_by_hash(1)[0]]
    with pytest.raises(PartialResultError, match="1 of"):
        run(place, engines, monkeypatch, rows, sample={"minutes": 0.25})
    engines = Clocked()
    done, _ = run(place, engines, monkeypatch, rows, sample={"minutes": 0.25})
    assert labelled(place)[0].tolist() == first_by_hash(len(labelled(place)[0]))
    assert done.outcome.facts["answers"].keys() == {"ok"}


def test_a_first_round_without_a_label_is_no_verdict_on_the_model(place: Place, monkeypatch):
    done, _ = run(place, Unsure(), monkeypatch, texts(N), sample={"minutes": 0.25}, shard_rows=N)
    assert 0 < done.outcome.facts["answers"]["unsure"] < done.outcome.facts["answers"]["ok"]


def test_a_limit_decides_no_answer(place: Place, monkeypatch):
    job, limited = place.job(texts(9), H), place.job(texts(9), H, sample={"minutes": 1})
    assert job.annotate.content() == limited.annotate.content()


def test_with_a_clock_that_nobody_turns(place: Place):
    with Session() as engines:
        done = annotation.run(place.job(texts(N), H, sample={"minutes": 1e-6}), place.out, engines, print)
        assert labelled(place)[0].tolist() == first_by_hash(FIRST_ROWS), "the first round, and no more"
        assert done.outcome.facts["rows_unasked"] == N - FIRST_ROWS
        done = annotation.run(place.job(texts(N), H, sample={"minutes": 60}), place.out, engines, print)
    assert done.is_final
    np.testing.assert_array_equal(labelled(place)[1], expected(texts(N), H))
