"""Labelling shard by shard: what an actor does with one, and how the driver follows all of them.

An actor reads the texts of a shard, asks the model, and writes the annotations; only a short report comes
back. What was annotated is written even where other pairs of the shard failed; the name of such a file tells
which pairs it holds. After a failure that may pass, what is left is retried when the other shards are done.
"""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hypsae_ray.config import Label
from hypsae_ray.data.words import truncate_words
from hypsae_ray.errors import HypsaeError, ModelError, StageError, TransientError
from hypsae_ray.labels.annotations import to_columns, with_facts
from hypsae_ray.labels.shards import Shard
from hypsae_ray.models.protocols import WORDS_KEPT, Annotations, LanguageModel
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import UNANSWERED, USABLE, Status
from hypsae_ray.store.usage import Usage

FAILURES_IN_A_ROW = 10  # per replica: an outage meets the shards of all of them at once
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """The result of one shard.

    Attributes:
        shard: after a failure, the pairs that are left to retry.
        statuses: how many pairs that were asked have each status, by its name.
        usage: tokens and engine seconds.
        worker: machine and process.
        started, ended: seconds since 1970.
        there: another job had written its file meanwhile.
        failure: why pairs are to be retried; "" if none are.
        error: the kind of failure, a word.
        file: name of what was written; "" for nothing.
        words, reason: see `Annotations`.
    """

    shard: Shard
    statuses: Mapping[str, int] = field(default_factory=dict[str, int])
    usage: Usage = field(default_factory=Usage)
    worker: str = ""
    started: float = 0.0
    ended: float = 0.0
    there: bool = False
    failure: str = ""
    error: str = ""
    file: str = ""
    words: Mapping[str, int] = field(default_factory=dict[str, int])
    reason: str = ""

    @property
    def pairs(self) -> int:
        """Pairs that were asked."""
        return sum(self.statuses.values())

    @property
    def counts(self) -> dict[str, Mapping[str, float]]:
        """Metrics to add up over all shards (see `cluster.engines.Engines.publish`)."""
        usage = self.usage
        return {
            "shards": {"failed" if self.failure else "there" if self.there else "done": 1},
            "answers": self.statuses,
            "tokens": {"prompt": usage.prompt, "cached": usage.cached, "generated": usage.generated},
            "errors": {self.error: 1} if self.error else {},
            "seconds": {"engine": usage.seconds, "shard": self.ended - self.started},
        }


@dataclass(frozen=True)
class LabelShards:
    """The work of an actor: it reads from `texts`, cuts after `max_words`, and writes to `store`."""

    texts: Folder
    store: Folder
    label: Label
    max_words: int

    def __call__(self, model: LanguageModel, shard: Shard) -> Report:
        """Compute and write one shard, unless it is there.

        Raises:
            HypsaeError: no shard can be computed or written.
        """
        if self.store.has(shard.name):
            return Report(shard, there=True)
        _log.info("begins %s", shard.name)
        started = time.time()
        try:
            found, error = self._label(model, shard)
            report = Report(shard) if found is None else self._keep(model, shard, found, started)
        except HypsaeError:
            raise
        except Exception as unexpected:
            _log.exception("fails %s", shard.name)
            kind = type(unexpected).__name__
            return Report(shard, failure=f"{kind}: {unexpected}", error=kind)
        if error is None:
            _log.info("ends %s", shard.name)
            return report
        if not isinstance(error, TransientError):
            error.answered = None  # it is written, and the driver does not need it
            raise error
        left = shard if found is None else shard.only(shard.pairs & (found.status == Status.UNASKED))
        return replace(report, shard=left, failure=str(error), error=type(error).__name__)

    def lost(self, shard: Shard, reason: str) -> Report:
        """Return the report of a shard whose actors died."""
        return Report(shard, failure=reason, error="lost")

    def _label(self, model: LanguageModel, shard: Shard) -> tuple[Annotations | None, ModelError | None]:
        """Return what was annotated, and the error that ended it, if one did."""
        texts = self.texts.read_rows(shard.file.name, shard.start, shard.rows, ["text"])["text"].to_pylist()
        cut = [truncate_words(text, self.max_words) for text in texts]
        try:
            asked = shard.pairs if shard.packed else None
            found, error = model.score(cut, shard.questions, self.label, asked), None
        except ModelError as raised:
            found, error = raised.answered, raised
        if found is not None:
            shortened = np.array([short != text for short, text in zip(cut, texts, strict=True)], dtype=bool)
            found.status[shortened[:, None] & (found.status == Status.OK)] = Status.CUT
        return found, error

    def _keep(self, model: LanguageModel, shard: Shard, found: Annotations, started: float) -> Report:
        """Write what was annotated, as a shard of these pairs alone if it is not all that was asked."""
        worker, ended = f"{socket.gethostname()} {os.getpid()}", time.time()
        report = Report(
            shard, count_statuses(found.status), found.usage, worker, started, ended,
            words=found.words, reason=found.reason,
        )  # fmt: skip
        annotated = ~np.isin(found.status, UNANSWERED)
        if not annotated.any():
            return report
        kept = shard.only(annotated)
        stored = replace(found, status=np.where(annotated, found.status, Status.UNASKED))
        made = {
            "versions": getattr(model, "versions", {}),
            "usage": vars(found.usage),
            "worker": worker,
            "started": started,
            "ended": ended,
        }
        written = self.store.write_table_once(kept.name, with_facts(pa.table(to_columns(stored)), made))
        return replace(report, there=not written, file=kept.name if written else "")


