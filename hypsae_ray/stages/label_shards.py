"""Labelling shard by shard: what an actor does with one, and how the driver follows all of them.

An actor reads the texts of a shard, asks the model, and writes the answers; nothing but a short report comes
back. A failure that may pass makes a report too, and its shard is tried again when the others are done.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hypsae_ray.answers import Shard, to_table
from hypsae_ray.artifacts import Folder
from hypsae_ray.boundary import LanguageModel, Scores, Usage
from hypsae_ray.config import Label
from hypsae_ray.core.prompts import truncate_words
from hypsae_ray.errors import HypsaeError, StageError, TransientError
from hypsae_ray.schema import Status

FAILURES_IN_A_ROW = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What became of one shard.

    Attributes:
        shard: which one.
        answers: how many pairs that were asked have each status, by its name; empty if none was.
        usage: tokens and engine seconds.
        worker: machine and process.
        started: when it was begun, in seconds since 1970.
        ended: when it was written.
        there: its file was there already: another job had written it meanwhile.
        failure: why it is not there; "" if it is.
        error: what kind of failure that is, a word; "" if there is none.
    """

    shard: Shard
    answers: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    worker: str = ""
    started: float = 0.0
    ended: float = 0.0
    there: bool = False
    failure: str = ""
    error: str = ""

    @property
    def pairs(self) -> int:
        """Pairs that were asked."""
        return sum(self.answers.values())

    @property
    def counts(self) -> dict[str, Mapping[str, int]]:
        """What there is to add up over all shards, by kind (see `boundary.Engines.publish`)."""
        usage = self.usage
        return {
            "shards": {"failed" if self.failure else "there" if self.there else "done": 1},
            "answers": self.answers,
            "tokens": {"prompt": usage.prompt, "cached": usage.cached, "generated": usage.generated},
            "errors": {self.error: 1} if self.error else {},
        }


@dataclass(frozen=True)
class LabelShards:
    """The work of an actor.

    Attributes:
        texts: folder of the distinct texts.
        answers: folder of this labeller's answers.
        label: how to ask.
        max_words: texts are cut after so many words.
    """

    texts: Folder
    answers: Folder
    label: Label
    max_words: int

    def __call__(self, model: LanguageModel, shard: Shard) -> Report:
        """Compute and write one shard, unless it is there.

        Raises:
            HypsaeError: no shard can be computed or written.
        """
        if self.answers.has(shard.name):
            return Report(shard, there=True)
        _log.info("begins %s", shard.name)
        started = time.time()
        try:
            scores = self._label(model, shard)
            written = self._write(shard, scores, started)
        except TransientError as error:
            return Report(shard, failure=str(error), error=type(error).__name__)
        except HypsaeError:
            raise
        except Exception as error:
            _log.exception("fails %s", shard.name)
            kind = type(error).__name__
            return Report(shard, failure=f"{kind}: {error}", error=kind)
        _log.info("ends %s", shard.name)
        answers = count_answers(scores.status)
        return Report(shard, answers, scores.usage, _worker(), started, time.time(), there=not written)

    def lost(self, shard: Shard, reason: str) -> Report:
        """Return the report of a shard whose actors died."""
        return Report(shard, failure=reason, error="lost")

    def _label(self, model: LanguageModel, shard: Shard) -> Scores:
        texts = self.texts.read_rows(shard.part.name, shard.start, shard.rows, ["text"])["text"].to_pylist()
        questions = self.answers.read_json(f"questions-{shard.questions}.json")
        cut = [truncate_words(text, self.max_words) for text in texts]
        scores = model.score(cut, questions, self.label, shard.pairs(len(questions)))
        shortened = np.array([short != text for short, text in zip(cut, texts, strict=True)], dtype=bool)
        scores.status[shortened[:, None] & (scores.status == Status.OK)] = Status.CUT
        return scores

    def _write(self, shard: Shard, scores: Scores, started: float) -> bool:
        made = {"usage": vars(scores.usage), "worker": _worker(), "started": started, "ended": time.time()}
        return self.answers.write_table_once(shard.name, to_table(scores, made))


@dataclass
class Tally:
    """The reports of a job, added up."""

    usage: Usage = field(default_factory=Usage)
    computed: int = 0
    there: int = 0
    failed: dict[str, Report] = field(default_factory=dict)
    _spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    _in_a_row: int = 0

    def add(self, report: Report) -> None:
        """Count one report.

        Raises:
            StageError: too many shards failed one after the other for another one to be worth a try.
        """
        if report.failure:
            self.failed[report.shard.name] = report
            self._in_a_row += 1
            if self._in_a_row >= FAILURES_IN_A_ROW:
                raise StageError(
                    f"{self._in_a_row} shards failed in a row, the last one with: {report.failure}\n"
                    f"{self.computed} shards are finished and kept; the same command goes on from there"
                )
            return
        self._in_a_row = 0
        self.failed.pop(report.shard.name, None)
        self.there += report.there
        if not report.there:
            self.computed += 1
            self.usage += report.usage
            first, last = self._spans.get(report.worker, (report.started, report.ended))
            self._spans[report.worker] = (min(first, report.started), max(last, report.ended))

    @property
    def busy(self) -> float | None:
        """Share of the time, from its first shard to its last, that an engine worked; None if unknown."""
        spans = sum(last - first for first, last in self._spans.values())
        return min(1.0, self.usage.seconds / spans) if spans and self.usage.seconds else None

    @property
    def workers(self) -> int:
        """Processes that computed shards."""
        return len(self._spans)

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest keeps of it."""
        busy = None if self.busy is None else round(self.busy, 4)
        return {
            "shards_computed": self.computed,
            "shards_by_others": self.there,
            "shards_set_aside": sorted(self.failed),
            "workers": self.workers,
            "busy_share": busy,
        }

    @property
    def last_failure(self) -> str:
        """Why the last shard failed that did."""
        return list(self.failed.values())[-1].failure

    def retry(self) -> list[Shard]:
        """Return the shards that failed, to be tried again."""
        self._in_a_row = 0
        return [report.shard for report in self.failed.values()]


def count_answers(status: np.ndarray) -> dict[str, int]:
    """Return how many answers have each status, by its name; pairs that were not asked have none.

    >>> count_answers(np.array([[Status.OK, Status.UNASKED], [Status.OK, Status.CUT]]))
    {'ok': 2, 'cut': 1}
    """
    codes, counts = np.unique(status[status != Status.UNASKED], return_counts=True)
    return {Status(code).name.lower(): n for code, n in zip(codes.tolist(), counts.tolist(), strict=True)}


def _worker() -> str:
    return f"{socket.gethostname()} {os.getpid()}"