@dataclass
class Tally:
    """The reports of a job, added up.

    Attributes:
        failures_in_a_row: so many shards without any annotation end the job.
        computed: shards that this job finished.
        there: shards that another job had written.
        failed: reports of the shards that are to be retried, by name.
        statuses: how many annotations have each status, by its name.
        words, reason: see `Annotations`; the reason of the last pair that failed.
        files: what was written as long as no annotation has a label.
    """

    failures_in_a_row: int = FAILURES_IN_A_ROW
    usage: Usage = field(default_factory=Usage)
    computed: int = 0
    there: int = 0
    failed: dict[str, Report] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    files: list[str] = field(default_factory=list)
    _spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    _since: float | None = None  # by the clock of this process: those of machines may differ
    _last: float = 0.0
    _in_a_row: int = 0

    def add(self, report: Report) -> None:
        """Count one report.

        Raises:
            StageError: `failures_in_a_row` shards failed.
        """
        self._count(report)
        self._in_a_row = self._in_a_row + 1 if report.failure and not report.pairs else 0
        if not report.failure:
            self.there += report.there
            self.computed += not report.there
            return
        self.failed[report.shard.name] = report
        if self._in_a_row >= self.failures_in_a_row:
            raise StageError(
                f"{self._in_a_row} shards failed in a row, the last one with: {report.failure}\n"
                f"{self.computed} shards are finished and kept; the same command goes on from there"
            )

    def _count(self, report: Report) -> None:
        if report.there or not report.pairs:
            return
        self.statuses.update(report.statuses)
        self.words.update(report.words)
        self.reason = report.reason or self.reason
        self.files = [] if self.usable else [*self.files, report.file]
        self.usage += report.usage
        self._last = time.monotonic()
        began = self._last - (report.ended - report.started)
        self._since = began if self._since is None else min(self._since, began)
        first, last = self._spans.get(report.worker, (report.started, report.ended))
        self._spans[report.worker] = (min(first, report.started), max(last, report.ended))

    @property
    def usable(self) -> int:
        """Annotations with a label."""
        return sum(self.statuses[status.name.lower()] for status in USABLE)

    def is_barren(self, least: int) -> bool:
        """Whether at least so many annotations came and none has a label; `files` holds them then."""
        return not self.usable and self.statuses.total() >= least

    @property
    def why_no_label(self) -> list[str]:
        """What is known about annotations without a label, a line each."""
        lines: list[str] = []
        unsure = sum(self.statuses[status.name.lower()] for status in (Status.UNSURE, Status.UNPARSABLE))
        if unsure and self.words:
            shares = [f"{word!r} ({n / unsure:.0%})" for word, n in self.words.most_common(WORDS_KEPT)]
            lines.append(f"answers without a yes or no begin with {', '.join(shares)}")
        return [*lines, f"the last pair without an answer: {self.reason}"] if self.reason else lines

    @property
    def busy(self) -> float | None:
        """Share of the time, from its first shard to its last, that an engine worked; None if unknown."""
        spans = sum(last - first for first, last in self._spans.values())
        return min(1.0, self.usage.seconds / spans) if spans and self.usage.seconds else None

    @property
    def seconds(self) -> float:
        """Time from the begin of the first shard to the end of the last one."""
        return 0.0 if self._since is None else self._last - self._since

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
            "shards_failed": sorted(self.failed),
            "workers": self.workers,
            "busy_share": busy,
        }

    def retry(self) -> list[Shard]:
        """Return what is left of the failed shards, to be retried; they no longer count as failed."""
        failed, self.failed, self._in_a_row = self.failed, {}, 0
        return [report.shard for report in failed.values()]


def count_statuses(status: np.ndarray) -> dict[str, int]:
    """Return how many annotations have each status, by its name; pairs that were not asked have none.

    >>> count_statuses(np.array([[Status.OK, Status.UNASKED], [Status.OK, Status.CUT]]))
    {'ok': 2, 'cut': 1}
    """
    codes, counts = np.unique(status[status != Status.UNASKED], return_counts=True)
    return {Status(code).name.lower(): n for code, n in zip(codes.tolist(), counts.tolist(), strict=True)}
